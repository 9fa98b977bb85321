"""A real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from patience import PATIENCE_S
from served import Served
from workspace import CHECKOUT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = os.environ.get("POPBUILD_TEST_PICTURES")  # "1" writes those of docs/ anew
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: apt-get install chromium"
)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser, which ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        yield browser
        browser.close()


class Tab:
    """A page of the server, whose console must stay silent."""

    def __init__(self, browser: Any, served: Served, **options: Any) -> None:
        self.served = served
        self.context = browser.new_context(viewport={"width": 1100, "height": 800}, **options)
        self.context.set_default_timeout(PATIENCE_S * 1_000)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._asked)
        self.page.goto(served.address)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(f"http://{self.served.page}/"):
            self.elsewhere.append(request.url)

    def open(self, path: str) -> Any:
        self.page.goto(f"http://{self.served.page}{path}")
        return self.page

    def check(self) -> None:
        """Nothing was run, refused or asked for elsewhere."""
        refused = "Failed to load resource: the server responded with a status of 4"
        assert [said for said in self.said if not said.startswith(refused)] == []
        assert self.elsewhere == []

    def is_accessible(self) -> None:
        """axe finds no error on this page."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        assert found == [], [
            (each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found
        ]

    def picture(self, name: str) -> None:
        """A screenshot for the documentation, where that is asked for."""
        if PICTURES:
            folder = CHECKOUT / "docs/pictures"
            folder.mkdir(exist_ok=True)
            self.page.screenshot(path=folder / f"{name}.png")
