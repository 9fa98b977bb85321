"""A job as it is read: its seed, its letters and artifacts, and what is stale in it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import ConfigError, InputError, PopbuildError
from popbuild.base.paths import (
    COMPLETE,
    NO_DEVICE,
    JobFolder,
    Root,
    artifact_place,
    decision_place,
    letter_place,
    name_problem,
    samples_place,
)
from popbuild.base.redact import key_in_name
from popbuild.jobs import staleness
from popbuild.jobs.staleness import DependencyChange, Inputs, Verdict
from popbuild.llm.addresses import ADDRESS_SETTINGS
from popbuild.llm.endpoint import provider_place, weights_digest
from popbuild.llm.request import is_local
from popbuild.model.config.config import Config
from popbuild.model.decision import (
    APPROVED,
    OPEN,
    REJECTED,
    Decision,
    Question,
    open_decision,
)
from popbuild.model.foreign_status import is_built_by_us
from popbuild.model.letter import Letter, looks_ours, open_letter
from popbuild.model.pipeline import Pipeline, Task
from popbuild.model.place import NOWHERE, Place
from popbuild.model.problem import MISSING, Problem, value_at
from popbuild.model.schema import gate, schemas
from popbuild.model.schema.bundle import bundle

MAX_SEED_BYTES = jsonio.MAX_BYTES


class BadSeed(Exception):
    """A seed that cannot start a job, with its problems."""

    def __init__(self, where: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(where)
        self.where = where
        self.problems = problems


def read_seed(path: str | Path, where: str, *, max_bytes: int = MAX_SEED_BYTES) -> dict[str, Any]:
    """A seed, strict and valid. Raises BadSeed, or FileNotFoundError. Copies of ours are indented
    and may be larger."""
    try:
        data = disk.read(path, max_bytes=max_bytes)
    except InputError as error:
        raise BadSeed(where, (Problem(error.as_line()),)) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadSeed(where, (Problem(f"cannot be read: {error.strerror}"),)) from None
    return seed_of(data, where, max_bytes=max_bytes)


def seed_of(data: bytes, where: str, *, max_bytes: int = MAX_SEED_BYTES) -> dict[str, Any]:
    """A seed from the bytes of its file, strict and valid. Raises BadSeed."""
    try:
        seed = jsonio.loads(data, where, max_bytes=max_bytes)
    except InputError as error:
        raise BadSeed(where, (Problem(error.as_line()),)) from None
    if not _looks_valid(seed):
        problems = gate.judge(seed, schemas.for_format("seed"))
        # The one rule of ours that a schema cannot say: no device names.
        raise BadSeed(where, problems or (Problem(f"not a valid name: {NO_DEVICE}", "/pipeline"),))
    found: dict[str, Any] = seed
    return found


def key_problems(seed: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Problem, ...]:
    """What is wrong with a seed whose name holds a key: it stands in runs.jsonl and in lists."""
    found = key_in_name(seed["name"], environment)
    return () if found is None else (Problem(f"the name holds {found}", "/name"),)


def _looks_valid(seed: Any) -> bool:
    """The seed's schema in a few lines: a command with nothing to do does not import jsonschema.
    What this refuses is judged by the schema itself; a test holds the two together."""
    return (
        isinstance(seed, dict)
        and isinstance(seed.get("name"), str)
        and 0 < len(seed["name"]) <= 200
        and isinstance(seed.get("data"), dict)
        and ("pipeline" not in seed or _is_name(seed["pipeline"]))
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and name_problem(value) is None


_decode = json.JSONDecoder().decode


def read_json(path: str | Path) -> Any:
    """A JSON file of ours, or None where it is missing or damaged."""
    try:
        data = disk.read(path, max_bytes=jsonio.MAX_OWN_BYTES)
        try:
            return _decode(data.decode())
        except ValueError:
            return json.loads(data)  # in another encoding, if anything
    except (OSError, ValueError, PopbuildError, RecursionError):
        return None


def read_letter(folder: JobFolder, task: str) -> Letter | None:
    """A task's letter, or None: missing, truncated, altered and foreign ones are all the same."""
    return open_letter(read_json(folder.at(letter_place(task))), task)


def is_foreign_letter(folder: JobFolder, task: str) -> bool:
    """Whether a task's letter.json is another program's: neither ours, nor ours but altered.

    Such a file is not damaged, and is left as it is. What became of a letter of ours can be
    anything, so the status is asked too: a task that popbuild built has its usage there.
    """
    path = folder.letter(task)
    if not disk.is_regular(path):
        return False
    try:
        return not looks_ours(disk.read(path)) and not _is_built_by_us(folder, task)
    except (OSError, InputError):
        return False


def _is_built_by_us(folder: JobFolder, task: str) -> bool:
    status = read_json(folder.status)
    tasks = status.get("tasks") if isinstance(status, dict) else None
    return isinstance(tasks, dict) and is_built_by_us(tasks.get(task))


def read_decision(folder: JobFolder, task: str) -> Decision | None:
    """What a person said about a task, or None: nothing, or what is damaged or altered."""
    return open_decision(read_json(folder.at(decision_place(task))), task)


def read_artifact(folder: JobFolder, task: Task) -> tuple[Any, str | None]:
    """A main artifact's value and digest; (None, None) where there is none.

    One that is not JSON any more, after an edit by hand, has the digest of its bytes.
    """
    try:
        data = disk.read(folder.at(artifact_place(task.artifact)))
    except (OSError, InputError):
        return None, None
    try:
        value = jsonio.loads(data, task.artifact, max_bytes=jsonio.MAX_OWN_BYTES)
    except InputError:
        return None, jsonio.digest_bytes(data)
    return value, jsonio.digest(value)


def read_samples(root: Root, job: str) -> dict[str, int]:
    """Which draw each task of a job is at, as samples/<job>.json has it: 0 unless said.

    The file is under version control, so a merge may have torn it: InputError.
    """
    where = samples_place(job)
    try:
        data = disk.read(root.at(where), max_bytes=jsonio.MAX_BYTES)
    except FileNotFoundError:
        return {}
    found = jsonio.loads(data, where)
    if not isinstance(found, dict) or not all(map(_is_sample, found.values())):
        raise InputError(
            "not the sample numbers of a job",
            {"file": where, "allowed": 'an object of tasks: {"research": 1}'},
            hint="which draw of its model each task is at; popbuild retry and fresh= count them up",
        )
    return found


def _is_sample(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def frozen_folder(root: Root) -> Path:
    """Where frozen tasks are, a file for each job that has any: by task, what it was made from."""
    return root.private / "frozen"


def with_frozen(root: Root) -> frozenset[str]:
    """The jobs that have frozen tasks."""
    try:
        return frozenset(path.stem for path in frozen_folder(root).iterdir())
    except FileNotFoundError:
        return frozenset()


def read_frozen(root: Root, job: str) -> dict[str, dict[str, Any]]:
    """The tasks of a job that a person froze, each with the values of the seed and of artifacts
    that it was made from, as far as they are known: the job's own copies go on."""
    found = read_json(frozen_folder(root) / f"{job}.json")
    if isinstance(found, list):  # from before the values were kept
        return {task: {} for task in found}
    return found if isinstance(found, dict) else {}


@dataclass
class Surroundings:
    """What all tasks of one command share: configuration, where models answer, and compiled
    schemas, each computed once."""

    config: Config
    _places: dict[str, Place] = field(default_factory=dict)
    _schemas: dict[str, tuple[schemas.Schema, dict[str, str]]] = field(default_factory=dict)
    _sent: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Root:
        return self.config.root

    def inputs(
        self,
        task: Task,
        seed: Any,
        artifacts: Mapping[str, Any],
        job: str,
        sample: int,
        resolved: dict[str, tuple[Any, str]],
    ) -> Inputs:
        """What a task's dependencies are resolved against."""
        return Inputs(
            seed,
            {name: artifacts[name] for name in task.needs if name in artifacts},
            self.config.snapshot.digests,
            self.model_place(task),
            sample,
            job,
            resolved,
        )

    def model_place(self, task: Task) -> Place:
        """Where a task's model answers."""
        if task.model is None or task.command is not None:
            return NOWHERE
        return self.place_of(task.model, task.settings)

    def place_of(self, model: str, settings: Mapping[str, Any]) -> Place:
        """Where a model answers, asked with these settings."""
        key = jsonio.compact([model, *(settings.get(name) for name in ADDRESS_SETTINGS)])
        if key not in self._places:
            self._places[key] = self._place_of(model, settings)
        return self._places[key]

    def _place_of(self, model: str, settings: Mapping[str, Any]) -> Place:
        environment = self.config.environment
        if is_local(model):
            index = self.root.private / "index" / "weights.json"
            return Place(weights=weights_digest(environment, index), is_provider=False)
        return provider_place(model, settings, environment)

    def schema(self, task: Task) -> tuple[schemas.Schema | None, dict[str, str]]:
        """A task's compiled schema, and the digests of the files that it refers to."""
        if task.schema is None:
            return None, {}
        if task.schema not in self._schemas:
            self._schemas[task.schema] = self._compile(task.schema)
        return self._schemas[task.schema]

    def schema_warnings(self, task: Task) -> Iterator[tuple[str, Problem]]:
        """What is ignored in a task's schema, or in a file that it refers to: paths and places."""
        from popbuild.model.schema import dialects, odd_words

        _, used = self.schema(task)
        if task.schema is None:
            return
        documents = self._json_files()
        default = dialects.DEFAULT_DIALECT
        for path in (task.schema, *sorted(used)):
            where = f"pipeline-config/{path}"
            draft = dialects.dialect_of(documents[path], default, where)
            default = draft if path == task.schema else default
            for problem in odd_words.warnings(documents[path], draft, where):
                yield path, problem

    def sent_schema(self, task: Task) -> Any:
        """A task's schema as its calls send it, in one document; None where they send none."""
        schema, used = self.schema(task)
        if task.schema is None or schema is None or task.answer != "json" or task.command:
            return None
        if not used:
            return schema.document
        if task.schema not in self._sent:
            documents = self._json_files()
            self._sent[task.schema] = bundle(task.schema, used, documents, schema.where)
        return self._sent[task.schema]

    def _json_files(self) -> dict[str, Any]:
        """The configuration's JSON files that can be read, by path."""
        documents = {}
        for path, data in self.config.snapshot.files.items():
            if path.endswith(".json"):
                with contextlib.suppress(InputError):
                    documents[path] = jsonio.loads(data, path)
        return documents

    def _compile(self, schema: str) -> tuple[schemas.Schema, dict[str, str]]:
        snapshot = self.config.snapshot
        documents = self._json_files()
        where = f"pipeline-config/{schema}"
        if schema not in documents:
            try:
                jsonio.loads(snapshot.files[schema], where)
            except InputError as error:
                raise ConfigError(error.message, error.values, error.hint) from None
        compiled, used = schemas.compile_task_schema(schema, documents, where)
        return compiled, {path: snapshot.digests[path] for path in used}


@dataclass
class Exam:
    """A job's directory held against today's inputs: a verdict for every task."""

    folder: JobFolder
    seed: Any
    pipeline: Pipeline
    around: Surroundings
    artifacts: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str | None] = field(default_factory=dict)
    letters: dict[str, Letter | None] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    decisions: dict[str, Decision | None] = field(default_factory=dict)  # of gated tasks
    asked: dict[str, str] = field(default_factory=dict)  # tasks a person wants built, and why
    samples: Mapping[str, int] = field(default_factory=dict)  # which draw a task is at, from 0
    frozen_from: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # see read_frozen
    last_seed: Any = None  # what the job's own copy was, where today's seed stands in its place
    _resolved: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def moved(self, folder: JobFolder, last_seed: Any) -> Exam:
        """The same of a directory with the same files, in which today's seed takes the place of
        `last_seed`. What was read is not read again."""
        return dataclasses.replace(self, folder=folder, last_seed=last_seed)

    def look(self, task: Task) -> Verdict:
        """Read a task's letter and artifact anew, and say whether it must run."""
        value, digest = read_artifact(self.folder, task)
        if digest is not None:
            self.artifacts[task.id] = value
        else:
            self.artifacts.pop(task.id, None)
        self.digests[task.id] = digest
        letter = self.letters[task.id] = read_letter(self.folder, task.id)
        if task.human_gate is not None:
            self.decisions[task.id] = read_decision(self.folder, task.id)
        last = self.last_letter(task)
        stale = tuple(
            name for name in task.needs if name in self.verdicts and self.verdicts[name].stale
        )
        verdict = staleness.verdict_of(
            task,
            last,
            self.inputs(task),
            digest,
            stale,
            functools.partial(self._before, last),
            asked=self.asked.get(task.id),
            frozen=task.id in self.frozen_from,
        )
        if last is not letter:
            verdict = staleness.unfinished(verdict)
        if letter is None and disk.stands(self.folder.letter(task.id)):
            foreign = is_foreign_letter(self.folder, task.id)
            verdict = staleness.FOREIGN if foreign else staleness.DAMAGED
        self.verdicts[task.id] = verdict
        return verdict

    def last_letter(self, task: Task) -> Letter | None:
        """A task's letter; where the start of a build dropped it, and nothing finished since, that
        of the last good result: what changed since then is why it is to be built."""
        letter = self.letters[task.id]
        last_good = self.around.root.job(COMPLETE, self.folder.id)
        if letter is not None or self.folder == last_good:
            return letter
        return read_letter(last_good, task.id)

    def made_from(self, task: str) -> dict[str, Any]:
        """The values of the seed and of artifacts that a task was made from, as far as known."""
        letter = self.letters[task]
        last = letter.fingerprint if letter else {}
        found = {each: self._before(letter, each, digest) for each, digest in last.items()}
        return {
            dependency: value
            for dependency, value in found.items()
            if value is not MISSING and dependency.startswith(("seed:", "artifact:"))
        }

    def changes(self, task: Task) -> tuple[DependencyChange, ...]:
        """Every dependency of a task that differs from its last letter; none without one."""
        letter, inputs = self.last_letter(task), self.inputs(task)
        if letter is None:
            return ()
        last, past = letter.fingerprint, functools.partial(self._before, letter)
        return staleness.changes(last, staleness.current(last, task, inputs), task, inputs, past)

    def _before(self, letter: Letter | None, dependency: str, digest: str) -> Any:
        """The value that a dependency had at the last build, or MISSING where nobody knows: the
        job's own copy of its seed, the letter's settings, and the last good result have it."""
        kind, _, rest = dependency.partition(":")
        if letter is None:
            return MISSING
        if kind == "setting":
            settings = letter.body.get("configuration")
            return settings.get(rest, MISSING) if isinstance(settings, dict) else MISSING
        root, job = self.around.root, self.folder.id
        kept = self.frozen_from.get(letter.task, {}).get(dependency, MISSING)
        if staleness.value_digest(kept) == digest:
            return kept
        last_good = root.job(COMPLETE, job)
        if kind == "seed":
            paths, pointer = [self.folder.seed, last_good.seed], rest
        elif kind == "artifact":
            upstream, _, pointer = rest.partition(":")
            if upstream not in self.pipeline.names:
                return MISSING
            paths = [last_good.artifact(self.pipeline.task(upstream).artifact)]
        else:
            return MISSING
        documents = [self.last_seed] if kind == "seed" and self.last_seed is not None else []
        for document in itertools.chain(documents, map(read_json, paths)):
            value = value_at(document, pointer)
            if staleness.value_digest(value) == digest:
                return value
        return MISSING

    def inputs(self, task: Task) -> Inputs:
        return self.around.inputs(
            task,
            self.seed,
            self.artifacts,
            self.folder.id,
            self.samples.get(task.id, 0),
            self._resolved,
        )

    def settle(self, task: Task, value: Any, letter: Letter) -> None:
        """A task was built: what stands below it is judged by the new artifact."""
        self.artifacts[task.id] = value
        self.digests[task.id] = jsonio.digest(value)
        self.letters[task.id] = letter
        self.verdicts[task.id] = Verdict(())
        self.asked.pop(task.id, None)

    def draw_again(self, task: Task) -> int:
        """Let a task draw the sample after its last one; gives its number."""
        letter = self.letters[task.id]
        drawn = [int(call["sample"]) for call in letter.body.get("calls", ())] if letter else []
        number = max([self.samples.get(task.id, 0), *drawn]) + 1
        self.samples = {**self.samples, task.id: number}
        return number

    # Human gates.

    def decided_about(self, task: Task) -> dict[str, str]:
        """The digests of a gated task's artifacts as they stand: the main one, and those that the
        gate names. One that is missing has none."""
        found = {task.artifact: self.digests.get(task.id) or jsonio.ABSENT}
        for name in task.human_gate.artifacts if task.human_gate else ():
            if name not in found:
                path = self.folder.artifact(name)
                there = disk.is_regular(path)
                found[name] = jsonio.digest_bytes(disk.read(path)) if there else jsonio.ABSENT
        return found

    def asked_of(self, task: Task) -> str:
        """The digest of what a gated task's question is about: its words, and the artifacts as they
        stand."""
        message = task.human_gate.message if task.human_gate else ""
        about = {"task": task.id, "message": message, "artifacts": self.decided_about(task)}
        return jsonio.digest(about)

    def standing(self, task: Task) -> str | None:
        """What a person said about a task's artifacts as they stand: approved, rejected, or open
        where nobody did. None without a human gate, and while the task is to be built."""
        if task.human_gate is None or self.digests.get(task.id) is None:
            return None
        if self.verdicts[task.id].stale:
            return None
        decision = self.decisions.get(task.id)
        if decision is None or not decision.holds_for(self.decided_about(task)):
            return OPEN
        return decision.decision

    def held_by(self, task: Task) -> tuple[str, ...]:
        """The tasks above, directly or not, whose human gates hold this one back: nobody has
        approved what they made, or they are still to be built."""
        gated = self.pipeline.gated
        above = self.pipeline.upstream(task.id) if gated else ()
        return tuple(
            each.id for each in gated if each.id in above and self.standing(each) != APPROVED
        )

    @property
    def questions(self) -> tuple[Question, ...]:
        """What a person is to decide: every open gate."""
        return tuple(
            Question(
                task.id, task.human_gate.message, task.human_gate.artifacts, self.asked_of(task)
            )
            for task in self.pipeline.gated
            if task.human_gate is not None and self.standing(task) == OPEN
        )

    @property
    def refused(self) -> Task | None:
        """A task whose artifacts, as they stand, a person rejected."""
        gated = self.pipeline.gated
        return next((task for task in gated if self.standing(task) == REJECTED), None)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The tasks that are kept as they are, whatever changes."""
        return tuple(name for name, verdict in self.verdicts.items() if verdict.frozen)

    def up_to_date(self, tasks: Iterable[str] | None = None) -> bool:
        """Whether nothing has to be done: no task is stale, none was edited."""
        names = self.pipeline.names if tasks is None else tasks
        return not any(self.verdicts[name].stale or self.verdicts[name].edited for name in names)


def examine(folder: JobFolder, seed: Any, pipeline: Pipeline, around: Surroundings) -> Exam:
    """Hold a job's directory against today's inputs. Reads; writes nothing."""
    samples = read_samples(around.root, folder.id)
    frozen = read_frozen(around.root, folder.id)
    exam = Exam(folder, seed, pipeline, around, samples=samples, frozen_from=frozen)
    for task in pipeline.in_order:
        exam.look(task)
    return exam
