"""Plans and explanations as a person reads them: lines of at most 80 columns where the words
allow."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from popbuild.base.paths import shown_name
from popbuild.base.units import count, fit_line, money
from popbuild.query.estimate import Range
from popbuild.query.explain import Explanation
from popbuild.query.planned import PlannedJob, PlannedTask, Totals, totals

_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}$")
_MAX_DIFFERENCE = 40  # lines of one difference; --json has them all


def plan_lines(jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """A plan: each job that has something to do, each task with its reasons and its price."""
    busy = [job for job in jobs if not job.nothing_to_do]
    for job in busy:
        yield f"{shown_name(job.id)}: {job.note or _how_many(job.tasks)}"
        if job.note and job.tasks:
            yield f"  {_how_many(job.tasks)}"
        width = max((len(task.task) for task in job.tasks), default=0)
        for task in job.tasks:
            head = f"  {'will' if task.will else 'may '}  {task.task:<{width}}  "
            indent = " " * len(head)
            for number, reason in enumerate(task.reasons):
                yield fit_line(indent if number else head, reason)
            yield from _wrapped(indent, price_text(task))
            parts = parts_text(task)
            if parts:
                yield from textwrap.wrap(parts, 80, initial_indent=indent, subsequent_indent=indent)
            yield from textwrap.wrap(
                f"({task.basis})", 80, initial_indent=indent, subsequent_indent=f"{indent} "
            )
    idle = len(jobs) - len(busy)
    planned = [task for job in busy for task in job.tasks]
    if planned:
        total = totals(planned)
        up_to_date = f"; {idle} up to date" if idle else ""
        yield from _wrapped("total: ", f"{sum_text(total)}{up_to_date}")
    elif idle:
        yield f"{count(idle, 'job')} up to date: nothing to do"


def _wrapped(head: str, price: str) -> Iterator[str]:
    """A price on one line of 80 columns; on two, if it does not fit: calls, and what they come
    to."""
    if len(head) + len(price) <= 80:
        yield head + price
        return
    calls, _, rest = price.partition("; ")
    yield f"{head}{calls};"
    yield " " * len(head) + rest


def _how_many(tasks: Iterable[PlannedTask]) -> str:
    will = [task.will for task in tasks]
    parts = [f"{sum(will)} will run"] if any(will) else []
    if not all(will):
        parts.append(f"{len(will) - sum(will)} may run")
    return ", ".join(parts)


def price_text(task: PlannedTask) -> str:
    """What a task may cost: its calls, those of them that are stored, tokens, dollars."""
    tokens = task.input_tokens + task.output_tokens
    return f"{_calls(task.calls, task.stored)}; {_range(tokens, 'token')}; {_cost(task.cost)}"


def parts_text(task: PlannedTask) -> str:
    """Which of its tokens may be cached or reasoning: `of them 0 to 900 cached`; nothing where its
    last builds had none."""
    names = ("cached", "written to the cache", "reasoning")
    said = [
        f"{_numbers(each)} {name}"
        for name, each in zip(names, task.parts, strict=True)
        if each is not None and each.high
    ]
    return f"of them {', '.join(said)}" if said else ""


def sum_text(total: Totals) -> str:
    """The same of a whole plan."""
    tokens = total.input_tokens + total.output_tokens
    cost = _cost(total.cost)
    if total.unknown:
        known = f"{cost} and " if total.cost.high else ""
        cost = f"{known}an unknown cost of {', '.join(total.unknown)}"
    return f"{_calls(total.calls, total.stored)}; {_range(tokens, 'token')}; {cost}"


def _calls(calls: Range, stored: int | None) -> str:
    known = "stored unknown" if stored is None else f"{stored:,} stored"
    return f"{_range(calls, 'call')}, {known}"


def _range(value: Range, name: str) -> str:
    """`1 call`, `0 to 3 calls`, `1,200 to 4,000 tokens`, `1 or more calls`."""
    plural = "" if not value.is_open and f"{value.high:.0f}" == "1" else "s"
    return f"{_numbers(value)} {name}{plural}"


def _numbers(value: Range) -> str:
    """`1`, `0 to 3`, `1 or more`."""
    if value.is_open:
        return f"{value.low:,.0f} or more"
    low, high = f"{value.low:,.0f}", f"{value.high:,.0f}"
    return high if low == high else f"{low} to {high}"


def _cost(cost: Range | None) -> str:
    if cost is None or (cost.is_open and not cost.low):
        return "unknown cost"
    if cost.is_open:
        return f"{money(_rounded(cost.low))} or more"
    low, high = money(_rounded(cost.low)), money(_rounded(cost.high))
    return high if low == high else f"{low} to {high}"


def _rounded(cost: float) -> float:
    """Two digits that count: an estimate has no more."""
    return float(f"{cost:.2g}")


def explain_lines(explanations: Iterable[Explanation], *, dependencies: bool) -> Iterator[str]:
    """Why tasks are stale; with `dependencies` also all that each depends on."""
    for each in explanations:
        yield f"{each.task}: {each.state}"
        for reason in each.reasons:
            yield f"  {reason.text}"
            yield from (f"    {line}" for line in reason.difference[:_MAX_DIFFERENCE])
            if len(reason.difference) > _MAX_DIFFERENCE:
                yield f"    … {len(reason.difference) - _MAX_DIFFERENCE} more lines"
        if each.verdict.as_built:
            yield f"  to see it as it was built: {each.verdict.as_built}"
        if each.built is not None:
            yield f"  built {each.built[0]} by {each.built[1]}"
        if dependencies:
            yield f"  depends on {len(each.dependencies)}:"
            yield from (f"    {name}  {_short(digest)}" for name, digest in each.dependencies)


def _short(digest: str) -> str:
    """Enough of a digest to tell it from others; a fingerprint also has plain values."""
    return _DIGEST.sub(r"\1", digest)
