"""Which files a task sends along, and whether its models take them.

That is checked before anything is sent: a model without eyes may answer all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from popbuild.base.errors import ConfigError, TaskError, no_such
from popbuild.base.paths import Root
from popbuild.jobs.fingerprint import Seen
from popbuild.jobs.input_files import InputFiles
from popbuild.llm.attachments import ability_for, attached_in, attached_part, lacking
from popbuild.llm.prices import abilities_of
from popbuild.llm.request import Message
from popbuild.model.input_file import media_type
from popbuild.model.pipeline import Pipeline, Task
from popbuild.task.read_trace import ReadTrace


def attachment_problems(pipeline: Pipeline, files: InputFiles) -> Iterator[ConfigError]:
    """What is wrong with the files that tasks send along, for a job with these files."""
    for task in pipeline.tasks:
        for name in task.attach:
            where: dict[str, object] = {"task": task.id}
            if name not in files:
                values = no_such("file", name, files, where=where)
                hint = "name it under `files` in the seed, or take it out of `attach`"
                yield ConfigError("the seed names no file that a task attaches", values, hint)
                continue
            source = files[name].source
            where |= {"attach": name, "file": source}
            kind = media_type(source)
            wanted = ability_for(kind)
            if wanted is None:
                where["allowed"] = "pictures, PDF, MP3 and WAV"
                yield ConfigError("no model takes files of this kind", {**where, "found": kind})
                continue
            models = [each for each in (task.model, *task.fallbacks) if each is not None]
            model = lacking(task, {each: abilities_of(each) for each in models}, kind)
            if model is not None:
                yield ConfigError(
                    "a model is not known to take files of this kind",
                    {**where, "model": model, "found": kind},
                    hint=f"choose another model; if it does, say `accepts: [{wanted}]` in its "
                    "settings",
                )


def attached_parts(task: Task, seen: Seen, trace: ReadTrace) -> list[dict[str, Any]]:
    """The parts of the user message for the files that a task attaches. It depends on their bytes.
    Raises TaskError for a file that the seed does not name."""
    parts = []
    for name in task.attach:
        if name not in seen.files:
            trace.inputs(seen.files)
            values = no_such("file", name, seen.files, where={"task": task.id})
            raise TaskError("the seed names no file that the task attaches", values)
        file = seen.files[name]
        trace.read(f"input:{name}", "/digest", file.digest)
        parts.append(attached_part(name, media_type(file.source), file.digest))
    return parts


def asked(task: Task, seen: Seen, trace: ReadTrace, text: str) -> Message:
    """The user message: a text, and the files that the task attaches."""
    parts = attached_parts(task, seen, trace)
    content = [{"type": "text", "text": text}, *parts] if parts else text
    return {"role": "user", "content": content}


def files_to_send(messages: list[Message], seen: Seen, root: Root) -> dict[str, Path]:
    """The files of the parts in messages, by digest. Raises TaskError for one that is not a file of
    the seed: only those are kept with the job."""
    known = {file.digest: root.path / file.place for file in seen.files.values()}
    found: dict[str, Path] = {}
    for said in attached_in(messages):
        digest = said.get("digest") if isinstance(said, Mapping) else None
        if not isinstance(digest, str) or digest not in known or "mediaType" not in said:
            raise TaskError(
                "a message attaches what is no file of the seed",
                {"found": said, "known": ", ".join(seen.files)},
                hint='context.files["photo"].part is the part of a message for a file',
            )
        found[digest] = known[digest]
    return found
