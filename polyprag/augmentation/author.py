"""Who writes augmentation: requests go in, replies come out in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from polyprag.augmentation.parsing import ReplyError, parse_pairs, parse_rewrite
from polyprag.records import Passage


class Kind(StrEnum):
    """What a request asks for."""

    REWRITE = "rewrite"
    QA = "qa"


@dataclass(frozen=True)
class Request:
    """One question to an author, and the unit of the cache.

    Attributes:
        key: tells this request from all others, also in later runs; see `polyprag.augmentation.cache`.
        kind: a rewrite of the passage, or pairs about it.
        passage: what it is about.
        index: which of the passage's requests of this kind, from 0.
        messages: the chat to be continued: `{"role", "content"}`. Where the last is the assistant's, the reply begins
            with it.
    """

    key: str
    kind: Kind
    passage: Passage
    index: int
    messages: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Reply:
    """What an author has made of a request.

    Attributes:
        key: the request's.
        text: the reply as it came; empty after a failure.
        prompt_tokens: length of the prompts of all tries; None where the author does not tell.
        reply_tokens: length of the replies of all tries; None where the author does not tell.
        seconds: from the first try to the end of the last.
        failure: a short reason why there is no usable reply after all tries; empty where there is one. What follows a
            colon is about this request alone.
        faults: short reasons why tries before the last, or all of them after a failure, could not be used.
    """

    key: str
    text: str
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    seconds: float = 0.0
    failure: str = ""
    faults: tuple[str, ...] = ()


class Author(Protocol):
    """Writes rewrites and pairs."""

    @property
    def name(self) -> str:
        """The model's name; it stands with every passage that this author has augmented."""
        ...

    def write(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests, each once, in any order.

        Requests are taken as they are needed, and the next one no sooner than the caller asks for a further reply, so
        that what is under way stays bounded.

        Raises:
            PolyPragError: no request can be answered, for a reason that the user can mend.
        """
        ...


def fault_of(kind: Kind, text: str) -> str:
    """Why a reply cannot be used, in a few words; empty if it can."""
    try:
        if kind is Kind.REWRITE:
            parse_rewrite(text)
        else:
            parse_pairs(text)
    except ReplyError as error:
        return error.reason
    return ""
