"""Pages about jobs, as HTML: what the server shows and what a report holds."""
