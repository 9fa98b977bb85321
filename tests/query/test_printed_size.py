"""How long a JSON value is where a template prints it, found without printing it."""

from __future__ import annotations

import json

import pytest

from popbuild.query.estimate import most_tokens, most_tokens_of_json


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        'é\n"',
        [],
        {},
        [[]],
        {"a": {}},
        {"a": {"b": [1, 2.5, None, {"c": []}], "d": "x"}, "e": [[["deep"]]], "f": True},
    ],
)
def test_it_is_the_size_of_the_indented_text(value: object) -> None:
    """A bound on a prompt is that of the text that a template would print."""
    assert most_tokens_of_json(value) == most_tokens(json.dumps(value, indent=4))
