"""`popbuild report`, `graph` and `summary`: what stands where, and that nothing in it acts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import markup
import pytest
from markup import Element, svg_of
from provider import Provider, Reply
from workspace import CHECKOUT, Workspace

from popbuild.base.errors import UsageError
from popbuild.base.paths import Root
from popbuild.jobs.lookup import Job
from popbuild.model.letter import seal
from popbuild.web.pages import text_budget, view
from popbuild.web.pages.html import age, html_of
from popbuild.web.pages.html import panels as panels_of
from popbuild.web.pages.panels import JobView
from popbuild.web.pages.view import job_view

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 3}, "points": {"type": "array"}},
    "required": ["title"],
}
GOOD = '{"title": "Batteries", "points": [1, {"deep": null}]}'
BAD = '{"title": "B"}'
PANELS = "problems graph tasks stale timeline artifacts diff calls origin logs".split()


def report(workspace: Workspace, *names: str, **options: Any) -> Element:
    """The report on jobs, printed; nothing is called or changed by it."""
    assert workspace.provider is not None
    calls, before = len(workspace.provider.requests), workspace.tree()
    printed = workspace.popbuild("report", *names, "-o", "-", **options)
    assert printed.code == 0, printed.err
    assert workspace.tree() == before
    assert len(workspace.provider.requests) == calls
    page = markup.parse(printed.out)
    assert markup.acts(page) == []
    ids = [each.attributes["id"] for each in page.all() if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    return page


def panel(page: Element, name: str, job: str = "first") -> Element:
    return page.one("section", id=f"job:{job}:{name}")


def panels(page: Element, job: str = "first") -> list[str]:
    sections = page.one("article", id=f"job:{job}").all("section")
    return [each.attributes["id"].rpartition(":")[2] for each in sections]


def run(workspace: Workspace, code: int = 0, *args: str) -> None:
    result = workspace.popbuild("run", *args)
    assert result.code == code, result.out + result.err


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """`first` is complete, its analysis after a refinement; `second` was rejected. Many tests look
    at it, and none changes it."""
    with Provider() as provider, Workspace(tmp_path_factory.mktemp("refined"), provider) as root:
        workspace_with_a_refinement(root, provider)
        yield root


def workspace_with_a_refinement(workspace: Workspace, provider: Provider) -> None:
    workspace.seed("first", {"topic": "grid batteries", "tone": "plain"})
    workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
    workspace.pipeline(["research", "analysis"])
    workspace.task("analysis", schema=SCHEMA)
    provider.script(["# Research\n\nIt is *good*.", BAD, Reply(GOOD, prompt_tokens=1200)])
    run(workspace, 0, "first")
    workspace.seed("second", {"topic": "tidal power"})
    provider.script(["Research.", BAD, BAD, BAD])
    run(workspace, 1, "second")


def test_the_table_comes_first(refined: Workspace) -> None:
    """Each job with state, time, tokens, cost and its first problem, and a link to its part."""
    page = report(refined)
    table = next(page.all("table"))
    rows = [
        [cell.text for cell in row.inside if isinstance(cell, Element)] for row in table.all("tr")
    ]
    assert rows[0] == ["Job", "State", "Time", "Tokens", "Cost", "Problem"]
    first, second = rows[1:]
    assert first[:2] == ["first", "complete"]
    assert re.fullmatch(r"\d+\.\d s", first[2])
    assert re.fullmatch(r"1,\d{3}", first[3])
    assert first[4].startswith("$0.00")
    assert first[5] == ""
    assert second[:2] == ["second", "rejected, stale: analysis"]
    assert second[5] == "/title: too short: 1 characters, at least 3"
    assert [each.attributes["href"] for each in table.all("a")] == ["#job:first", "#job:second"]
    rejection = json.loads((refined.job("second", "rejected") / "rejection.json").read_bytes())
    newest = max(rejection["rejectedAt"], refined.status("second", "rejected")["finishedAt"])
    assert f"as of {newest[:19].replace('T', ' ')}, all times in UTC" in page.text


def test_a_complete_job(refined: Workspace) -> None:
    """Graph, tasks, timeline, artifacts, calls and origin, each under its heading; no panel that
    has nothing to say."""
    page = report(refined, "first")
    assert panels(page) == ["graph", "tasks", "timeline", "artifacts", "calls", "origin"]
    for section in page.one("article", id="job:first").all("section"):
        heading = section.one(id=section.attributes["aria-labelledby"])
        assert heading.tag == "h3"
    graph = panel(page, "graph")
    assert [each.attributes["href"] for each in graph.all("a")] == [
        "#job:first:task-research",
        "#job:first:task-analysis",
    ]
    assert next(each.text for each in graph.all("text")) == "research"
    row = panel(page, "tasks").one("tr", id="job:first:task-analysis")
    cells = [each.text for each in row.inside if isinstance(each, Element)]
    assert (cells[0], cells[1], cells[5], cells[6], cells[7]) == (
        "analysis",
        "done",
        "1",
        "1",
        "research",
    )
    timeline = panel(page, "timeline")
    assert next(each.text for each in timeline.all("g", class_="refinement")).endswith("↻1")
    stages = [[td.text for td in tr.all("td")] for tr in timeline.all("tr")]
    assert ["analysis", "validateStructure", "", "failed"] in [row[:4] for row in stages]
    origin = panel(page, "origin").text
    assert "prompt.md" in origin
    assert "/data/topic grid batteries" in origin


def test_artifacts_as_a_tree_and_as_markdown(refined: Workspace) -> None:
    """JSON as nested details with its keys; what a task answered in text, as Markdown."""
    artifacts = panel(report(refined, "first"), "artifacts")
    seed, research, analysis = artifacts.all("article")
    assert next(seed.all("h4")).text.startswith("seed.json")
    assert "topic: grid batteries" in seed.text
    (document,) = research.all("div", class_="document")
    assert document.one("h5").text == "Research"
    assert document.one("em").text == "good"
    tree = analysis.one("ul", class_="tree")
    assert [each.text for each in tree.all("span", class_="key")] == [
        "points:",
        "0:",
        "1:",
        "deep:",
        "title:",
    ]
    assert len(list(tree.all("details"))) == 3
    assert [each.text for each in tree.all("code")] == ["1", "null"]


def test_prompts_and_answers_side_by_side(refined: Workspace) -> None:
    """Of each try the prompt, the answer, and the problems that made it refine; each call with its
    tokens."""
    calls = panel(report(refined, "first"), "calls")
    research, analysis = calls.all("details")
    assert "open" not in research.attributes
    assert "open" in analysis.attributes
    assert [each.text for each in analysis.all("h5")] == ["First try", "Refinement 1"]
    first, second = analysis.all("div", class_="beside")
    left, right = (each for each in first.inside if isinstance(each, Element))
    assert left.one("span", class_="role").text == "user"
    assert left.one("pre").raw == "Analysis of: # Research\n\nIt is *good*."
    assert right.one("pre").raw == BAD
    left, right = (each for each in second.inside if isinstance(each, Element))
    assert [each.text for each in left.all("span", class_="role")] == ["user", "assistant", "user"]
    assert right.one("pre").raw == GOOD
    (no,) = analysis.all("div", class_="notice")
    assert "validateStructure failed" in no.text
    assert [each.text for each in no.all("li")] == ["/title too short: 1 characters, at least 3"]
    rows = [[td.text for td in tr.all("td")] for tr in analysis.one("table").all("tr")][1:]
    assert [row[0] for row in rows] == ["inference", "inference"]
    assert rows[1][4] == "1,200"


def test_a_rejected_job(refined: Workspace) -> None:
    """What the gate said stands first: task, stage, each problem with its place, the answer's file;
    the task is marked in graph and table."""
    page = report(refined, "second")
    assert panels(page, "second") == [
        "problems",
        "graph",
        "tasks",
        "timeline",
        "artifacts",
        "calls",
        "origin",
    ]
    problems = panel(page, "problems", "second")
    assert "analysis did not pass validateStructure after 2 refinements:" in problems.text
    assert [each.text for each in problems.all("code")] == ["/title"]
    assert "files/logs/analysis-answer-2.txt" in problems.text
    graph = panel(page, "graph", "second")
    assert [each.text for each in graph.all("text", class_="note")][1].startswith("✗ rejected")
    tries = [each.text for each in panel(page, "calls", "second").all("h5")]
    assert tries == ["First try", "Refinement 1", "Refinement 2"]
    signs = [
        each.tag
        for each in panel(page, "calls", "second").all()
        if each.tag == "h5" or each.attributes.get("class") == "notice bad"
    ]
    assert signs == ["h5", "div"] * 3


def test_what_is_stale_and_what_changed(workspace: Workspace, provider: Provider) -> None:
    """After a rebuild what it changed, before and after; after an edit why a task is stale, with
    the difference."""
    workspace.task("analysis", schema=SCHEMA)
    provider.script(["Research.", GOOD])
    run(workspace, 0, "first")
    workspace.task("analysis", prompt="Otherwise: {{ artifacts.research.content }}\n")
    provider.script([GOOD.replace("Batteries", "Accumulators")])
    run(workspace, 0, "first")
    page = report(workspace, "first")
    diff = panel(page, "diff")
    assert "research kept, analysis rebuilt" in diff.text
    assert [each.text for each in diff.all("pre")] == ["Batteries", "Accumulators"]
    assert "/title" in diff.text
    assert "stale" not in panels(page)
    workspace.task("analysis", prompt="Once more: {{ artifacts.research.content }}\n")
    page = report(workspace, "first")
    stale = panel(page, "stale")
    assert stale.one("h4").text == "analysis stale"
    assert "file:tasks/analysis/prompt.md changed" in stale.text
    assert stale.one("del").text.startswith("-Otherwise:")
    assert stale.one("ins").text.startswith("+Once more:")
    state = next(page.all("table")).one("span", class_="state")
    assert "stale" in state.attributes["class"]
    graph = panel(page, "graph")
    assert [each.text for each in graph.all("text", class_="note")][1].startswith("~ stale")


def test_a_job_that_failed_and_one_that_is_new(workspace: Workspace, provider: Provider) -> None:
    """The error stands at its task; a job that was never built has its graph and its seed."""
    workspace.task("analysis", stages="def parsing(context):\n    raise ValueError('no such')\n")
    run(workspace, 2)
    page = report(workspace)
    tasks = panel(page, "tasks")
    assert "ValueError: no such" in tasks.one("pre").text
    assert "error" in tasks.one("tr", id="job:first:task-analysis").text
    workspace.seed("second", {"topic": "wind"})
    page = report(workspace, "second")
    assert panels(page, "second") == ["graph", "tasks", "artifacts"]


def test_a_running_job(workspace: Workspace, provider: Provider) -> None:
    """What is under way says so, and what is above it is there already."""
    provider.hold(after=1)
    with workspace.start("popbuild", "run", "first") as running:
        provider.wait_for(2)
        result = workspace.popbuild("report", "-o", "-")
        assert result.code == 0, result.err
        page = markup.parse(result.out)
        assert [each.text for each in panel(page, "graph").all("text", class_="note")][1] == (
            "▸ running"
        )
        assert "research done" in panel(page, "tasks").text
        assert "analysis running" in panel(page, "tasks").text
        provider.release()
        assert running.wait().code == 0


def test_a_human_gate(
    workspace: Workspace, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked stands first, and its task waits; then who said what, and of a rejection that a
    person said no."""
    workspace.task("research", task_yaml={"gate": {"message": "Is <b>this</b> fit to print?"}})
    run(workspace, 4)
    page = report(workspace)
    assert panels(page)[0] == "questions"
    for name, value in provider.environment().items():
        monkeypatch.setenv(name, value)
    _, found = job_view(Root(workspace.root), "first")
    assert 'id="questions"' in panels_of(found)
    assert 'id="questions"' not in panels_of(found, questions=False)  # of who asks by itself
    assert "research: Is <b>this</b> fit to print? about" in panel(page, "questions").text
    row = panel(page, "tasks").one("tr", id="job:first:task-research").text
    assert row.startswith("research waiting")
    assert "? waiting" in panel(page, "graph").text
    said = workspace.popbuild("approve", "first", "--by", "Ada", "--note", "No typos.")
    assert said.code == 0
    run(workspace)
    page = report(workspace)
    assert "questions" not in panels(page)
    for name in ("tasks", "origin"):
        assert "approved by Ada, " in panel(page, name).text
    provider.answer = lambda _: Reply("Another.")
    assert workspace.popbuild("run", "fresh=research").code == 4
    assert workspace.popbuild("reject", "first", "--by", "Ada", "--note", "Too long.").code == 0
    problems = panel(report(workspace), "problems")
    assert "a person rejected what research made: Too long." in problems.text
    assert "`a person rejected what research made`" in workspace.popbuild("summary").out


def test_jobs_that_cannot_be_read(workspace: Workspace, provider: Provider) -> None:
    """A bad seed, a bad name, a link, damaged and foreign files: each is told, none stops the
    report or the summary."""
    run(workspace)
    workspace.write("seeds/torn.json", '{"name": "torn", "data": ')
    workspace.seed("con", {"topic": "a device"})
    workspace.job("first").joinpath("linked").symlink_to("/etc/passwd")
    page = report(workspace)
    assert "not valid JSON" in panel(page, "problems", "torn").text
    table = next(page.all("table")).text
    for what in ("bad name", "bad link", "bad seed"):
        assert what in table
    assert "pipeline-data/complete/first/linked" in table
    assert "not valid JSON" in table
    marks = [each.attributes["class"] for each in next(page.all("table")).all("span")]
    assert sorted(marks) == ["state says broken"] * 3
    torn = page.one("article", id="job:torn").text
    assert "seeds/torn.json" in torn
    assert '{"name": "torn", "data":' in panel(page, "artifacts", "torn").text
    named = panel(page, "problems", "con").text
    assert "its name cannot be a job's" in named
    assert "seeds/con.json" in named
    summary = workspace.popbuild("summary")
    assert summary.code == 0
    assert "not valid JSON" in summary.out
    workspace.job("first").joinpath("linked").unlink()
    status = workspace.status("first")
    status["tasks"]["analysis"] |= {"usage": {"cost": "much"}, "executionTime": [1], "error": 7}
    workspace.write("pipeline-data/complete/first/tasks-status.json", status)
    logs = workspace.job("first") / "tasks/analysis/execution-logs.json"
    logs.write_text('[1, {"stage": []}, {"timestamp": "x", "level": "", "message": "m"}]')
    (workspace.job("first") / "files/logs/analysis-prompt-0.json").write_text("[1, {}]")
    letter = {**workspace.letter("first", "analysis"), "calls": [{}, 7], "configuration": [1]}
    workspace.write("pipeline-data/complete/first/tasks/analysis/letter.json", seal(letter))
    page = report(workspace, "first")
    assert "[not a text]" in panel(page, "calls").text
    assert "origin cannot be shown: " in page.text
    logs.write_text('{"a": ')
    (workspace.job("first") / "tasks/analysis/letter.json").write_text("[]")
    (workspace.job("first") / "files/artifacts/analysis-output.json").unlink()
    (workspace.job("first") / "files/logs/analysis-answer-0.txt").unlink()
    page = report(workspace, "first")
    assert "no answer was kept" in panel(page, "calls").text


HOSTILE = (
    "</pre></style></script><script>alert(1)</script>",
    "<svg onload=alert(1)><img src=x onerror=alert(1)>",
    "[x](javascript:alert(1)) ![y](https://evil.example/p.png) <javascript:alert(1)>",
    "{{ 7 * 7 }} {% raw %} | `x` @all\n## head",
    "\u202egnikcah \u2066x",
    "\"' onmouseover=alert(1) style=color:red x='",
)
EVIL = "\n\n".join(HOSTILE)


def test_nothing_foreign_acts(workspace: Workspace, provider: Provider) -> None:
    """Hostile text in every place that a seed, a model or code has: it is shown, and no more."""
    code = (
        "def validate_quality(context):\n"
        "    evil = context.seed['data']['evil']\n"
        "    context.log.warning('%s', evil)\n"
        "    context.files.write_log('own.log', evil)\n"
        "    context.files.write_artifact('own.md', evil)\n"
        "    context.files.write_artifact('own.txt', evil + chr(0))\n"
        "    context.files.write_artifact('own.json', {evil: [evil]})\n"
        "    return [{'message': evil, 'pointer': '/' + evil}] * (context.cycle < 2)\n"
    )
    workspace.write("seeds/first.json", {"name": EVIL[:150], "data": {"evil": EVIL, EVIL: EVIL}})
    workspace.task("research", prompt="{{ seed.data.evil }}", stages=code, task_yaml={"label": "l"})
    workspace.task("research", task_yaml="{}")
    workspace.task("analysis", prompt="{{ artifacts.research.content }}")
    provider.answer = lambda _: Reply(EVIL)
    run(workspace)
    workspace.write("seeds/second.json", {"name": "x", "data": EVIL})
    page = report(workspace)  # which asks `acts`
    text = page.raw
    for each in HOSTILE[:2]:
        assert text.count(each) > 10
    assert "{{ 7 * 7 }}" in text
    assert "\u202e" not in text
    assert "\\u202egnikcah" in text
    assert "\\x00" in panel(page, "artifacts").text
    assert "https://evil.example/p.png" in panel(page, "artifacts").text
    workspace.task("research", task_yaml={"gate": {"refinements": 0}})
    run(workspace, 1, "first")
    report(workspace, "first")
    summary = workspace.popbuild("summary")
    assert summary.code == 0
    assert_is_code(summary.out)


def assert_is_code(text: str) -> None:
    """Nothing of the hostile text stands outside of a code span or a fenced block."""
    text = re.sub(r"^(`{3,})\w*\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert not re.search(r"[<>\[\]@{}\u202e]", text), text


MARKDOWN = {
    "[a](https://x.example/?a=1&b=2)": '<a href="https://x.example/?a=1&amp;b=2"',
    "[a](mailto:a@b.example)": 'href="mailto:a@b.example"',
    "[a](javascript:alert(1))": "[a](javascript:alert(1))",
    "[a](JaVaScRiPt&#58;alert(1))": "[a](",
    "[a](data:text/html,x)": "[a](data:",
    "[a](//evil.example)": "[a](//evil.example)",
    "[a](file:///etc/passwd)": "[a](file:",
    "<javascript:alert(1)>": "&lt;javascript:alert(1)&gt;",
    "![alt <b>](https://x.example/p.png)": "[image: alt &lt;b&gt;] (https://x.example/p.png)",
    "<b>x</b>": "&lt;b&gt;x&lt;/b&gt;",
    "<!-- x -->": "&lt;!-- x --&gt;",
    "```js onload\nx\n```": '<code class="language-js">',
    "a\u202eb\x00": "a\\u202eb\\x00",
    "# One\n\n####### seven\n\n###### Six": "<h3>One</h3>",
}


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown_does_nothing(text: str) -> None:
    """Links lead to the web or to a mailbox, images are named, HTML is text."""
    html = str(html_of(text, 3))
    assert MARKDOWN[text] in html
    page = markup.parse(html)
    assert markup.acts(page) == []
    assert all(each.attributes["rel"] == "noreferrer noopener" for each in page.all("a"))
    assert not list(page.all("h1")) + list(page.all("h2"))


def test_a_table_of_markdown_has_no_style() -> None:
    """How a column is aligned is a class: a page may forbid style attributes."""
    page = markup.parse(str(html_of("|a|b|\n|:-|-:|\n|1|2|", 2)))
    assert markup.acts(page) == []
    assert [each.attributes.get("class") for each in page.all("td")] == [None, "number"]


def test_a_page_is_bounded(workspace: Workspace, provider: Provider) -> None:
    """5 MB of text, 20,000 values, dozens of files: the page says what is left out and where it
    is."""
    code = (
        "def integration(context):\n"
        "    context.files.write_artifact('long.txt', 'word ' * 1_000_000)\n"
        "    context.files.write_artifact('many.json', [{'n': n} for n in range(10_000)])\n"
        "    for n in range(45):\n"
        "        context.files.write_artifact(f'more-{n}.txt', 'text ' * 6_000)\n"
    )
    workspace.task("research", stages=code)
    provider.answer = lambda _: Reply("long " * 20_000)
    run(workspace)
    page = report(workspace)
    artifacts = panel(page, "artifacts")
    assert len(page.raw) < 750_000
    assert "9 artifacts more; the whole is in pipeline-data/complete/first" in artifacts.text
    long, many = (
        next(each for each in artifacts.all("article") if name in each.one("h4").text)
        for name in ("long.txt", "many.json")
    )
    assert len(long.one("pre").raw) == text_budget.MAX_TEXT
    assert "4,934,464 characters more; the whole is in" in long.text
    assert "files/artifacts/long.txt" in long.text
    assert len(list(many.all("span", class_="key"))) <= 2_000
    assert "shortened; the whole is in pipeline-data/complete/first" in many.text
    assert "more items" in many.text
    answer = panel(page, "calls")
    assert "files/logs/research-answer-0.txt" in answer.text


def test_keys_are_masked(workspace: Workspace, provider: Provider) -> None:
    """A key that was put into a job's files by hand is in no report, also where the text is
    cut in its middle; nor in a summary or a graph."""
    run(workspace)
    key = "Canary-0123456789-of-a-key"
    environment = {"OTHER_API_KEY": key, "OPENAI_API_KEY": "sk-proj-abcdefghijklmnop"}
    places = workspace.job("first") / "files"
    (places / "artifacts/research-output.json").write_text(json.dumps({"content": key, key: key}))
    (places / "logs/analysis-answer-0.txt").write_text("x" * (16 * 1024 - 12) + key)
    (places / "logs/research-prompt-0.json").write_text(json.dumps([{"role": key, "content": key}]))
    status = workspace.status("first")
    status["tasks"]["analysis"]["error"] = f"refused: {key}"
    workspace.write("pipeline-data/complete/first/tasks-status.json", status)
    for command in ("report -o -", "summary", "graph first", "graph first --format dot"):
        result = workspace.popbuild(*command.split(), env=environment)
        assert result.code == 0, result.err
        assert "Canary" not in result.out + result.err
    assert "[OTHER_API_KEY]" in report(workspace, env=environment).text


def test_the_file(refined: Workspace, tmp_path: Path) -> None:
    """`-o` writes the file whole and names it, each time the same; a place that cannot be is
    refused before anything is written."""
    file = tmp_path / "report.html"
    results = [refined.popbuild("report", "-o", str(file), *more) for more in ([], ["--json"])]
    assert (results[0].code, results[0].out) == (0, f"{file}\n")
    assert json.loads(results[1].out) == {"path": str(file)}
    text = file.read_text()
    printed = json.loads(refined.popbuild("report", "-o", "-", "--json").out)
    assert printed == {"path": None, "text": text}
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert "url(" not in text
    assert "@import" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    for wrong in ([], ["-o", "no/such/report.html"], ["-o", "."], ["third", "-o", "-"]):
        assert refined.popbuild("report", *wrong).code == 3


def test_a_graph_of_no_format_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    """No file gets another format than its name says; a format that is named has the word."""
    for name in ("x.png", "x.svg.bak"):
        refused = workspace.popbuild("graph", "-o", str(tmp_path / name))
        assert refused.code == 3, refused
        assert "no format has this ending" in refused.err
        assert ".svg, .mmd, .dot, .gv" in refused.err
        assert not (tmp_path / name).exists()
    for name, more in (("x.SVG", []), ("x", []), ("x.png", ["--format", "svg"])):
        assert workspace.popbuild("graph", "-o", str(tmp_path / name), *more).code == 0
        assert (tmp_path / name).read_text().startswith("<svg")


def test_a_graph_of_a_job_and_of_a_pipeline(refined: Workspace, tmp_path: Path) -> None:
    """In each format, printed or in a file whose ending says which; an SVG stands alone."""
    svg = refined.popbuild("graph", "second").out
    tree = svg_of(svg)
    assert "✗ rejected" in "".join(tree.itertext())
    assert "prefers-color-scheme: dark" in svg
    plain = svg_of(refined.popbuild("graph").out)
    texts = ["".join(e.itertext()) for e in plain.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["research", "analysis"]
    file = tmp_path / "g.dot"
    assert refined.popbuild("graph", "first", "-o", str(file)).out == f"{file}\n"
    assert file.read_text().startswith("digraph")
    assert refined.popbuild("graph", "-o", str(file), "--format", "mermaid").code == 0
    assert file.read_text().startswith("graph TD")
    for wrong in (
        ["third"],
        ["first", "--pipeline", "letters"],
        ["--pipeline", "letters"],
        ["--format", "png"],
    ):
        assert refined.popbuild("graph", *wrong).code == 3


def test_the_summary(refined: Workspace, tmp_path: Path) -> None:
    """A table, the problems of the rejected job, its graph; added to a file, once a call."""
    printed = refined.popbuild("summary").out
    lines = printed.splitlines()
    assert lines[0] == "## popbuild: 2 jobs, 1 with problems"
    assert lines[2:4] == ["| job | state | cost | tokens | time |", "|---|---|---:|---:|---:|"]
    assert re.fullmatch(r"\| `first` \| `complete` \| \$0\.\d+ \| 1,\d{3} \| \d\.\d s \|", lines[4])
    assert lines[5].startswith("| `second` | `rejected, stale: analysis` |")
    at = lines.index("### `second`")
    assert lines[at + 2 : at + 5] == [
        "`analysis did not pass validateStructure`:",
        "",
        "- `/title: too short: 1 characters, at least 3`",
    ]
    assert '  t1["analysis<br/>#10007; rejected' in printed
    file = tmp_path / "page.md"
    file.write_text("# Before\n")
    for _ in range(2):
        assert refined.popbuild("summary", "-o", str(file)).code == 0
    assert file.read_text() == "# Before\n" + printed * 2
    only = refined.popbuild("summary", "first").out
    assert only.startswith("## popbuild: 1 job\n")
    assert "```mermaid\ngraph TD" in only
    assert refined.popbuild("summary", "-o", "no/such.md").code == 3


def test_many_jobs(workspace: Workspace, provider: Provider) -> None:
    """A summary fits the page of a CI run, a report has the panels of some: what is not complete
    comes first, and what is left out is said."""
    run(workspace, 0, "first")
    workspace.write("seeds/torn.json", "{")
    for number in range(199):
        workspace.seed(f"next-{number:03}", {"topic": "wind"})
    lines = workspace.popbuild("summary").out.splitlines()
    assert lines[0] == "## popbuild: 201 jobs, 1 with problems"
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == 200
    assert rows[0].startswith("| `torn` |")
    assert not any("first" in row for row in rows)
    assert "And 1 more, none of them worse." in lines
    page = report(workspace)
    assert len(list(next(page.all("table")).all("tr"))) == 202
    assert len(list(page.all("article", class_="job"))) == 50
    assert "Details of 50 jobs follow" in page.text
    assert "job:first" not in [each.attributes.get("id") for each in page.all("article")]


def test_a_root_without_jobs(workspace: Workspace) -> None:
    """An empty table, and no panel."""
    (workspace.root / "seeds/first.json").unlink()
    assert list(report(workspace).all("article")) == []
    assert workspace.popbuild("summary").out.startswith("## popbuild: 0 jobs\n")


def test_the_panels_of_a_page_about_one_job(refined: Workspace) -> None:
    """Without a prefix, and one level higher: what a server includes into a page of its own."""
    page = markup.parse(str(panels_of(job_view(Root(refined.root), "second")[1])))
    sections = list(page.all("section"))
    assert [each.attributes["id"] for each in sections][:3] == ["problems", "graph", "tasks"]
    assert [next(each.all("h2")).text for each in sections][:3] == ["Problems", "Graph", "Tasks"]
    assert next(page.one("section", id="graph").all("a")).attributes["href"] == "#task-research"
    assert markup.acts(page) == []
    with pytest.raises(UsageError, match="no such job"):
        job_view(Root(refined.root), "third")


def test_a_job_that_moves_while_it_is_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at again: a promotion in between leaves no page of half a job."""
    run(workspace)
    real, moved = view.view_of, []

    def moving(root: Root, job: Job) -> JobView:
        if not moved:
            moved.append(workspace.job("first").rename(workspace.job("first", "current")))
        return real(root, job)

    monkeypatch.setattr(view, "view_of", moving)
    _, found = job_view(Root(workspace.root), "first")
    assert found.path == "pipeline-data/current/first"
    assert found.calls


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (3_599, "59 min ago"),
        (7_200, "2 h ago"),
        (86_400, "1 day ago"),
        (200 * 86_400, "200 days ago"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    """How long ago, in the largest unit that fits; nothing of what is no time."""
    assert age("2026-01-02T00:00:00.000Z", 1_767_312_000 + seconds) == text
    assert age("soon", 0) == ""
    assert age(None, 0) == ""


TEMPLATES = sorted((CHECKOUT / "popbuild/web/pages/templates").rglob("*.html"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_trusts_or_styles(path: Path) -> None:
    """Templates mark nothing as safe, and no script or style is written into one: a page may forbid
    them. A script is a file, and in a panel there is none at all."""
    text = path.read_text()
    assert not re.search(r"\|\s*safe\b|autoescape|\sstyle=|\son\w+=", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)" if path.name == "site.html" else "<script", text)
