"""`popbuild completion`."""

from typing import Any

from popbuild.base.arguments import parser_of
from popbuild.cli.options import Given, argument, command, print_result

_SHELLS = ("bash", "zsh", "fish")
# Shells expand these words again: a file may have any name, a job that can be built only these.
_LIST = "popbuild list -q 2>/dev/null | grep -xE '[A-Za-z0-9_-]+'"
_JOBS: dict[str, Any] = {
    "bash": "_popbuild_jobs",
    "zsh": "_popbuild_jobs",
    "fish": f"({_LIST})",
    "preamble": {
        "bash": f'_popbuild_jobs() {{ compgen -W "$({_LIST})" -- "$1"; }}',
        "zsh": f'_popbuild_jobs() {{ compadd -- ${{(f)"$({_LIST})"}}; }}',
    },
}


@command(
    "print a script that completes words in a shell",
    argument("shell", "SHELL", choices=_SHELLS, help="bash, zsh or fish"),
    of_variants=False,
)
def _completion(given: Given) -> int:
    """Print a script that completes commands, options, files and the IDs of jobs. For bash:
    eval "$(popbuild completion bash)" in ~/.bashrc. For zsh: popbuild completion zsh
    >~/.zfunc/_popbuild, with ~/.zfunc in fpath before compinit. For fish: popbuild completion fish
    >~/.config/fish/completions/popbuild.fish."""
    import shtab

    from popbuild.cli.main import whole_command

    completed = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIR, "JOB": _JOBS}
    script = shtab.complete(parser_of(whole_command(), "popbuild", completed), given.shell)
    return print_result(given.json, lambda: {"script": script}, lambda: [script])
