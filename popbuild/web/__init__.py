"""The server: pages and an API over what the command line can do. The one importer of starlette."""
