import contextlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.chat.answers import TryError, completion_in, retry_after, said_in, shortened

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "text", "usage", "error", "prompt_tokens", "x"]), inner
        )
    ),
)


def body_with(message, **more) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **more}).encode()


def test_a_reply_with_its_tokens():
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    found = completion_in(body_with({"content": "text"}, usage=usage))
    assert (found.text, found.is_cut, found.prompt_tokens, found.reply_tokens) == ("text", False, 7, 3)


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"prompt_tokens": "7", "completion_tokens": True}, {"prompt_tokens": -1}]
)
def test_tokens_that_nobody_counts_are_unknown(usage):
    found = completion_in(body_with({"content": "text"}, usage=usage))
    assert (found.prompt_tokens, found.reply_tokens) == (None, None)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        (5, ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}, 3], "ab"),
        ("lone \ud800 half", "lone ? half"),
    ],
)
def test_contents_of_all_shapes_are_text_that_a_file_can_hold(content, text):
    assert completion_in(body_with({"content": content})).text == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"  <!DOCTYPE HTML><html>", "HTML"),
        (b"<html lang=de>", "HTML"),
        (b"3", "no choices"),
        (b'{"choices": {}}', "no choices"),
        (b'{"choices": [{"text": "old"}]}', "no choices"),
        (b'{"error": {"message": "over  loaded"}}', "no choices: over loaded"),
    ],
)
def test_bodies_without_a_reply(content, reason):
    with pytest.raises(TryError, match=f"^{reason}$"):
        completion_in(content)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_no_body_leads_to_anything_but_a_reply_or_a_reason(content):
    with contextlib.suppress(TryError):
        completion_in(content).text.encode()
    assert "\n" not in said_in(content, "key")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "wrong key sk-1"}}', "wrong key ***"),
        (b'{"error": "wrong\\n key"}', "wrong key"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"object": "error", "message": "no such model"}', "no such model"),
        (b'{"detail": [{"loc": ["body"]}]}', "[{'loc': ['body']}]"),
        (b"plain sk-1", "plain ***"),
        (b"<html>", "a web page"),
        (b"", ""),
    ],
)
def test_what_a_server_says_without_the_key(body, said):
    assert said_in(body, "sk-1") == said


def test_long_complaints_are_shortened():
    assert len(shortened("word " * 100)) <= 200


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-2", 0.0), ("", None), ("soon", None), ("inf", None), ("nan", None)],
)
def test_pauses_in_seconds(value, seconds):
    assert retry_after(value) == seconds


def test_pauses_until_a_date():
    later = datetime.now(UTC) + timedelta(hours=1)
    assert retry_after(format_datetime(later, usegmt=True)) == pytest.approx(3600, abs=5)
    assert retry_after(format_datetime(later - timedelta(days=1), usegmt=True)) == 0
