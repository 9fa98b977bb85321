"""`popbuild serve` on many jobs: how soon pages come, how soon a change on disk is told, to 200 who
follow events at once, and what memory it takes.

Targets for 10,000 jobs: the first page within 200 ms of the server's time, a change on disk on the
screen within 300 ms, memory as the index (at most 100 MB).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import helpers

_JOB = "job-00000"
_CLIENTS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    with helpers.provider() as environment, helpers.root(1) as root:
        helpers.run(("popbuild", "run"), root, environment)
        names = [f"copy-{number:06}" for number in range(1, given.jobs)]
        helpers.multiply(root, _JOB, names)
        helpers.run(("popbuild", "list"), root, environment)
        with _serving(root, environment) as (line, token, pid):
            print(f"{given.jobs:,} jobs")
            print(f"the very first page     {_get(line, token, '/') * 1e3:7.0f} ms")
            _settle(line, token)
            for path in ("/", "/?sort=cost&page=100", f"/jobs/{_JOB}", "/api/v1/jobs", "/runs"):
                took = statistics.median(_get(line, token, path) for _ in range(given.rounds))
                print(f"{path:<23} {took * 1e3:7.0f} ms")
            print(f"memory                  {_memory_mb(pid):7.0f} MB")
            seen = _seen(line, token, root, given.rounds)
            if seen:
                print(f"on the screen           {statistics.median(seen) * 1e3:7.0f} ms")
            told = [each for _ in range(given.rounds) for each in _told(line, token, root, 1)]
            print(f"a change, told          {statistics.median(told) * 1e3:7.0f} ms")
            told = [each for _ in range(5) for each in _told(line, token, root, _CLIENTS)]
            print(
                f"to {_CLIENTS} clients          {statistics.median(told) * 1e3:7.0f} ms, "
                f"the last one {max(told) * 1e3:.0f} ms, with {_memory_mb(pid):.0f} MB"
            )


@contextlib.contextmanager
def _serving(root: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
    # Under the variables of the runs: jobs whose model answers elsewhere now are stale.
    options = ("--port", "0", "--json", "--root", str(root))
    argv = (sys.executable, "-m", "popbuild", "serve", *options)
    env = {**os.environ, **environment}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield told["api"].removeprefix("http://"), told["token"], process.pid
        process.terminate()


def _get(line: str, token: str, path: str) -> float:
    """Seconds from the request to the last byte of the answer."""
    with contextlib.closing(http.client.HTTPConnection(line, timeout=60)) as connection:
        connection.connect()
        started = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        body = response.read()
        took = time.perf_counter() - started
    assert response.status == 200, body[:500]
    return took


def _settle(line: str, token: str) -> None:
    """Wait until every job was looked at."""
    while True:
        with contextlib.closing(http.client.HTTPConnection(line, timeout=60)) as connection:
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("GET", "/api/v1/jobs?standing=unknown", headers=headers)
            if b'"unknown"' not in connection.getresponse().read():
                return
        time.sleep(0.1)


def _told(line: str, token: str, root: Path, clients: int) -> list[float]:
    """Seconds from a new seed on disk to each client's event about it."""
    name = f"new-{time.time_ns()}"
    ready, came = threading.Semaphore(0), list[float]()

    def follow() -> None:
        with contextlib.closing(http.client.HTTPConnection(line, timeout=60)) as connection:
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("GET", "/api/v1/events", headers=headers)
            response = connection.getresponse()
            response.readline()
            ready.release()
            while name.encode() not in response.readline():
                pass
            came.append(time.perf_counter())

    threads = [threading.Thread(target=follow) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for _ in threads:
        ready.acquire()
    time.sleep(0.3)
    started = time.perf_counter()
    helpers.write(root / f"seeds/{name}.json", '{"name": "new", "data": {}}')
    for thread in threads:
        thread.join()
    return [each - started for each in came]


def _seen(line: str, token: str, root: Path, rounds: int) -> list[float]:
    """Seconds from a new seed on disk to its row on a page in a browser; none without one."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return []
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://{line}/?search=seen&token={token}")
        for number in range(rounds):
            time.sleep(0.5)
            started = time.perf_counter()
            helpers.write(root / f"seeds/seen-{number}.json", '{"name": "new", "data": {}}')
            page.wait_for_selector(f"text=seen-{number}", timeout=30_000)
            found.append(time.perf_counter() - started)
        browser.close()
    return found


def _memory_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


if __name__ == "__main__":
    main()
