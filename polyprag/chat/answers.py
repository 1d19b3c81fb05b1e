"""What the bodies and headers of a chat server's answers hold, however odd they are."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_SAID = 200
"""Characters of a server's complaint that are passed on."""


class TryError(Exception):
    """A try that gave no reply.

    Args:
        reason: a short phrase, by which tries are counted.
        said: what the server said; a long text is shortened.
        wait: seconds that it asked to wait; None where it did not.
        final: the same request would meet the same answer again.
        is_lost: there was no connection.
        is_limited: the server has too much to do.
        is_unusable: there was a reply, but nothing can be made of it.
    """

    def __init__(
        self,
        reason: str,
        said: str = "",
        *,
        wait: float | None = None,
        final: bool = False,
        is_lost: bool = False,
        is_limited: bool = False,
        is_unusable: bool = False,
    ) -> None:
        super().__init__(f"{reason}: {shortened(said)}" if said else reason)
        self.reason, self.wait, self.final = reason, wait, final
        self.is_lost, self.is_limited, self.is_unusable = is_lost, is_limited, is_unusable


@dataclass(frozen=True)
class Completion:
    """A chat reply.

    Attributes:
        text: what the model said; empty if it said nothing.
        is_cut: it ended at the limit of tokens.
        prompt_tokens: None where the server does not count.
        reply_tokens: None where the server does not count.
    """

    text: str
    is_cut: bool
    prompt_tokens: int | None
    reply_tokens: int | None


def completion_in(content: bytes) -> Completion:
    """The chat reply in the body of a successful answer.

    Raises:
        TryError: there is none.
    """
    if is_html(content):
        raise TryError("HTML")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise TryError("no JSON") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise TryError("no choices", _message_in(body))
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Completion(
        text=_content_of(message.get("content")),
        is_cut=choice.get("finish_reason") == "length",
        prompt_tokens=_count(counts.get("prompt_tokens")),
        reply_tokens=_count(counts.get("completion_tokens")),
    )


def _content_of(content: object) -> str:
    """A message's text, also where it comes in parts; characters that no file can hold are replaced."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def is_html(content: bytes) -> bool:
    """Whether a body is a web page."""
    return content[:1000].lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<body"))


def _message_in(body: object) -> str:
    """The message within an error's JSON, in the shapes that servers give it."""
    for name in ("error", "detail", "message"):
        found = body.get(name) if isinstance(body, dict) else None
        if isinstance(found, dict):
            return _message_in(found)
        if found:
            return str(found)
    return ""


def said_in(content: bytes, key: str = "") -> str:
    """What an error's body says in words, in one line of any length, without the key."""
    if is_html(content):
        return "a web page"
    said = content.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        said = _message_in(json.loads(content)) or said
    return " ".join((said.replace(key, "***") if key else said).split())


def shortened(text: str) -> str:
    """The text in one line that is not too long for an error."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SAID else f"{line[: LONGEST_SAID - 2]} …"


def retry_after(value: str) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3): a number, or the time from now to a date."""
    try:
        return max(0.0, float(value)) if float(value) < float("inf") else None
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
