"""Every number of docs/benchmarks.md, in one run: the table and the plot are written there.

Takes about half an hour on two cores that have nothing else to do, 6 GB of disk and millions of
files for the tree of 100,000 jobs; `--largest` and `--rounds` make it shorter; the page says so.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import compare
import helpers
import watch
import whole_tree
from compare import POPBUILD, UNSYNCED, WAITING, WARM, Waiting
from helpers import CHECKOUT, Timed
from others import PLAIN_DOIT, TOOLS, Tool

PAGE = CHECKOUT / "docs/benchmarks.md"
PLOT = CHECKOUT / "docs/benchmarks.svg"
_COUNT = len(helpers.TASKS)
_MATPLOTLIB = Tool("plot", ("matplotlib==3.10.7",), lambda folder, jobs, calls: None)
_IMPORT = ("python", "-c", "import litellm")
_QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
_LATENCY_S = 0.06
_LITELLM = "litellm alone"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was found, and what it was to be at most."""

    work: str
    found: str
    bound: str
    reached: bool


@dataclass
class Found:
    """What was measured."""

    largest: int
    rounds: int
    no_op: dict[str, dict[int, Timed]]
    cold: dict[str, Timed]
    calls: dict[Waiting, dict[str, float]]
    import_s: float
    cpu_ms: dict[str, float]
    tree: dict[str, Timed]
    growth: dict[int, tuple[Timed, Timed]]
    latency_s: list[float]
    in_flight_bytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=10_000, help="of the whole tree")
    parser.add_argument("--largest", type=int, default=100_000, help="jobs, of the growth")
    given = parser.parse_args()
    for tool in (*TOOLS, _MATPLOTLIB):
        tool.install()
    load = os.getloadavg()[0]
    found = measure(given.jobs, given.largest, given.rounds)
    command = " ".join(["python", "bench/everything.py", *sys.argv[1:]])
    PAGE.write_text(page(found, given.jobs, load, command))
    plot(found)
    print(PAGE.read_text())


def measure(jobs: int, largest: int, rounds: int) -> Found:
    sizes = tuple(size for size in compare.SIZES if size <= jobs)
    with helpers.root(0) as root:
        imports = helpers.alternately({"import": (_IMPORT, root, _QUIET)}, rounds)
    return Found(
        largest=largest,
        rounds=rounds,
        import_s=imports["import"].wall,
        cpu_ms=_apart(_ENGINE, 3 * rounds),
        latency_s=watch.latency(10 * rounds),
        calls={waiting: compare.calls(waiting, rounds) for waiting in WAITING},
        in_flight_bytes=in_flight(),
        cold=compare.from_nothing(rounds),
        no_op=compare.nothing_to_do(sizes, rounds),
        tree=whole_tree.beside_plain_doit(jobs, rounds),
        growth=whole_tree.growth(largest, rounds),
    )


# In a process of its own: it imports litellm, and changes the environment.
_ENGINE = """\
import json, statistics, sys
import engine
times = engine.measure(20, int(sys.argv[1]))
print(json.dumps({kind: statistics.median(x.cpu for x in took) for kind, took in times.items()}))
"""


def _apart(program: str, rounds: int) -> dict[str, float]:
    words = [sys.executable, "-c", program, str(rounds)]
    output = subprocess.run(
        words, cwd=CHECKOUT / "bench", stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def in_flight(few: int = 10, many: int = 400) -> float:
    """Bytes that a command needs more for each job whose call is under way."""
    setup = "from dataclasses import replace; p.answer = lambda r: replace(default_answer(r), "
    memory = []
    with helpers.provider(f"{setup} delay_s=3)") as environment:
        for jobs in (few, many):
            with helpers.root(jobs) as root:
                words = ("popbuild", "run", "-n", str(jobs))
                memory.append(helpers.run(words, root, environment).memory)
    return (memory[1] - memory[0]) / (many - few)


def rows(found: Found, jobs: int) -> Iterator[Row]:
    """The table, in the order in which the bounds were set."""
    short = WAITING[0]
    for waiting in WAITING:
        seconds = found.calls[waiting]
        shape = f"{waiting.jobs} jobs of {_COUNT} tasks, each call {waiting.delay_s:g} s"
        warm = seconds[WARM] / waiting.ideal_s
        yield Row(
            f"{shape}, warm",
            f"{seconds[WARM]:.2f} s, {warm:.2f} times the ideal {waiting.ideal_s:g} s",
            "1.25 times",
            warm <= 1.25,
        )
        if waiting == short:
            bound = found.import_s + 1.25 * waiting.ideal_s
            text = f"{seconds[POPBUILD]:.2f} s; litellm's import is {found.import_s:.2f} s"
            reached = seconds[POPBUILD] <= bound
            yield Row(f"{shape}, cold process", text, f"{bound:.2f} s: import + that", reached)
    tasks = compare.COLD_JOBS * _COUNT
    plain = found.cold[PLAIN_DOIT.name].wall / tasks * 1000
    ours, synced = (found.cold[name].wall / tasks * 1000 for name in (UNSYNCED, POPBUILD))
    yield Row(
        f"{tasks:,} tasks without calls, cold, not syncing",
        f"{ours:.2f} ms a task to {plain:.2f}: {ours / plain:.1f} times plain doit",
        "2.5 times",
        ours <= 2.5 * plain,
    )
    yield Row("the same, syncing", f"{synced:.2f} ms a task", "stated apart", True)
    own = found.cpu_ms[UNSYNCED] - found.cpu_ms[_LITELLM]
    text = f"{own:.1f} ms a task above litellm's {found.cpu_ms[_LITELLM]:.1f}"
    yield Row("CPU, each call 0 s, not syncing", text, "5 ms", own <= 5)
    syncing = found.cpu_ms[POPBUILD] - found.cpu_ms[UNSYNCED]
    yield Row("CPU of syncing", f"{syncing:.1f} ms a task", "stated apart", True)
    for name, ratio, bound in whole_tree.ratios(found.tree, jobs):
        unit = next((unit for unit in ("MB", "KB") if unit in name), "times")
        of_bound = f"{bound:g} {unit}" if bound != 1 else "the same"
        yield Row(f"{jobs:,} jobs: {name}", f"{ratio:.2f}", of_bound, ratio <= bound)
    median_s = statistics.median(found.latency_s)
    yield Row(
        "a seed dropped into pending/ to its first call, warm",
        f"{median_s * 1000:.0f} ms in the median, {max(found.latency_s) * 1000:.0f} at most",
        "60 ms",
        median_s <= _LATENCY_S,
    )
    kilobytes = found.in_flight_bytes / 1000
    yield Row("memory for a job in flight", f"{kilobytes:.0f} KB", "200 KB", kilobytes <= 200)
    costs = [_each(found.growth, which) for which in (0, 1)]
    text = "; ".join(
        f"{name} " + ", ".join(f"{us:.0f}" for us in cost.values())
        for name, cost in zip(("run", "list"), costs, strict=True)
    )
    largest = max(found.growth)
    linear = all(cost[largest] <= 1.1 * cost[min(10_000, largest)] for cost in costs)
    sizes = ", ".join(f"{size:,}" for size in costs[0])
    yield Row(f"µs for a job more, of {sizes}", text, "not growing", linear)


def _each(growth: Mapping[int, tuple[Timed, Timed]], which: int) -> dict[int, float]:
    """By number of jobs: microseconds for each above the first."""
    start = growth[1][which].wall
    return {
        size: (took[which].wall - start) / (size - 1) * 1e6
        for size, took in growth.items()
        if size >= 1_000
    } or {max(growth): 0.0}


def page(found: Found, jobs: int, load: float, command: str) -> str:
    """docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        f"Written by `{command}`, which sets up the other tools by itself. Every number is of that "
        "one run: what is compared took turns in it, the first round warmed the caches and does "
        f"not count, and medians over {found.rounds} rounds are shown. Nothing here is asserted "
        "by a test. What the single benchmarks do is in [bench/README.md](../bench/README.md).",
        _machine(load),
        "![Time with nothing to do by number of jobs, and time for jobs whose calls wait]"
        "(benchmarks.svg)",
        "## What was to be reached",
        _table(
            ("work", "found", "at most", ""),
            [
                (row.work, row.found, row.bound, "" if row.reached else "**not reached**")
                for row in rows(found, jobs)
            ],
        ),
        _SHORTFALLS,
        "## Beside other tools",
        "Jobs of four steps, each after the last. What is not there, the tool does not do, or not "
        "in minutes. ninja and snakemake start a `cat` for a step, plain doit and cocoindex call a "
        "Python function; none of them checks, logs or stores what popbuild does, and none of them "
        "syncs what it wrote, cocoindex's own database aside.",
        "Nothing to do, wall time and memory:",
        _no_op(found.no_op),
        f"{compare.COLD_JOBS * _COUNT:,} tasks from nothing, without a call:",
        _table(
            ("tool", "wall", "CPU"),
            [
                (name, f"{took.wall:.2f} s", f"{took.cpu:.2f} s")
                for name, took in found.cold.items()
            ],
        ),
        "Calls that wait, all jobs in flight, the provider on the same cores. The first four start "
        "a process; the last one is an orchestrator that is there already:",
        _calls(found.calls),
        "## Many jobs on disk",
        _table(
            ("jobs", "`doit run`, nothing to do", "", "`popbuild list`", ""),
            [
                (
                    f"{size:,}",
                    *(x for took in both for x in (_s(took.wall), f"{took.memory / 1e6:.0f} MB")),
                )
                for size, both in found.growth.items()
            ],
        ),
    ]
    return "\n\n".join(_wrapped(part) for part in parts) + "\n"


def _wrapped(part: str) -> str:
    return part if part.startswith(("|", "!")) else textwrap.fill(part, 100)


_SHORTFALLS = """\
Where a row is not reached: a task of popbuild leaves seven files that the storage format asks for,
and each new file on ext4 is 0.1 to 0.3 ms of the kernel's time, so that a task without a call costs
several times what a bare Python function does. The ideal of waiting calls counts no CPU at all:
with a call of litellm at 3 ms and two cores that the provider shares, the calls of 50 jobs alone
take 0.3 s of them."""


def _machine(load: float) -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = [f"litellm {importlib.metadata.version('litellm')}"]
    versions += [each.packages[0].replace("==", " ") for each in TOOLS]
    return (
        f"{datetime.datetime.now(datetime.UTC):%d %B %Y}; {os.cpu_count()} cores ({cpu}), "
        f"{memory:.0f} GiB, {_file_system()}, Linux {platform.release()}, load {load:.1f} at the "
        "start; "
        f"Python {platform.python_version()}, popbuild {importlib.metadata.version('popbuild')}, "
        f"{', '.join(versions)}."
    )


def _file_system() -> str:
    """Of the folder in which the benchmarks work."""
    device = Path(tempfile.gettempdir()).stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[2] == number:
            return line.partition(" - ")[2].split()[0]
    return "a file system that the kernel does not name"


def _no_op(no_op: Mapping[str, Mapping[int, Timed]]) -> str:
    sizes = sorted({size for by_size in no_op.values() for size in by_size})
    return _table(
        ("tool", *(f"{size:,} {'job' if size == 1 else 'jobs'}" for size in sizes)),
        [
            (
                name,
                *(
                    f"{_s(by_size[size].wall)}, {by_size[size].memory / 1e6:.0f} MB"
                    if size in by_size
                    else ""
                    for size in sizes
                ),
            )
            for name, by_size in no_op.items()
        ],
    )


def _calls(calls: Mapping[Waiting, Mapping[str, float]]) -> str:
    names = next(iter(calls.values()))
    heads = [f"{each.jobs} jobs, {_COUNT} calls of {each.delay_s:g} s" for each in calls]
    return _table(
        ("tool", *heads),
        [
            (
                name,
                *(
                    f"{seconds[name]:.2f} s, {seconds[name] / waiting.ideal_s:.2f} times the ideal"
                    if name in seconds
                    else ""
                    for waiting, seconds in calls.items()
                ),
            )
            for name in names
        ],
    )


def _s(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    texts = [head, tuple("---" for _ in head), *lines]
    return "\n".join(f"| {' | '.join(each)} |" for each in texts)


_DRAW = """\
import json, sys
import matplotlib
matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "popbuild", "font.size": 10, "svg.fonttype": "none"})
from matplotlib import pyplot
given = json.load(sys.stdin)
COLORS = {
    "plain doit": "#4c78a8", "ninja": "#72b7b2", "snakemake": "#54a24b", "cocoindex": "#8c6bb1",
    "popbuild": "#c1440e",
}
figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for name, points in given["no_op"].items():
    ours = name == "popbuild"
    color = COLORS[name]
    left.plot(*zip(*points), marker="o", label=name, color=color, linewidth=2.5 if ours else 1.2)
left.set(xscale="log", yscale="log", xlabel="jobs of four tasks", ylabel="seconds, nothing to do")
left.grid(alpha=0.3)
left.legend(frameon=False)
names = list(given["calls"])
for number, waiting in enumerate(given["waiting"]):
    shown = [each for each, name in enumerate(names) if given["calls"][name][number] is not None]
    places = [len(names) - 1 - each + 0.2 - 0.4 * number for each in shown]
    values = [given["calls"][names[each]][number] for each in shown]
    color = ("#c1440e", "#e8a87c")[number]
    bars = right.barh(places, values, height=0.38, label=waiting, color=color)
    right.bar_label(bars, fmt="%.2f", padding=3)
right.axvline(1, color="black", linewidth=0.8, linestyle="--")
right.set_yticks([len(names) - 1 - each for each in range(len(names))], names)
right.set(xlabel="times the ideal: the calls' own waiting")
right.margins(x=0.12)
right.legend(frameon=False)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig(sys.argv[1], metadata={"Date": None})
"""


def plot(found: Found) -> None:
    """docs/benchmarks.svg."""
    names = list(next(iter(found.calls.values())))
    given = {
        "no_op": {
            name: [[size, took.wall] for size, took in by_size.items()]
            for name, by_size in found.no_op.items()
        },
        "waiting": [f"{each.jobs} jobs, calls of {each.delay_s:g} s" for each in found.calls],
        "calls": {
            name: [
                seconds[name] / waiting.ideal_s if name in seconds else None
                for waiting, seconds in found.calls.items()
            ]
            for name in names
        },
    }
    python = str(_MATPLOTLIB.scripts / "python")
    subprocess.run([python, "-c", _DRAW, str(PLOT)], input=json.dumps(given), text=True, check=True)


if __name__ == "__main__":
    main()
