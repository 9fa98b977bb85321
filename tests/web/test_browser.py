"""The pages in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Tab, chromium, needs_chromium
from provider import Provider, Reply, default_answer
from served import serve
from workspace import Workspace

from popbuild.build.human_gate import default_name

pytestmark = [needs_chromium, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests: each has a context of its own, as in another window without history."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def tab(workspace: Workspace, browser: Any) -> Iterator[Tab]:
    with serve(workspace) as served:
        tab = Tab(browser, served)
        yield tab
        tab.context.close()


def test_a_seed_goes_to_complete(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """A seed is submitted by the page, and goes to complete before the eyes of who looks."""
    page = tab.open("/submit")
    page.get_by_label("name", exact=True).fill("Grid batteries")
    page.get_by_label("data", exact=True).fill('{"topic": "batteries"')
    page.get_by_role("button", name="Submit").click()
    assert "Expected" in page.locator("[data-problem='/data']").inner_text()
    assert page.get_by_label("data", exact=True).get_attribute("aria-invalid") == "true"
    tab.is_accessible()
    page.get_by_label("data", exact=True).fill('{"topic": "batteries", "topic": "wind"}')
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("alert").get_by_text("topic").first.wait_for()
    page.get_by_label("data", exact=True).fill('{"topic": "batteries", "tone": "plain"}')
    name = page.get_by_label("Job ID; empty for a new one")
    name.fill("no such name!")
    page.set_viewport_size({"width": 390, "height": 640})
    page.get_by_role("button", name="Submit").click()
    told = page.locator("[data-problem='job']")
    told.get_by_text("not a valid name").wait_for()
    box = told.bounding_box()
    assert box is not None
    assert 0 <= box["y"] <= 600
    assert page.evaluate("document.activeElement.id") == "seed-id"
    assert "--id" not in page.get_by_role("alert").inner_text()
    name.fill("batteries")
    page.get_by_label("Build it now").check()
    provider.hold(after=1)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/batteries")
    page.locator("#main .state.running").first.wait_for()
    page.get_by_text("1 of 2 done").wait_for()
    assert workspace.states("batteries") == ["current"]
    provider.release()
    page.locator("#main .state.complete").first.wait_for()
    assert workspace.states("batteries") == ["complete"]
    page.get_by_role("heading", name="research-output.json").first.wait_for()
    tab.is_accessible()
    tab.check()
    assert len(provider.requests) == 2


def test_files_go_with_a_seed(workspace: Workspace, tab: Tab) -> None:
    """Files that are chosen wait beside the seed; one that is refused is told of."""
    page = tab.open("/submit")
    page.get_by_label("name", exact=True).fill("Third quarter")
    page.get_by_label("data", exact=True).fill('{"topic": "x", "tone": "y"}')
    page.get_by_label("Job ID; empty for a new one").fill("sent")
    chosen = page.get_by_label("files (optional)")
    chosen.set_input_files([{"name": "q3.md", "mimeType": "", "buffer": b"a\0b"}])
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("alert").get_by_text("q3.md: not a text").wait_for()
    files = {"Q3 report.md": b"# Report", "site.png": b"\x89PNG\r\n\x1a\n"}
    chosen.set_input_files(
        [{"name": name, "mimeType": "", "buffer": data} for name, data in files.items()]
    )
    tab.is_accessible()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/sent")
    seed = workspace.read("pipeline-data/pending/sent-seed.json")
    assert seed["files"] == {"Q3-report": "inputs/Q3-report.md", "site": "inputs/site.png"}
    waiting = workspace.root / "pipeline-data/pending/sent-inputs"
    assert (waiting / "Q3-report.md").read_bytes() == b"# Report"
    assert (waiting / "site.png").read_bytes() == files["site.png"]


def test_a_file_is_dropped(workspace: Workspace, tab: Tab) -> None:
    """A seed's file that is dropped on the page is sent as it is; its problems are told."""
    page = tab.open("/submit")
    drop = """(text) => {
        const data = new DataTransfer();
        data.items.add(new File([text], "dropped.json", {type: "application/json"}));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    }"""
    page.evaluate(drop, '{"name": "", "data": {}}')
    page.wait_for_function("document.querySelector('#seed-text').value !== ''")
    assert page.get_by_label("Job ID; empty for a new one").input_value() == "dropped"
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("the request is not").or_(page.get_by_text("not a valid seed")).wait_for()
    # They are about the text, not about the fields, which are empty.
    assert page.locator("[data-problem='/name']").inner_text() == ""
    assert page.locator("[data-problem='text']").inner_text().startswith("/name: ")
    assert page.locator("#seed-text").get_attribute("aria-invalid") == "true"
    assert "/name: " in page.get_by_role("alert").inner_text()
    tab.is_accessible()
    page.evaluate(drop, '{"name": "Dropped", "data": {"topic": "x", "tone": "y"}, "more": [1]}')
    page.wait_for_function("document.querySelector('#seed-text').value.includes('more')")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/dropped")
    assert workspace.read("pipeline-data/pending/dropped-seed.json")["more"] == [1]


def test_a_rejected_job_says_why(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """What failed and why stands in the table, and at the job with every try; retry builds on."""
    schema = {"properties": {"content": {"minLength": 9}}, "required": ["content"]}
    workspace.task("research", schema=schema)
    provider.script([json.dumps({"content": f"no {number}"}) for number in range(3)])
    assert workspace.popbuild("run", "first").code == 1
    page = tab.open("/")
    row = page.get_by_role("row").filter(has_text="first")
    row.locator(".state.rejected").wait_for()
    assert "research: " in row.inner_text()
    tab.is_accessible()
    row.get_by_role("link", name="first").click()
    assert page.locator("#problems").inner_text().count("/content") >= 1
    with page.expect_download() as downloading:
        page.locator("#problems").get_by_role("link", name="research-answer-2.txt").click()
    assert downloading.value.path().read_text() == json.dumps({"content": "no 2"})
    tab.is_accessible()
    provider.script(['{"content": "yes, long enough"}'])
    page.get_by_role("button", name="Retry with another sample").click()
    page.locator("#main .state.complete").first.wait_for()
    tab.check()
    assert len(provider.requests) == 5


def test_an_edit_is_planned(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """An edit shows as stale by itself; the plan says what a build would do, and builds it."""
    assert workspace.popbuild("run", "first").code == 0
    page = tab.open("/jobs/first")
    page.locator("#main .state.complete").first.wait_for()
    workspace.task("analysis", prompt="Another analysis of: {{ artifacts.research.content }}\n")
    page.locator("#main .state.stale").first.wait_for()
    tab.is_accessible()
    page.get_by_role("link", name="Plan a build").click()
    row = page.get_by_role("row").filter(has_text="analysis")
    assert "1 to 3 calls, 0 stored" in row.inner_text()
    assert page.get_by_role("row").filter(has_text="research").count() == 0
    assert len(provider.requests) == 2
    tab.is_accessible()
    page.get_by_label("empty for no limit").fill("0.5")
    page.get_by_role("button", name="Build").click()
    page.wait_for_url("**/jobs/first")
    page.locator("#main .state.complete").first.wait_for()
    assert len(provider.requests) == 3
    assert "--budget 0.5" in tab.open("/builds").locator("code").first.inner_text()
    tab.check()


def test_a_gate_is_approved(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """A job that waits for a person asks its question on its page; a yes with a note builds on, and
    is recorded; a no rejects the job with the note as the reason."""
    gate = {"gate": {"message": "Is this fit to print?"}}
    workspace.task("research", task_yaml=gate)
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    assert workspace.popbuild("run").code == 4
    page = tab.open("/")
    page.locator("td .state.waiting").nth(1).wait_for()
    tab.is_accessible()
    page.get_by_role("link", name="first").click()
    page.get_by_role("heading", name="Is this fit to print?").wait_for()
    tab.is_accessible()
    page.get_by_label("Note").fill("Well said.")
    assert page.get_by_label("Your name", exact=True).input_value() == default_name()
    page.get_by_label("Your name", exact=True).fill("Ada")
    page.get_by_role("button", name="Approve and continue").focus()
    page.keyboard.press("Enter")
    page.locator("#main .state.complete").first.wait_for()
    # The button is gone: who works with the keyboard goes on from the heading.
    assert page.evaluate("document.activeElement.localName") == "h1"
    decision = workspace.read("pipeline-data/complete/first/tasks/research/decision.json")
    assert (decision["decision"], decision["by"]) == ("approved", "Ada")
    assert decision["note"] == "Well said."
    page = tab.open("/jobs/second")
    page.get_by_label("Note").fill("Too short.")
    page.get_by_role("button", name="Reject").click()
    page.locator("#main .state.rejected").first.wait_for()
    assert page.get_by_text("Too short.").count() >= 1
    tab.check()
    assert len(provider.requests) == 3


def test_a_page_that_is_behind(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """It hears of nothing any more, and its answer would be about another text: refused,
    with what to do, and the job waits on."""
    workspace.task("research", task_yaml={"gate": {"message": "Is this fit to print?"}})
    assert workspace.popbuild("run").code == 4
    tab.context.route("**/api/v1/events*", lambda route: route.abort())
    page = tab.open("/jobs/first")
    page.get_by_role("heading", name="Is this fit to print?").wait_for()
    workspace.seed("first", {"topic": "wind", "tone": "plain"})
    assert workspace.popbuild("run").code == 4
    page.get_by_label("Note").fill("Fine.")
    page.get_by_role("button", name="Approve and continue").click()
    page.get_by_role("alert").get_by_text("look at it again").wait_for()
    tab.is_accessible()
    assert workspace.status("first", "current")["state"] == "waiting"
    page.reload()
    page.get_by_role("button", name="Approve and continue").click()
    tab.served.wait_for("first", "complete")
    assert len(provider.requests) == 3


def test_a_queued_build(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """Its job says that it was asked for, and Stop takes it back before the eyes of who looks."""
    for number in range(4):
        workspace.seed(f"q-{number}", {"topic": str(number), "tone": "dry"})
    provider.hold()
    for number in range(4):
        tab.served.post("/api/v1/builds", {"jobs": [f"q-{number}"]})
    page = tab.open("/plan?job=first")
    page.get_by_role("button", name="Build").click()
    page.locator("#main .state.queued").first.wait_for()
    tab.is_accessible()
    page.get_by_role("button", name="Stop").click()
    page.locator("#main .state.new").first.wait_for()
    page = tab.open("/builds")
    page.get_by_text("cancelled before it began").wait_for()
    tab.is_accessible()
    tab.check()
    provider.release()


def test_a_build_is_stopped(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """Stop ends a build of another command too, and the job says that it was stopped."""
    provider.hold(after=1)
    with workspace.start("popbuild", "run", "first") as running:
        provider.wait_for(2)
        page = tab.open("/jobs/first")
        page.get_by_role("button", name="Stop").click()
        assert running.wait().code == 4
    provider.release()
    page.locator("#main .state.stopped").first.wait_for()
    with page.expect_download() as downloading:
        assert workspace.popbuild("run", "first").code == 0
        page.get_by_role("link", name="Download").click()
    assert downloading.value.suggested_filename == "first.tar.zst"
    tab.check()


HOSTILE = [
    "<script>document.title = 'taken'; alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><a href='javascript:alert(1)'>x</a></svg>",
    "[link](javascript:alert(1)) ![image](http://evil.example/x.png)",
    "</textarea></pre></style><iframe src='javascript:alert(1)'></iframe>",
    "{{ 7 * 7 }} \u202e txt.exe",
]


def test_hostile_text_does_nothing(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """Text from models and seeds is shown as text, wherever it stands."""
    text = "\n\n".join(HOSTILE)
    workspace.seed("first", {"topic": text, "tone": text, text[:60]: text}, name=HOSTILE[0])
    workspace.task("research", prompt="{{ seed.data.topic }}\n", stages=_MORE_FILES)
    provider.script([text, text])
    assert workspace.popbuild("run", "first").code == 0
    workspace.task("analysis", prompt="Anew: {{ artifacts.research.content }}\n")
    for path in ("/jobs/first", "/", "/plan?job=first", "/runs", "/pipelines/default"):
        page = tab.open(path)
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        page.wait_for_timeout(50)
        assert "taken" not in page.title()
        for link in page.locator("a").all():
            assert not (link.get_attribute("href") or "").startswith("javascript:")
        assert page.locator("iframe, img, object, embed, main script").count() == 0
        assert page.locator("svg a[href^='javascript']").count() == 0
    assert "onerror=alert(1)" in tab.open("/jobs/first").locator("#artifacts").inner_text()
    # As files they come as attachments, which no browser shows.
    for name in ("page.html", "picture.svg"):
        with tab.page.expect_download() as downloading:
            tab.page.evaluate(
                "(at) => { location.assign(at); }",
                f"/api/v1/jobs/first/files/artifacts/{name}",
            )
        assert downloading.value.suggested_filename.endswith(name)
    tab.check()


_MORE_FILES = """
def integration(context):
    context.files.write_artifact("page.html", "<script>alert(1)</script>")
    picture = "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    context.files.write_artifact("picture.svg", picture)
"""


def test_five_megabytes(workspace: Workspace, tab: Tab, provider: Provider) -> None:
    """A huge artifact neither breaks the page nor is all of it on it; its file is there."""
    provider.script(["<b>x</b> " * 600_000, "short"])
    workspace.task("analysis", prompt="Analysis of much.\n")
    assert workspace.popbuild("run", "first").code == 0
    answer = tab.served.get("/jobs/first")
    assert len(answer.body) < 1_500_000
    page = tab.open("/jobs/first")
    assert page.locator("main b").filter(has_text="x").count() == 0
    page.get_by_text("research-output.json").first.wait_for()
    tab.check()


def test_keyboard_narrow_and_dark(workspace: Workspace, browser: Any) -> None:
    """The page is used with the keyboard alone, in a narrow window, and in the dark."""
    assert workspace.popbuild("run", "first").code == 0
    with serve(workspace) as served:
        for scheme in ("light", "dark"):
            tab = Tab(browser, served, color_scheme=scheme)
            tab.page.set_viewport_size({"width": 360, "height": 640})
            for path in ("/", "/jobs/first", "/submit", "/pipelines/default", "/runs"):
                page = tab.open(path)
                page.evaluate("document.querySelectorAll('details').forEach(each => each.open = 1)")
                tab.is_accessible()
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= 360, (path, wide)
            page = tab.open("/")
            for cell in page.get_by_role("row").filter(has_text="first").get_by_role("cell").all():
                box = cell.bounding_box()
                assert box is None or box["x"] + box["width"] <= 360, cell.inner_text()
            assert page.get_by_role("cell", name="2 of 2").is_visible()
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == "Skip to content"
            page.keyboard.press("Enter")
            for _ in range(20):
                page.keyboard.press("Tab")
                if page.evaluate("document.activeElement.textContent") == "first":
                    break
            page.keyboard.press("Enter")
            page.wait_for_url("**/jobs/first")
            tab.check()
            tab.context.close()


def test_what_somebody_opened_stays_open(workspace: Workspace, tab: Tab) -> None:
    """A change on disk is shown without closing what was opened or taking the focus away."""
    assert workspace.popbuild("run", "first").code == 0
    page = tab.open("/jobs/first")
    page.locator("#main .state.complete").first.wait_for()
    summary = page.locator("#calls summary").first
    summary.focus()
    page.keyboard.press("Enter")
    workspace.task("analysis", prompt="Anew: {{ artifacts.research.content }}\n")
    page.locator("#main .state.stale").first.wait_for()
    assert page.locator("#calls details").first.get_attribute("open") is not None
    assert page.evaluate("document.activeElement.localName") == "summary"


def test_what_somebody_types_stays(workspace: Workspace, tab: Tab) -> None:
    """A note that is being written keeps its text, its caret and the focus while the page around it
    changes, and so does what was opened, though more comes to be opened."""
    workspace.task("research", task_yaml={"gate": {"message": "Is this fit to print?"}})
    assert workspace.popbuild("run", "first").code == 4
    page = tab.open("/jobs/first")
    page.locator("#calls summary").first.click()
    note = page.get_by_label("Note")
    note.fill("Too short.")
    note.evaluate("(field) => { field.setSelectionRange(3, 3); window.before = field; }")
    folder = workspace.job("first", "current")
    for number in range(3):
        file = folder / f"files/logs/more-{number}.txt"
        file.write_text("more\n")
        file = folder / "tasks-status.json"
        status = json.loads(file.read_text())
        status["tasks"]["research"]["error"] = f"said {number}"
        file.write_text(json.dumps(status))
        page.get_by_text(f"said {number}").first.wait_for()
        page.keyboard.type("x")
    assert note.input_value() == "Tooxxx short."
    assert page.evaluate("window.before.isConnected && document.activeElement === window.before")
    assert page.locator("#calls details").first.get_attribute("open") is not None
    tab.check()


def test_many_tabs(workspace: Workspace, tab: Tab) -> None:
    """Hidden pages leave a browser's few lines to others, and are as the disk is once
    they are looked at again."""
    hide = (
        "Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true});"
    )
    pages = [tab.context.new_page() for _ in range(7)]
    for page in pages:
        page.add_init_script(f"window.away = false; {hide}")
        page.goto(f"http://{tab.served.page}/")
        page.locator("html[data-line=open]").wait_for()
        page.evaluate("window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    page = pages[0]
    assert page.get_by_role("link", name="second").count() == 0
    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("link", name="second").wait_for()
    tab.check()


def test_the_server_is_started_anew(workspace: Workspace, browser: Any) -> None:
    """A page says that the server is away, and at the next start that its address is another: it
    sent its cookie to whichever program listened there in between. So it is with a token that stays
    the same, by which the page itself is found again."""
    token = "a-token-that-is-long-enough"
    env = {"POPBUILD_TOKEN": token}
    with serve(workspace, env=env) as served:
        tab = Tab(browser, served)
        tab.page.locator("html[data-line=open]").wait_for()
    page, port = tab.page, str(served.port)
    page.locator("html[data-line=lost]").wait_for()
    with serve(workspace, "--port", port, env=env) as again:
        page.locator("html[data-line=locked]").wait_for()
        page.reload()
        page.get_by_role("heading", name="This is the address of another start").wait_for()
        for _ in range(2):
            page.goto(f"http://127.0.0.1:{port}/jobs/first?token={token}")
            page.get_by_role("heading", name="first").first.wait_for()
            assert page.url == f"http://{again.page}/jobs/first"
    tab.context.close()


def test_pictures(workspace: Workspace, browser: Any, provider: Provider) -> None:
    """The screenshots of the documentation come from here (POPBUILD_TEST_PICTURES=1)."""
    (workspace.root / "seeds/first.json").unlink()
    content = {"type": "string", "maxLength": 400}
    workspace.task("analysis", schema={"properties": {"content": content}, "required": ["content"]})
    gate = "gate:\n  message: Is this fit to print?\n"
    workspace.task("summary", prompt="In short: {{ artifacts.analysis.content }}\n")
    workspace.pipeline(["research", "analysis", "summary"])
    jobs = ("cargo-bikes", "grid-batteries", "heat-pumps", "hydrogen-ports", "tidal-power")
    for job in (*jobs, "wave-power", "solar-roofs", "wind-farms", "night-trains"):
        workspace.seed(job, {"topic": job.replace("-", " "), "tone": "plain"})
    fine = Reply('{"content": "A market that grows where the grid is weak."}')
    provider.answer = lambda request: fine if request.schema else default_answer(request)
    assert workspace.popbuild("run", *jobs).code == 0
    workspace.seed("heat-pumps", {"topic": "heat pumps in old houses", "tone": "plain"})
    long = Reply(json.dumps({"content": "An analysis that goes on and on. " * 20}))
    provider.answer = lambda request: long if request.schema else default_answer(request)
    assert workspace.popbuild("run", "wave-power").code == 1
    workspace.task("research", task_yaml=gate)
    assert workspace.popbuild("run", "solar-roofs").code == 4
    provider.hold()
    with serve(workspace) as served, workspace.start("popbuild", "run", "wind-farms"):
        tab = Tab(browser, served)
        tab.open("/").locator("td .state.running").wait_for()
        tab.page.locator("td .state.waiting").wait_for()
        tab.page.set_viewport_size({"width": 1100, "height": 620})
        tab.picture("jobs")
        tab.open("/runs").locator(".plots svg").first.wait_for()
        tab.picture("runs")
        tab.page.set_viewport_size({"width": 1100, "height": 860})
        tab.open("/plan").get_by_role("button", name="Build").wait_for()
        tab.picture("plan")
        tab.page.set_viewport_size({"width": 1100, "height": 1000})
        tab.open("/jobs/cargo-bikes").locator("#calls").wait_for()
        tab.picture("job")
        tab.page.set_viewport_size({"width": 1100, "height": 800})
        tab.open("/jobs/wave-power").locator("#calls").wait_for()
        tab.picture("rejected")
        tab.page.set_viewport_size({"width": 390, "height": 800})
        tab.open("/").locator("td .state.running").wait_for()
        tab.picture("phone")
        tab.check()
        tab.context.close()
        provider.release()
