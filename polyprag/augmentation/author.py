"""Who writes augmentation: requests go in, replies come out in any order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from polyprag.augmentation.parsing import ReplyError, parse_pairs, parse_rewrite
from polyprag.chat.replies import Reply
from polyprag.config import AugmentationConfig
from polyprag.records import Passage


class Kind(StrEnum):
    """What a request asks for."""

    REWRITE = "rewrite"
    QA = "qa"


@dataclass(frozen=True)
class Request:
    """One question to an author, and the unit of the cache.

    Attributes:
        key: tells this request from all others, also in later runs; see `request_key`.
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


def request_key(
    passage: Passage,
    kind: Kind,
    index: int,
    messages: Sequence[Mapping[str, str]],
    author: str,
    prompt_version: str,
    config: AugmentationConfig,
) -> str:
    """What tells a request from all others, in this run and in later ones.

    Args:
        passage: what it is about; only title and text count.
        kind: a rewrite, or pairs.
        index: which rewrite; requests for pairs differ by their messages.
        messages: the chat.
        author: the author's name.
        prompt_version: of the prompt for this kind.
        config: the sampling settings.

    Returns:
        A sha256 (hex, 64 characters).
    """
    number = index if kind is Kind.REWRITE else 0
    sampling = [config.temperature, config.max_tokens]
    asked = [passage.content_hash, kind.value, number, list(messages), author, prompt_version, sampling]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
