"""The one importer of doit: task creators, the runner, and doit's own commands."""
