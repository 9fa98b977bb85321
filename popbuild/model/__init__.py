"""What stands on disk, as frozen data: the configuration, letters, status, and schemas.

Imports base. Open `pipeline.py` first, then `config/config.py`, which reads a root's
pipeline-config/; `schema/` judges documents.
"""
