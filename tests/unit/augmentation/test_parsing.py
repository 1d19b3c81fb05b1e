import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyprag.augmentation.parsing import ReplyError, parse_pairs, parse_rewrite
from polyprag.records import QAPair

ANN = QAPair("Who sailed?", "Ann", "Ann sailed.")
WHEN = QAPair("When was it?", "1912")
OBJECTS = [
    {"question": "Who sailed?", "answer": "Ann", "full_answer": "Ann sailed."},
    {"question": "When was it?", "answer": 1912},
]

WORDS = st.text(st.sampled_from("abcdefgh XYZ.,!'éλ"), min_size=1, max_size=30).filter(lambda text: text.strip(" .,!'"))
TEXTS = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=30).filter(
    str.strip
)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4)


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(OBJECTS),
        json.dumps({"pairs": OBJECTS}),
        json.dumps({"qa": {"items": OBJECTS}}),
        f"Sure! Here you are:\n```json\n{json.dumps(OBJECTS, indent=2)}\n```\nI hope this [helps].",
        f"<think>[{{}}] hm</think>\n{json.dumps(OBJECTS)}",
        "\n".join(map(json.dumps, OBJECTS)),
        # PRAG's own example of the format lacks a comma, and so do its models' replies.
        '[\n{\n"question": "Who sailed?",\n"answer": "Ann"\n"full_answer": "Ann sailed."\n},\n'
        '{\n"question": "When was it?",\n"answer": "1912"\n},\n]',
        '[{"question":"Who sailed?","answer":"Ann","full_answer":"Ann sailed.",},'
        '{"question":"When was it?","answer":1912},{"question":"Why did th',
        "{“question”: “Who sailed?”, “answer”: “Ann”, “full_answer”: “Ann sailed.”}\n"
        "{“question”: “When was it?”, “answer”: “1912”}",
        "[{'question': 'Who sailed?', 'answer': 'Ann', 'full_answer': 'Ann sailed.'}, "
        "{'question': 'When was it?', 'answer': '1912'}]",
        '[{"Question 1": "Who sailed?", "Short Answer": "Ann", "Full Answer": "Ann sailed."}, '
        '{"q": "When was it?", "a": ["1912"]}]',
        "1. Question: Who sailed?\nAnswer: Ann\nFull answer: Ann sailed.\n\n"
        "2. Question: When was it?\nAnswer: 1912\n\nBye!",
        "**Question 1:** Who sailed?\n**Answer:** Ann\n**Full answer:** Ann sailed.\n\n"
        "**Question 2:** When was it?\n**Answer:** 1912",
        "Q1: Who sailed? A1: Ann Explanation: Ann sailed.\nQ2: When was it? A2: 1912",
    ],
)  # fmt: skip
def test_pairs_are_read_in_whatever_form_they_come(reply):
    assert parse_pairs(reply) == [ANN, WHEN]


def test_numbered_questions_with_the_answer_behind_them():
    expected = [QAPair("Who sailed?", "Ann"), WHEN]
    assert parse_pairs("1. Who sailed? Ann\n2. When was it?\n   - 1912") == expected
    assert parse_pairs("- Who sailed? – Ann\n- **When was it?** 1912") == expected


def test_the_answer_may_come_first():
    assert parse_pairs("Answer: Ann\nQuestion: Who sailed?\nAnswer: 1912\nQuestion: When was it?") == [
        QAPair("Who sailed?", "Ann"), WHEN,
    ]  # fmt: skip


def test_values_of_other_kinds_become_text():
    values = [("True", True, "yes"), ("Many", ["a", 2, None], "a, 2"), ("Line", "a\nb", "a b"), ("Number", 1.5, "1.5")]
    reply = json.dumps([{"question": question, "answer": answer} for question, answer, _ in values])
    assert parse_pairs(reply) == [QAPair(question, expected) for question, _, expected in values]


def test_quotes_within_values():
    assert parse_pairs('{"question": "Who is \\"Al\\"?", "answer": "the "Big" one",}') == [
        QAPair('Who is "Al"?', 'the "Big" one')
    ]


def test_incomplete_and_repeated_pairs_are_left_out():
    reply = json.dumps(
        [OBJECTS[1], {"question": "Why?"}, {"answer": "so"}, {"question": "", "answer": "x"}, OBJECTS[1]]
    )
    assert parse_pairs(reply) == [WHEN]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("<think>what", "empty"),
        ("<!DOCTYPE html><html>Bad gateway</html>", "HTML"),
        ("<html><body>504</body></html>", "HTML"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I cannot write questions about this.", "refusal"),
        ("The passage is about ships.", "no question-answer pairs"),
        ('[{"question": "Who', "no question-answer pairs"),
        ("[]", "no question-answer pairs"),
    ],
)
def test_replies_that_nothing_can_be_made_of(reply, reason):
    with pytest.raises(ReplyError) as caught:
        parse_pairs(reply)
    assert caught.value.reason == str(caught.value) == reason


@pytest.mark.parametrize(
    "reply",
    [
        "Ann sailed in 1912.",
        "  Ann sailed\nin 1912. ",
        '"Ann sailed in 1912."',
        "```\nAnn sailed in 1912.\n```",
        "Here is the rewritten passage:\n\nAnn sailed in 1912.",
        "Sure, here's a rewritten version: Ann sailed in 1912.",
        "**Rewritten passage:**\n\nAnn sailed in 1912.",
        "Rewrite: Ann sailed in 1912.",
        "Title: Ann\n\nAnn sailed in 1912.",
        "Ann sailed in 1912.\n\nNote: I kept all names.",
        "Ann sailed in 1912.\n\n(This rewritten text keeps the facts.)",
        '{"rewrite": "Ann sailed in 1912."}',
        "<think>How?</think>Ann sailed in 1912.",
    ],
)
def test_rewrites_are_freed_from_what_surrounds_them(reply):
    assert parse_rewrite(reply) == "Ann sailed in 1912."


def test_a_rewrite_keeps_its_own_words():
    for text in (
        "Here are three towns: Arlen, Brask and Corvo. They lie by the sea.",
        'She wrote "Ships" (1912) and [with others] "Sails".',
        "Notes survive of her talks: all were lost but two.",
    ):
        assert parse_rewrite(text) == text


@pytest.mark.parametrize(
    ("reply", "reason"), [("", "empty"), ("...", "empty"), ("<html>", "HTML"), ("Sorry, no.", "refusal")]
)
def test_no_rewrite(reply, reason):
    with pytest.raises(ReplyError, match=reason):
        parse_rewrite(reply)


@given(st.one_of(st.text(), st.text(st.sampled_from("[]{}\":,\\qa?QA: \n'“”1.*`<>"), max_size=60)))
@example("[" * 5000)
@example('{"question": "\\ud800", "answer": "\\u0000"}')
@example('[{"question": "q", "answer": 1' + "0" * 5000 + "}]")
def test_any_reply_is_read_or_refused(reply):
    with suppress(ReplyError):
        for pair in parse_pairs(reply):
            assert pair.question.encode()
            assert pair.answer.encode()
    with suppress(ReplyError):
        assert parse_rewrite(reply).encode()


@given(PAIRS)
def test_json_survives_the_round_trip(pairs):
    expected = list(dict.fromkeys(QAPair(*map(plain, pair)) for pair in pairs))
    objects = [dict(zip(("question", "answer", "full_answer"), pair, strict=True)) for pair in pairs]
    for form in (objects, {"pairs": objects}):
        for text in (json.dumps(form), f"```json\n{json.dumps(form, ensure_ascii=False, indent=1)}\n```"):
            assert parse_pairs(text) == expected


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4, unique_by=lambda pair: plain(pair[0])))
def test_lines_survive_the_round_trip(pairs):
    reply = "\n".join(f"{n}. Question: {question}\nAnswer: {answer}" for n, (question, answer) in enumerate(pairs, 1))
    assert parse_pairs(reply) == [QAPair(plain(question), plain(answer)) for question, answer in pairs]
