"""Pages and the HTTP API of `popbuild serve`.

Imports the rooms above, and `popbuild.api`. Open `routes.py` first, the table of the API.
"""
