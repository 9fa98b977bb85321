"""The store as one command uses it: its mode, misses, troubles and hits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

from popbuild.base import disk_room
from popbuild.base.commits import AppendedLine, DiskChange
from popbuild.base.errors import StoreError
from popbuild.base.paths import Root
from popbuild.base.threads import Batches
from popbuild.llm.keeping import Keeping, no_room
from popbuild.llm.ledger import Hits
from popbuild.llm.notices import Notices, StoreTrouble
from popbuild.llm.request import Answer, Request
from popbuild.llm.reserve import Reserve
from popbuild.llm.store import OFF, ONLY, REFRESH, USE, Damaged, Store

_HINT = "popbuild cache pull URL brings answers from elsewhere; --store use asks the model"


class Stored:
    """The answers that need no call. Must be used inside one event loop. No command asks for an
    answer twice, in any mode: one that the store does not hold stays in memory. A store that cannot
    be read or written stops nothing, except in the mode `only`; a full disk stops what would be
    sent. Each kind of trouble is one notice."""

    def __init__(
        self,
        root: Root,
        mode: str,
        commits: Batches[Sequence[DiskChange]],
        notices: Notices,
    ) -> None:
        self._root = root
        self._mode = mode
        self._commits = commits
        self._notices = notices
        self._store = Store(root.private / "store")
        self._reserve = Reserve(root.private / "store")
        self._keeping = Keeping(self._store, commits, self._reserve, notices)
        self._hits = Hits(root.private / "hits.jsonl")
        self._refreshed: set[str] = set()  # digests of what this command has replaced
        self._unstored: dict[str, Answer] = {}  # by digest
        self._told: set[str] = set()

    async def known(self, request: Request) -> Answer | None:
        """The answer if it is at hand, else None. Raises StoreError where nothing may be sent."""
        unstored = self._unstored.get(request.digest) or self._keeping.waits(request.digest)
        if unstored is not None:
            return replace(unstored, stored=True)
        found = None
        if self._mode in (USE, ONLY) or request.digest in self._refreshed:
            found = await self._look(request)
        if found is None and self._mode == ONLY:
            folder = self._root.private / "store"
            shown = self._root.show(folder) + ("" if folder.is_dir() else " (there is none)")
            error = _refusal("an answer is not in the store", request, {"store": shown})
            error.elsewhere = True  # another model's answer may have been bought
            raise error
        return found

    async def make_room(self, request: Request) -> int | None:
        """Hold room for an answer before its request is sent. Gives the bytes, which `keep` or
        `free_room` takes back; None where it cannot be stored. Raises StoreError where the disk is
        full: nothing is bought that could not be kept."""
        if self._mode == OFF:
            return None
        await self._keeping.keep_what_waits()
        try:
            if not self._store.has_room(request):
                await asyncio.to_thread(self._store.make_room, request)
            return await self._reserve.hold(request)
        except OSError as error:
            if disk_room.is_full(error):
                raise no_room(error, self._root.show(self._root.private / "store")) from error
            self._tell_of_disk("written", error)
        return None

    def free_room(self, held: int | None) -> None:
        """Give back the room for an answer that does not come."""
        self._reserve.free(held or 0)

    async def keep(
        self, request: Request, answer: Answer, held: int | None, settled: AppendedLine
    ) -> None:
        """Store an answer and then write its cost, durably. Where it cannot be stored, this command
        at least does not ask again. Raises StoreError where the disk is full, OSError where the
        cost cannot be written."""
        if held is not None:
            try:
                await self._keeping.keep(request, answer, held, settled)
            except OSError as error:
                if error.filename == str(settled.path):
                    raise  # the answer is stored, maybe its cost too: it must not be written twice
                self._tell_of_disk("written", error)
            else:
                if self._mode == REFRESH:
                    self._refreshed.add(request.digest)
                return
        self._unstored[request.digest] = answer
        await self._commits.add((settled,))

    def served(self, request: Request, answer: Answer) -> None:
        """Count what an answer from the store saved."""
        self._hits.add(request.model, answer.cost)

    async def close(self) -> None:
        """Store what still waits, and write the hits."""
        await self._keeping.close()
        with contextlib.suppress(OSError):  # a count that cannot be kept stops nothing
            await asyncio.to_thread(self._hits.write)

    async def _look(self, request: Request) -> Answer | None:
        """The answer under today's digest of the request, or under an older one."""
        for digest in request.digests:
            try:
                # Most are not there, and asking another thread takes longer than looking.
                if not self._store.stands(digest):
                    continue
                found = await asyncio.to_thread(self._store.get, digest)
            except OSError as error:
                if self._mode == ONLY:
                    shown = self._root.show(self._store.path(digest))
                    where = {"file": shown, "found": error.strerror or str(error)}
                    raise _refusal("the store cannot be read", request, where) from error
                self._tell_of_disk("read", error)
                continue
            if isinstance(found, Damaged):
                self._tell_of_damage(request, found)
            elif found is not None:
                return found if digest == request.digest else replace(found, kept_as=digest)
        return None

    def _tell_of_damage(self, request: Request, found: Damaged) -> None:
        where = {"file": self._root.show(found.path)}
        if self._mode == ONLY:
            if found.aside is not None:
                where["set aside"] = self._root.show(found.aside)
            raise _refusal("a stored answer is damaged", request, where)
        self._tell("damage", f"a stored answer is damaged, and asked for anew: {where['file']}")

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._notices.put_nowait(StoreTrouble(text))

    def _tell_of_disk(self, what: str, error: OSError) -> None:
        self._tell(
            "disk", f"the store cannot be {what} ({_why(error)}): the build goes on without it"
        )


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _refusal(message: str, request: Request, where: dict[str, str]) -> StoreError:
    return StoreError(
        f"{message}, and nothing may be asked",
        {"model": request.model, "request": request.digest, **where, "mode": ONLY},
        hint=_HINT,
    )
