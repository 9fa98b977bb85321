"""A setting of a task is declared once: in the schema of task.yaml, and as a field of Task."""

from __future__ import annotations

import dataclasses

from popbuild.model.pipeline import Task, said_of_task
from popbuild.model.schema.schemas import for_format

# What the reader itself makes of a key: other files, the model's settings, gates, scores.
READ = {"/files", "/config", "/gate/message", "/gate/artifacts", "/scores", "/gate/scores"}


def test_each_key_of_task_yaml_is_read() -> None:
    """Every key that the schema allows is a field of Task, or read by the reader, and no other."""
    properties = for_format("task").document["properties"]
    allowed = {f"/{key}" for key in properties if key != "gate"}
    allowed |= {f"/gate/{key}" for key in properties["gate"]["properties"]}
    pointers = {each.metadata.get("pointer") for each in dataclasses.fields(Task)} - {None, ""}
    assert pointers | READ == allowed


def test_what_a_document_says_becomes_fields() -> None:
    """Lists become tuples, seconds are floats, and an absent key leaves its default."""
    document = {"needs": ["a"], "timeout": 5, "gate": {"refinements": 0, "message": "Good?"}}
    assert said_of_task(document) == {"needs": ("a",), "timeout_s": 5.0, "refinements": 0}
    assert isinstance(said_of_task(document)["timeout_s"], float)
    assert said_of_task({}) == {}


def test_what_changes_an_answer_is_a_dependency() -> None:
    """Texts as they are, other values by digest, and nothing for a default."""
    task = Task("t", "t", "tasks/t", {}, (), "t-output.json", "json", timeout_s=5.0)
    assert task.dependencies == {"output": "t-output.json", "answer": "json"}
    command = dataclasses.replace(task, command=("make", "it"))
    digest = "sha256:9c3b768d5b5334d66150044cddc573be64d5c9033903204c93017c116d47a125"
    assert command.dependencies == {**task.dependencies, "command": digest}
