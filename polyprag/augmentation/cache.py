"""Replies that no run needs to ask for again: an append-only file for each author, found by what was asked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyprag.augmentation.author import Kind, Reply
from polyprag.config import AugmentationConfig
from polyprag.files import append_jsonl
from polyprag.records import Passage

logger = logging.getLogger(__name__)


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


class ReplyCache:
    """The finished replies of one author, on disk; only their places are held in memory.

    Several processes may add to a cache at once, and a kill at any moment leaves all replies whose `add` has returned.

    Args:
        folder: where the files of all authors lie.
        author: the author's name.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path, author: str) -> None:
        self.path = folder / f"{_file_stem(author)}.jsonl"
        self._places: dict[str, int] = {}
        self._read_to = 0
        self._look_up()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Reply | None:
        """The reply to a request; None if it is not here."""
        if key not in self._places:
            return None
        with open(self.path, "rb") as handle:
            handle.seek(self._places[key])
            row = json.loads(handle.readline())
        return Reply(row["key"], row["text"], row["prompt_tokens"], row["reply_tokens"], row["seconds"])

    def add(self, reply: Reply, passage: Passage, kind: Kind) -> None:
        """Keep a finished reply; it is on the disk when this returns.

        Args:
            reply: without failure.
            passage: what it is about, for people who read the file.
            kind: likewise.

        Raises:
            OSError: the disk is full or the file cannot be written.
        """
        assert not reply.failure, "only usable replies are kept"
        row = {
            "key": reply.key,
            "kind": kind.value,
            "passage": passage.content_hash,
            "text": reply.text,
            "prompt_tokens": reply.prompt_tokens,
            "reply_tokens": reply.reply_tokens,
            "seconds": round(reply.seconds, 3),
        }
        with _held(self.path.parent):
            append_jsonl(self.path, [row])
        self._look_up()

    def _look_up(self) -> None:
        """Take in the places of what has been added since, by whichever process."""
        if not self.path.exists():
            return
        unreadable = 0
        with open(self.path, "rb") as handle:
            handle.seek(self._read_to)
            while (line := handle.readline()).endswith(b"\n"):
                key = _key_of(line)
                if key is None:
                    unreadable += 1
                else:
                    self._places.setdefault(key, self._read_to)
                self._read_to += len(line)
        if unreadable:
            logger.warning("%s: %d lines hold no reply and are passed over", self.path, unreadable)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other processes from appending in this folder; a kill lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _file_stem(author: str) -> str:
    """A file name that people recognise, and no other author has."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", author).strip("-.")[:60] or "author"
    return f"{readable}-{hashlib.sha256(author.encode()).hexdigest()[:8]}"


def _key_of(line: bytes) -> str | None:
    """The key of a line that holds a whole reply; None if it does not, as after a power cut."""
    try:
        row: Any = json.loads(line)
        is_whole = isinstance(row["key"], str) and isinstance(row["text"], str)
        is_whole = is_whole and {"prompt_tokens", "reply_tokens", "seconds"} <= row.keys()
    except (ValueError, TypeError, KeyError):
        return None
    return row["key"] if is_whole else None
