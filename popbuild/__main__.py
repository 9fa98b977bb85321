"""`python -m popbuild`, which is `popbuild`."""

from popbuild.cli.main import entry

if __name__ == "__main__":
    entry()
