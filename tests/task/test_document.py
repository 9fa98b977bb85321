"""The document in an answer: what counts, what is mended, what is refused and not guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popbuild.task.answer.document import NoDocument, parse_json
from popbuild.task.answer.kinds import Kinds

OBJECT = {"type": "object", "required": ["content"]}
OBJECTS = {"type": "array", "items": {"type": "object"}}
NUMBERS = {"type": "array", "items": {"type": "integer"}}
ARRAY = {"type": "array"}
X = {"content": "x"}
CITED = ", ".join(f"[{number}]" for number in range(1, 1000))

# What an answer holds: its schema, the answer, the document.
FOUND: dict[str, tuple[Any, str, Any]] = {
    "bare": (OBJECT, '{"content":"x"}', X),
    "with space around": (OBJECT, ' \r\n{"content":"x"}\n\n', X),
    "behind a BOM": (OBJECT, '\ufeff{"content":"x"}', X),
    "between no-break spaces": (OBJECT, '\xa0{"content":"x"}\xa0', X),
    "in a fence": (OBJECT, '```json\n{"content":"x"}\n```', X),
    "in a fence without a language": (OBJECT, '```\n{"content":"x"}\n```', X),
    "in a fence of tildes": (OBJECT, '~~~json\n{"content":"x"}\n~~~', X),
    "in a fence of four": (OBJECT, '````json\n{"content":"x"}\n````', X),
    "in a fence with CRLF": (OBJECT, '```json\r\n{"content":"x"}\r\n```\r\n', X),
    "in a fence that never closes": (OBJECT, '```json\n{"content":"x"}', X),
    "in a fence behind words": (OBJECT, 'Here: ```json\n{"content":"x"}\n```', X),
    "in a fence on one line": (OBJECT, 'It is ```json {"content":"x"}``` then.', X),
    "in an indented fence": (OBJECT, '1. So:\n   ```json\n   {"content":"x"}\n   ```', X),
    "in a code span": (OBJECT, 'It is `{"content":"x"}`.', X),
    "between quotes": (OBJECT, 'It is "{"content":"x"}".', X),
    "behind a sentence": (OBJECT, 'Here it is: {"content":"x"}', X),
    "before a sentence": (OBJECT, '{"content":"x"}\n\nI hope that this helps.', X),
    "a fence inside its string": (
        OBJECT,
        '```json\n{"content":"use ```js\\ncode\\n``` x"}\n```',
        {"content": "use ```js\ncode\n``` x"},
    ),
    "a document inside its string": (
        OBJECT,
        'So: {"content":"{\\"content\\":\\"inner\\"} [1]"}',
        {"content": '{"content":"inner"} [1]'},
    ),
    "brackets inside its string": (OBJECT, 'So: {"content":"}]{["}', {"content": "}]{["}),
    # Prose that has brackets of its own.
    "a citation before": (OBJECT, 'As in [1]: {"content":"x"}', X),
    "a citation behind": (OBJECT, '{"content":"x"}\nSource: [1]', X),
    "a thousand citations before": (OBJECT, f'As in {CITED}: {{"content":"x"}}', X),
    "a thousand citations behind": (OBJECT, f'{{"content":"x"}}\nAs in {CITED}', X),
    "a link": (OBJECT, 'See [the text](https://example.org/[a]): {"content":"x"}', X),
    "an image": (OBJECT, '![alt](x.png)\n{"content":"x"}\n![alt](y.png)', X),
    "a placeholder": (OBJECT, 'With {placeholder} set: {"content":"x"}', X),
    "a placeholder behind": (OBJECT, '{"content":"x"}\nFill in {placeholder}.', X),
    "a template": (OBJECT, 'With {{ mustache }} set: {"content":"x"}', X),
    "a template behind": (OBJECT, '{"content":"x"}\nIt prints {{ seed.name }}.', X),
    "a citation needed": (OBJECT, 'So it is [citation needed]. {"content":"x"}', X),
    "a set": (OBJECT, 'For all of {a, b}: {"content":"x"}', X),
    "an empty array": (OBJECT, 'The list [] is empty: {"content":"x"}', X),
    "an interval": (OBJECT, 'Values in [0, 1) only: {"content":"x"}', X),
    "an interval behind": (OBJECT, '{"content":"x"}\nValues in [0, 1) only.', X),
    "code": (OBJECT, 'As in if (x) { return } or f[0]: {"content":"x"}', X),
    "code that nests": (OBJECT, 'function f() { if (x) { return [1] } }\n{"content":"x"}', X),
    "code with a document inside": (
        OBJECT,
        'f = () => { return {"content":"inner"} }\n{"content":"x"}',
        X,
    ),
    "an apostrophe in brackets": (OBJECT, '[I don\'t know] {"content":"x"}', X),
    "an inch in brackets": (OBJECT, '[a 5" disk] {"content":"x"}', X),
    "an inch at their beginning": (OBJECT, '[5" disk] {"content":"x"}', X),
    "a bracket that is talked about": (OBJECT, 'It begins with `{`: {"content":"x"}', X),
    "one between quotes": (OBJECT, 'It begins with "[" or \'{\'.\n{"content":"x"}', X),
    "a task list": (OBJECT, '- [ ] one\n- [x] two\n{"content":"x"}', X),
    "a log line": (OBJECT, '[INFO] it starts\n{"content":"x"}\n[INFO] it ends', X),
    "colours": (OBJECT, '\x1b[32mdone\x1b[0m\n{"content":"x"}', X),
    "LaTeX": (OBJECT, '\\[ x_{1} = \\frac{1}{2} \\]\n{"content":"x"}', X),
    "numbers in an array, for objects": (OBJECTS, 'As in [1]: [{"a":1}]\nand [2]', [{"a": 1}]),
    "numbers amid a line, for numbers": (NUMBERS, "In [1] it is:\n[3, 4]\nas in [2].", [3, 4]),
    "numbers amid a line and nothing else": (NUMBERS, "It is [3, 4], I think.", [3, 4]),
    "numbers amid a line, without a schema": (None, '{"content":"x"}\nSee [1].', X),
    # Fences around something else.
    "a fence in another language": (
        OBJECT,
        '```python\nx = {"content": "inner"}\n```\n```json\n{"content":"x"}\n```',
        X,
    ),
    "one behind": (OBJECT, '{"content":"x"}\n```python\nx = {"content": "inner"}\n```', X),
    "one with a bracket that never closes": (
        OBJECT,
        '```sh\ncase $x in [a) ;; esac\n```\n{"content":"x"}',
        X,
    ),
    "the document in one": (OBJECT, '```javascript\n{"content":"x"}\n```', X),
    # Several whole ones.
    "a draft, then the final": (OBJECT, '{"content":"draft"}\nToo long:\n{"content":"x"}', X),
    "a longer draft": (OBJECT, f'{{"content":"{"draft " * 50}"}}\n{{"content":"x"}}', X),
    "drafts in fences": (
        OBJECT,
        '```json\n{"content":"draft"}\n```\nBetter:\n```json\n{"content":"x"}\n```\n',
        X,
    ),
    "JSON Lines": (OBJECT, '{"content":"a"}\n{"content":"b"}\n{"content":"x"}', X),
    "JSON Lines with commas": (OBJECT, '{"content":"a"},\n{"content":"x"},', X),
    "a broken draft, then the final": (OBJECT, "{'content': 'draft'}\n{\"content\":\"x\"}", X),
    "a final that does not pass": (OBJECT, '{"content":"y"}\nOr:\n{"text":"x"}', {"text": "x"}),
    # Another type than the schema's: left for the gate, which says so.
    "an array for an object": (OBJECT, "[1]", [1]),
    "a text for an object": (OBJECT, '"x"', "x"),
    # Scalars.
    "a number": ({"type": "number"}, "42", 42),
    "a negative number": ({"type": "number"}, " -4.5e1\n", -45.0),
    "a number in a fence": ({"type": "integer"}, "It is:\n```\n42\n```", 42),
    "a text": ({"type": "string"}, '"a text"', "a text"),
    "a text in a fence": ({"type": "string"}, '```json\n"a text"\n```', "a text"),
    "a text with a document": ({"type": "string"}, '"{\\"a\\":1}"', '{"a":1}'),
    "true": ({"type": "boolean"}, "true", True),
    "false in a fence": ({"enum": [True, False]}, "```\nfalse\n```", False),
    "null": ({"type": ["null", "object"]}, "null", None),
    # What the schema takes, told by more than `type`.
    "through a reference": (
        {"$ref": "#/$defs/a", "$defs": {"a": OBJECT}},
        '{"content":"x"} [1, "a"]',
        X,
    ),
    "through allOf": ({"allOf": [OBJECT, {}]}, '{"content":"x"}\n["a"]', X),
    "through anyOf": ({"anyOf": [OBJECT, {"type": "null"}]}, '{"content":"x"}\n["a"]', X),
    "through const": ({"const": ["a"]}, '["a"]\n{"content":"x"}', ["a"]),
    "through its keywords": ({"properties": {"content": {}}}, '{"content":"x"} ["a"]', X),
    "through those of an array": ({"items": {}}, '["a"]\n{"content":"x"}', ["a"]),
}

# What is mended: the answer, the document, what the letter says.
MENDED: dict[str, tuple[str, Any, str]] = {
    "a raw newline": ('{"content":"a\nb"}', {"content": "a\nb"}, "control characters"),
    "a raw newline above a document": (
        '{"content":"a\nb","meta":{"content":"inner"}}',
        {"content": "a\nb", "meta": {"content": "inner"}},
        "control characters",
    ),
    "a tab and CRLF": ('{"content":"a\tb\r\nc"}', {"content": "a\tb\r\nc"}, "control characters"),
    "a NUL": ('{"content":"a\x00b"}', {"content": "a\x00b"}, "control characters"),
    "in a key": ('{"a\nb":1}', {"a\nb": 1}, "control characters"),
    "a fence on lines of its own": (
        '```json\n{"content":"use\n```js\ncode\n```\nx"}\n```',
        {"content": "use\n```js\ncode\n```\nx"},
        "control characters",
    ),
    "a trailing comma": ('{"a":1,}', {"a": 1}, "a comma before"),
    "trailing commas": ('{"a":[1,2,],"b":{"c":3,},}', {"a": [1, 2], "b": {"c": 3}}, "a comma"),
    "one before space": ('{"a":[1,\n  2,\n  ] ,\n}', {"a": [1, 2]}, "a comma before"),
    "one in a string stays": ('{"a":",]",}', {"a": ",]"}, "a comma before"),
    "a doubled brace": ('{{"a":{"b":1}}}', {"a": {"b": 1}}, "a doubled outer brace"),
    "one over lines": ('{\n{"a":1}\n}', {"a": 1}, "a doubled outer brace"),
    "one in prose": ('It is {{"a":1}} then.', {"a": 1}, "a doubled outer brace"),
    "encoded twice": ('"{\\"a\\":\\"\\\\n\\"}"', {"a": "\n"}, "encoded twice"),
    "in a fence": ('```json\n"{\\"a\\":1}"\n```', {"a": 1}, "encoded twice"),
    "encoded three times": (json.dumps(json.dumps('{"a":1}')), {"a": 1}, "encoded twice"),
    "a no-break space": ('{\xa0"a":\u20091 }', {"a": 1}, "spaces between"),
    "a zero-width space": ('{"a":1\u200b}', {"a": 1}, "spaces between"),
    "two slips": ('{"a":"b\nc",}', {"a": "b\nc"}, "a comma before"),
    "behind prose": ('Here: {"a":"b\nc",} [1]', {"a": "b\nc"}, "control characters"),
}

# What is not a document: its schema, the answer, what is said.
REFUSED: dict[str, tuple[Any, str, str]] = {
    "a lost beginning": (OBJECT, '{"content": "x"}]}}', "a part of a document"),
    "a brace too many": (OBJECT, 'Here: {"content": "x"}\n}', "a part of a document"),
    "prose": (OBJECT, "I cannot do that.", "there is only prose; its schema takes object"),
    "only a citation": (OBJECT, "The sources agree, see [1] for more.", "takes object"),
    "only a citation, without a schema": (
        None,
        "The sources agree, see [1].",
        "there is only prose",
    ),
    "only a citation, for objects": (OBJECTS, "As in [1] and [2].", "takes array"),
    "cut": (OBJECT, '{"content":"x', "Unterminated string starting at line 1, column 12"),
    "cut above a whole part": (
        OBJECT,
        '{"title":"x","sections":[{"content":"one"},{"content":"two is cut',
        "it begins at line 1, column 1, and never closes",
    ),
    "cut inside a string with brackets": (
        OBJECT,
        '{"content":"s","attachment":"echo [1, 2] cut',
        "line 1, column 29",
    ),
    "cut inside a string with a document": (OBJECT, '{"a":"say {\\"content\\":1} cut', "column 6"),
    "a cut array": (OBJECT, 'Here is it: [{"a":1}, {"a":2', "it begins at line 1, column 13"),
    "a cut array of whole ones": (OBJECT, '[{"content":"a"},\n{"content":"b"},\n', "never closes"),
    "a cut final": (OBJECT, '{"content":"draft"}\nBetter:\n{"content":"two is', "never closes"),
    "a cut final, just begun": (OBJECT, '{"content":"draft"}\nBetter:\n{', "never closes"),
    "a cut final in a fence": (
        OBJECT,
        '```json\n{"content":"draft"}\n```\nBetter:\n```json\n{"content":"two',
        "it begins at line 6, column 1",
    ),
    "a cut final that is an array": (OBJECT, '{"content":"draft"}\n[{"content":"a"},', "never"),
    "a broken final": (OBJECT, '{"content":"draft"}\n{"content": final}', "line 2, column 13"),
    "single quotes": (OBJECT, "{'content': 'x'}", "double quotes at line 1, column 2"),
    "a final in single quotes": (OBJECT, "{\"content\":\"draft\"}\n{'content': 'x'}", "line 2"),
    "keys without quotes": (OBJECT, '{"content":"draft"}\n{content: "x"}', "line 2, column 2"),
    "Python's words": (OBJECT, '{"content": True}', "Expecting value at line 1, column 13"),
    "a comment": (OBJECT, '{"a": 1, // one\n"b": 2}', "line 1, column 10"),
    "a missing comma": (OBJECT, '{"a": 1 "b": 2}', "Expecting ',' delimiter at line 1, column 9"),
    "a missing colon": (OBJECT, '{"a" 1}', "Expecting ':' delimiter at line 1, column 6"),
    "a missing value": (OBJECT, '{"a":,}', "Expecting value at line 1, column 6"),
    "two commas": (ARRAY, '["a",,]', "line 1, column 6"),
    "a comma alone": (ARRAY, "[,]", "no JSON document"),
    "quotes inside a string": (OBJECT, '{"content": "say "hi" now"}', "line 1, column 19"),
    "what stands inside a broken one": (
        OBJECT,
        "{'a': {\"content\":\"inner\"}, 'b': 2}",
        "it begins at line 1, column 1",
    ),
    "what stands inside an elided one": (
        OBJECT,
        '{ ..., "a": {"content":"inner"}, "b": "cut',
        "the bracket at line 1, column 1 never closes",
    ),
    "a member whose beginning is missing": (
        OBJECT,
        '"title":"x","meta":{"content":"inner"}}',
        "what begins at line 1, column 20 is a part",
    ),
    "items whose beginning is missing": (OBJECT, '"one"},{"content":"two"}]}', "is a part"),
    "a part behind a quote too many": (
        OBJECT,
        '{"a": "say "hi } there" ok", "m": {"content":"inner"}, "n": 1}',
        "is a part",
    ),
    "duplicate keys": (OBJECT, '{"a":1,"a":2}', "duplicate key 'a' at line 1, column 8"),
    "NaN": (OBJECT, '{"a":NaN}', "NaN, which is not JSON at line 1, column 6"),
    "too large a number": (OBJECT, '{"a":1e999}', "too large a number"),
    "half a character": (OBJECT, '{"a":"\\ud800"}', "half a surrogate pair"),
    "too deep": (OBJECT, '{"a":' + "[" * 300 + "]" * 300 + "}", "nested too deeply"),
    "two documents in doubled braces": (OBJECT, '{{"a":1},{"b":2}}', "line 1, column 2"),
    "half of an encoded one": (OBJECT, '"{\\"a\\":1', "no JSON document"),
    "JSON Lines for an array": (OBJECTS, '{"a":1}\n{"a":2}', "takes array"),
    "another type in a fence": (
        OBJECT,
        "So:\n```json\n[1]\n```",
        "there is only array at line 2, column 8; its schema takes object",
    ),
    "a bracket that takes the rest": (
        OBJECT,
        'As [noted {"content":"x"}',
        "the bracket at line 1, column 4 never closes",
    ),
}


@pytest.mark.parametrize("kind", FOUND)
def test_the_document_is_found(kind: str) -> None:
    """Bare, in a fence, or between prose whose brackets are not documents."""
    schema, answer, document = FOUND[kind]
    assert parse_json(answer, Kinds(schema)).value == document


@pytest.mark.parametrize("kind", MENDED)
def test_a_harmless_slip_is_mended_and_told(kind: str) -> None:
    """No value is invented or dropped, and the letter says what was mended."""
    answer, document, said = MENDED[kind]
    found = parse_json(answer, Kinds({"type": "object"}))
    assert found.value == document
    assert any(said in warning for warning in found.warnings), found.warnings


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_have_to_be_guessed_is_refused(kind: str) -> None:
    """A piece of a broken document is never the document; the outer one's break is told."""
    schema, answer, said = REFUSED[kind]
    with pytest.raises(NoDocument) as refused:
        parse_json(answer, Kinds(schema))
    assert said in str(refused.value)


def test_several_documents_are_told() -> None:
    """Only where there are several that the schema takes."""
    several = parse_json('{"a":1}\n{"a":2}', Kinds(OBJECT))
    assert several.warnings == ("the answer holds several whole documents; the last one counts",)
    assert parse_json('[2] {"a":1} {x} [1]', Kinds(OBJECT)).warnings == ()


# --- any document, any cut ---

TEXTS = st.text(st.sampled_from("ab\"\\{}[]:,\n\t é`'1"), max_size=8)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-99, 99), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, max_size=4)
PROSE = st.sampled_from(
    ["", "Here it is:\n", "As in [1], [2] and [note]:\n", "With {x} or {{ y }}:\n", "```json\n"]
)
KINDS = Kinds({"type": "object"})


@settings(max_examples=60)
@given(DOCUMENTS, PROSE, st.sampled_from([None, 1]))
def test_no_cut_document_gives_a_value(
    document: dict[str, Any], before: str, indent: int | None
) -> None:
    """Whatever a document holds: cut anywhere, no piece of it counts; whole, it is found."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    for end in range(1, len(text)):
        with pytest.raises(NoDocument):
            parse_json(before + text[:end], KINDS)
    assert parse_json(before + text + "\nSee [1] and {x}.", KINDS).value == document


@settings(max_examples=40)
@given(DOCUMENTS, DOCUMENTS)
def test_a_cut_final_is_not_replaced_by_its_draft(
    draft: dict[str, Any], final: dict[str, Any]
) -> None:
    """The draft was thrown away by the model."""
    text = json.dumps(final)
    begin = json.dumps(draft) + "\nBetter:\n"
    for end in range(1, len(text)):
        with pytest.raises(NoDocument):
            parse_json(begin + text[:end], KINDS)
    assert parse_json(begin + text, KINDS).value == final


@settings(max_examples=100)
@given(DOCUMENTS, st.data())
def test_slips_are_mended_to_the_value(document: dict[str, Any], data: st.DataObject) -> None:
    """A document with random slips has the value that it would have without them."""
    text = json.dumps(document, ensure_ascii=False)
    slipped, inside, position = [], False, 0
    while position < len(text):
        part = text[position : position + 2] if text[position] == "\\" else text[position]
        position += len(part)
        inside ^= part == '"'
        if part in ("\\n", "\\t") and inside and data.draw(st.booleans()):
            part = {"\\n": "\n", "\\t": "\t"}[part]
        last = next((each for each in reversed(slipped) if each.strip()), "")
        if part in ("}", "]") and not inside and last not in "{[" and data.draw(st.booleans()):
            part = "," + part
        slipped.append(part)
    answer = "".join(slipped)
    if data.draw(st.booleans()):
        answer = "{" + answer + "}"
    assert parse_json(answer, KINDS).value == document


def test_linear_in_time() -> None:
    """A long answer that is nearly a document is scanned a few times, not its square: quadratic,
    one of these would take an hour."""
    for unit in ("[", '{"a":', "[1], ", '{"a" b}, ', "```js\n", '\\"', "<think>", "{ </think>"):
        with pytest.raises(NoDocument):
            parse_json(unit * (100_000 // len(unit)), Kinds(OBJECTS))
