"""`tasks/index.js` as the registry: a plain map is read, and nothing of it is run."""

from __future__ import annotations

import pytest
from foreign import EXAMPLES, example
from provider import Provider
from workspace import MODEL, Workspace

from popbuild.model.config.javascript_map import plain_map, task_folder

PLAIN = {
    "export default { research: './research/index.js' };": {"research": "./research/index.js"},
    "module.exports = {\n  'a-b': \"./x\",\n  c: `./y.js`,\n}\n": {"a-b": "./x", "c": "./y.js"},
    "// one\n/* two { */ export default {a: './a', /* no: */ $b: './b' // end\n};": {
        "a": "./a",
        "$b": "./b",
    },
    "'use strict';\nmodule.exports = {};": {},
    "\ufeffexport default {'it\\'s': './a'}": {"it's": "./a"},
    "export default {a: './one', a: './two'}": {"a": "./two"},
}
OTHER = (
    "",
    "export default",
    "export default {",
    "export default { research }",
    "import research from './research/index.js';\nexport default { research };",
    "export default { research: require('./research') };",
    "export default { research: () => './research' };",
    "export default { ...others, research: './research' };",
    "export default { research: { path: './research' } };",
    "export default { [name]: './research' };",
    "export default { research: `./${name}` };",
    "export default { a: './a' './b' };",
    "export default { a: './a',, b: './b' };",
    "export default { a: './a' b: './b' };",
    "export default { a: './a };",
    "export default { a: './a' }; start();",
    "export default { a: '\\x41' };",
    "export default /* {}",
    "const tasks = { a: './a' };\nexport default tasks;",
    "{ a: './a' }",
)


@pytest.mark.parametrize(("text", "names"), PLAIN.items(), ids=range(len(PLAIN)))
def test_a_plain_map_is_read(text: str, names: dict[str, str]) -> None:
    assert plain_map(text.removeprefix("\ufeff")) == names


@pytest.mark.parametrize("text", OTHER)
def test_all_else_is_no_plain_map(text: str) -> None:
    assert plain_map(text) is None


def test_a_large_registry_is_read_at_once() -> None:
    """Nothing in it makes reading slower than its length."""
    entries = "".join(f"  t{n}: './t{n}/index.js', /* {'*' * 50} */\n" for n in range(5_000))
    assert len(plain_map(f"export default {{\n{entries}}};") or {}) == 5_000
    assert plain_map("export default {" + "/*" * 100_000) is None
    assert plain_map("export default {'" + "\\'" * 100_000) is None


@pytest.mark.parametrize(
    ("module", "folder"),
    [
        ("./research/index.js", "./research"),
        ("research/index.mjs", "./research"),
        ("./research.js", "./research"),
        ("./research", "./research"),
        ("./a/b/main.ts", "./a/b"),
        ("../shared/index.js", "./../shared"),
        ("/etc/index.js", "/etc"),
    ],
)
def test_a_module_stands_for_its_folder(module: str, folder: str) -> None:
    assert task_folder(module) == folder


def test_tasks_of_ours_behind_a_registry_in_javascript_are_built(
    workspace: Workspace, provider: Provider
) -> None:
    """The document's registry, letter for letter, with our files in the folders that it names; the
    second run calls nothing. A registry of ours beside it takes its place."""
    document = example("pipeline-names")
    for settings in document["taskConfig"].values():
        settings["model"] = MODEL
    (workspace.root / "pipeline-config/tasks/index.yaml").unlink()
    text = (EXAMPLES / "index.js").read_text()
    workspace.write("pipeline-config/tasks/index.js", text)
    workspace.write("pipeline-config/pipeline.json", document)
    for name in document["tasks"]:
        workspace.task(name, prompt=f"{name} of {{{{ seed.data.topic }}}}\n")
        workspace.write(f"pipeline-config/tasks/{name}/index.js", "export default 1;\n")
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
        assert len(provider.requests) == 4
    workspace.write("pipeline-config/tasks/index.yaml", "research: ./research\n")
    result = workspace.popbuild("run")
    assert result.code == 3
    assert "registry  pipeline-config/tasks/index.yaml" in result.err


REFUSED = {
    "no plain map": (
        "export default { research: require('./research') };",
        "write tasks/index.yaml",
    ),
    "a key in it": ("export default { a: './sk-" + "a1B2" * 12 + "' };", "a key stands in"),
    "outside": ("export default { research: '../../x/index.js' };", "outside pipeline-config/"),
    "not in it": ("export default { analysis: './analysis/index.js' };", "not in the registry"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_a_registry_is_told(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """Nothing is built, and the error says what to write."""
    text, said = REFUSED[kind]
    (workspace.root / "pipeline-config/tasks/index.yaml").unlink()
    workspace.write("pipeline-config/tasks/index.js", text)
    result = workspace.popbuild("run")
    assert result.code == 3
    assert said in result.err
    assert provider.requests == []
    listed = workspace.popbuild("list")
    assert listed.code == 0
    assert "first" in listed.out
