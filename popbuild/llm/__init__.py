"""One answer: from the store, or bought once.

Imports base and model. Open `calls.py` first: the store, the ledger, admission, then the client.
"""
