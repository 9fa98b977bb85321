"""A model's reasoning is never part of a document or of a text; what an answer says of it is."""

from __future__ import annotations

import json

import pytest

from popbuild.base.texts import is_blank
from popbuild.task.answer.document import NoDocument, parse_json, parse_text
from popbuild.task.answer.kinds import Kinds

OBJECT = Kinds({"type": "object"})
DRAFT = '{"content":"a draft, and a } or two"} and [1] or { or "'
HARMONY = "<|start|>assistant<|channel|>final<|message|>"

# How models, and what serves them, set reasoning apart.
PAIRS = {
    "think": ("<think>", "</think>"),
    "thinking": ("<thinking>", "</thinking>"),
    "upper case": ("<THINK>", "</THINK>"),
    "attributes": ('<think type="deep" n=1>', "</think>"),
    "Anthropic's": ("<antThinking>", "</antThinking>"),
    "Seed": ("<seed:think>", "</seed:think>"),
    "MiniMax": ("<mm:think>", "</mm:think>"),
    "K2": ("<ifm|think>", "</ifm|think>"),
    "thought": ("<thought>", "</thought>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "scratchpad": ("<scratchpad>", "</scratchpad>"),
    "reflection": ("<reflection>", "</reflection>"),
    "analysis": ("<analysis>", "</analysis>"),
    "chain of thought": ("<chain_of_thought>", "</chain_of_thought>"),
    "Mistral": ("[THINK]", "[/THINK]"),
    "Kimi": ("◁think▷", "◁/think▷"),
    "Cohere": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "OpenThinker": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "Gemma": ("<|channel>thought\n", "<channel|>"),
    "tokens": ("<|thinking|>", "<|/thinking|>"),
    "MedGemma": ("<unused94>thought\n", "<unused95>"),
    "Pangu": ("[unused16]", "[unused17]"),
    "gpt-oss": ("<|channel|>analysis<|message|>", f"<|end|>{HARMONY}"),
    "gpt-oss, commentary": ("<|channel|>commentary to=user<|message|>", HARMONY),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_of_tags(pair: str) -> None:
    """Taken out of texts and documents: a block, a closing half alone, several blocks; one that
    never closes is a failure that names the tag and its place."""
    opening, closing = PAIRS[pair]
    for answer in (
        f"{opening}{DRAFT}{closing}",
        f" \n{opening}\n{DRAFT}\n{closing}\n\n",
        f"{DRAFT}{closing}",
        f"{opening}{DRAFT}{closing}\n{opening}{closing}",
        f"{opening}I open {opening} again{closing}",
        f"{opening}one{opening}two{closing}three{closing}",
    ):
        assert parse_text(f"{answer}The answer.").value == {"content": "The answer."}, answer
        found = parse_json(f'{answer}\n{{"content":"final"}}', OBJECT)
        assert found.value == {"content": "final"}, answer
        assert found.warnings == ()
        assert "characters of reasoning" in found.notes[0]
    for parse in (parse_text, lambda each: parse_json(each, OBJECT)):
        with pytest.raises(NoDocument, match="reasoning never ends: nothing closes") as refused:
            parse(f'\n {opening}{DRAFT} {{"content":"final"}}')
        assert opening.strip() in str(refused.value)
        assert str(refused.value).endswith("at line 2, column 2")
        with pytest.raises(NoDocument, match="the answer is empty: all of it is reasoning"):
            parse(f"{opening}{DRAFT}{closing} \u200b\n")


# What an answer says of such tags, or holds in code, stays as it is.
TEXTS = {
    "in a code span": "Use `<think>` and `</think>` for it.",
    "a pair in a code span": "Like `<think>so</think>` then.",
    "the closing one in a code span": "It ends with `</think>` always.",
    "between quotes": 'It ends with "</think>" always.',
    "in a fence": "Like:\n```xml\n<think>\nso\n</think>\n```\nThen go on.",
    "the closing one in a fence": "It ends:\n\n~~~\n</think>\n~~~",
    "another tag": "<b>So</b> it is.",
    "a tag that begins alike": "<thinker>So</thinker> it is.",
    "an element of its own": "<report>\n<reasoning>So.</reasoning>\n</report>",
    "one that is open": "<report>\n<thought>\n</report>",
    "a word": "analysis of it: the assistant, finally, thinks.",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_may_speak_of_tags(kind: str) -> None:
    """Code, quotes and other elements are content."""
    assert parse_text(TEXTS[kind]).value == {"content": TEXTS[kind]}


CONTENTS = [
    "use <think> tags",
    "use <think>so</think> tags",
    "it ends with </think>",
    "[/THINK]\n```\n</think>\n```",
    "<|channel|>final<|message|>{",
]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    "before", ["", "Here it is [1]:\n", "<think>So {.</think>", "So { </think>"]
)
def test_a_document_may_speak_of_tags(content: str, before: str) -> None:
    """Inside a whole document's strings they are content, whatever stands before it."""
    document = {"content": content, "more": [content]}
    for text in (json.dumps(document), f"```json\n{json.dumps(document, indent=1)}\n``` Done."):
        assert parse_json(before + text, OBJECT).value == document


BLOCKS = {
    "behind words": ("Sure. <think>Hm.</think>So it is.", "Sure. So it is."),
    "behind the text": ("So it is.\n<think>Was it right?</think>", "So it is."),
    "two further on": ("One.<think>a</think>\n<think>b</think>Two.", "One."),
    "one that closes on its line": ("Hm, let me see.</think> So it is.", "So it is."),
    "closing tags again and again": ("a</think>b</think>c</think>So it is.", "So it is."),
    "a solution's tokens": (
        "<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>So.<|end_of_solution|>",
        "So.",
    ),
    "an answer's tags": ("<think>a</think>\n<answer>\nSo it is.\n</answer>\n", "So it is."),
    "a response's tokens": (
        "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>So.<|END_RESPONSE|>",
        "So.",
    ),
    "gpt-oss's last token": (
        f"<|channel|>analysis<|message|>a<|end|>{HARMONY}So it is.<|return|>",
        "So it is.",
    ),
    "gpt-oss's final channel alone": ("<|channel|>final<|message|>So it is.", "So it is."),
    "gpt-oss without its tokens": (
        "analysisThe user wants it.assistantfinalSo it is.",
        "So it is.",
    ),
    "mentioned in the reasoning": (
        "<think>They want `</think>` and {.\n</think>So it is.",
        "So it is.",
    ),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_reasoning_further_on(kind: str) -> None:
    """Reasoning goes wherever it stands, with what stands around an answer behind it."""
    answer, text = BLOCKS[kind]
    content = parse_text(answer).value["content"]
    assert content.split("\n")[0].strip() == text
    for tag in ("think", "<|", "answer>"):
        assert tag not in content


@pytest.mark.parametrize(
    ("answer", "document"),
    [
        ('{"a":1}\n<think>Or {"a":2}?</think>', {"a": 1}),
        ('{"a":1}\n<think>Or {"a":2}?</think>\n{"a":3}', {"a": 3}),
        ('Sure: <think>{"a":1</think> {"a":2}', {"a": 2}),
        ('I see {"a": "x</think>{"a":2}', {"a": 2}),
        ('{"a":1} is wrong.</think>\n{"a":2}', {"a": 2}),
        ('I use the `<think>` tag. {"a":2}', {"a": 2}),
        ('analysisHm {.assistantfinaljson{"a":2}', {"a": 2}),
        (f'<|channel|>analysis<|message|>{{"a":1}}<|end|>{HARMONY}{{"a":2}}<|return|>', {"a": 2}),
        ("<|channel|>final <|constrain|>json<|message|>" + '{"a":2}', {"a": 2}),
    ],
)
def test_documents_beside_reasoning(answer: str, document: object) -> None:
    """A draft in reasoning is not a document; one before it still is."""
    assert parse_json(answer, OBJECT).value == document


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"a":1}\n<think>Or', "nothing closes <think> at line 2, column 1"),
        ('<think>a</think>{"a":1}<think>', "nothing closes <think> at line 1, column 24"),
        ('{"a":1}\n</think>', "all of it is reasoning"),
        ('<think>\n\n</think>\n\n{"a":', "it begins at line 5, column 1"),
        ('{"a":"</think>", "b":{"c":1}, "d":"cut', "it begins at line 1, column 1"),
        ('{"a<think>": {"b</think>]": "c"}', "it begins at line 1, column 1, and never closes"),
        ('{"a":"\n</think>\n", "b":{"c":1}, "d":"cut', "is a part of a document"),
        ("</think>" * 40 + '{"a":', "</think>"),
    ],
)
def test_reasoning_that_leaves_no_document(answer: str, said: str) -> None:
    """Lines and columns are those of the whole answer, as it is kept."""
    with pytest.raises(NoDocument) as refused:
        parse_json(answer, OBJECT)
    assert said in str(refused.value)


INVISIBLE = " \t\n\u00a0\u200b\ufeff\u00ad\u2060\u2028\u115f\u1160\u3164\uffa0\ufe0f\u2800"
INVISIBLE += "\u034f\u180e\U000e0041"


def test_what_cannot_be_seen() -> None:
    """Space, controls, formats, fillers, variation selectors and tags, alone and together."""
    assert all(is_blank(each) for each in INVISIBLE)
    assert is_blank(INVISIBLE * 1000)
    assert is_blank("")
    assert not any(is_blank(INVISIBLE + each) for each in "a.0é字\u0301😀\ufffd")
