"""`popbuild init`."""

from pathlib import Path

from popbuild.cli.options import Given, argument, command, print_result


@command(
    "make a root with an example",
    argument("folder", "DIR", "?", default=".", help="the new root; here if absent"),
    of_variants=False,
)
def _init(given: Given) -> int:
    """Make a root: seeds/, pipeline-config/ with the demo's pipeline, pipeline-data/,
    a dodo.py for doit, and a .gitignore. It builds at once, on the embedded model."""
    from popbuild.build import new_root

    folder = Path(given.root or ".") / given.folder
    written = new_root.init(folder)
    here = given.folder == "."
    lines = [f"wrote {name if here else f'{folder}/{name}'}" for name in written]
    lines.append(f"next: {'' if here else f'cd {folder} && '}doit run job=market-analysis")
    return print_result(
        given.json, lambda: {"root": str(folder), "written": written}, lambda: lines
    )
