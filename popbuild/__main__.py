"""`python -m popbuild`, which is `popbuild`."""

from popbuild.cli import entry

if __name__ == "__main__":
    entry()
