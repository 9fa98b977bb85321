"""Of many jobs in an event loop a few work, in the order in which they came."""

from __future__ import annotations

import asyncio

from popbuild.base.fair_turns import Turns, away


def test_whoever_waits_for_a_model_lets_the_next_one_work() -> None:
    """One job's work is not cut into pieces by another's, and no job keeps a turn while away."""
    said: list[str] = []

    async def job(name: str, turns: Turns, answer: asyncio.Event) -> None:
        async with turns.turn():
            said.append(f"{name} asks")
            await asyncio.sleep(0)  # the disk: others may not come in between
            said.append(f"{name} sends")
            async with away():
                await answer.wait()
            said.append(f"{name} reads")
            await asyncio.sleep(0)
            said.append(f"{name} ends")

    async def main() -> None:
        turns, answer = Turns(at_once=1), asyncio.Event()
        jobs = [asyncio.create_task(job(name, turns, answer)) for name in "abc"]
        for _ in range(100):
            await asyncio.sleep(0)
        answer.set()
        await asyncio.gather(*jobs)

    asyncio.run(main())
    assert said == [
        *("a asks", "a sends", "b asks", "b sends", "c asks", "c sends"),
        *("a reads", "a ends", "b reads", "b ends", "c reads", "c ends"),
    ]


def test_a_job_may_be_away_for_several_things_at_once() -> None:
    """It is back when all of them are; a turn that is given back twice would let two work."""

    async def main() -> int:
        turns, most, working = Turns(at_once=1), 0, 0

        async def wait() -> None:
            async with away():
                await asyncio.sleep(0)

        async def job() -> None:
            nonlocal most, working
            async with turns.turn():
                await asyncio.gather(wait(), wait(), wait())
                working += 1
                most = max(most, working)
                await asyncio.sleep(0)
                working -= 1

        await asyncio.gather(*(job() for _ in range(5)))
        return most

    assert asyncio.run(main()) == 1


def test_a_job_that_is_stopped_leaves_its_turn() -> None:
    """Wherever it was: at work, away, or waiting for a turn."""

    async def main() -> None:
        turns = Turns(at_once=1)
        entered = asyncio.Event()

        async def job(*, leaves: bool) -> None:
            async with turns.turn():
                entered.set()
                if leaves:
                    async with away():
                        await asyncio.Event().wait()
                await asyncio.Event().wait()

        for leaves in (False, True):
            entered.clear()
            first = asyncio.create_task(job(leaves=leaves))
            await entered.wait()
            second = asyncio.create_task(job(leaves=leaves))
            await asyncio.sleep(0)
            for each in (second, first):
                each.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
        async with asyncio.timeout(10), turns.turn():
            pass

    asyncio.run(main())


def test_outside_of_a_turn_nobody_is_away() -> None:
    """Code that belongs to no job is not held up."""

    async def main() -> str:
        async with away():
            return "here"

    assert asyncio.run(main()) == "here"
