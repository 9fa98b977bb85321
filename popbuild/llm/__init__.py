"""Calls to models: requests and answers, the store, the ledger, retries, the local model."""
