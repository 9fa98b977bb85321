"""pipeline-config/ as it was at one moment, read into pipelines. Open `config.py` first."""
