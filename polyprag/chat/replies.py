"""Replies that no run needs to ask for again: an append-only file for each model, found by what was asked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyprag.files import append_jsonl

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """What has become of a request.

    Attributes:
        key: the request's.
        text: the reply as it came; empty after a failure.
        prompt_tokens: length of the prompts of all tries; None where nobody tells.
        reply_tokens: length of the replies of all tries; None where nobody tells.
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


class ReplyCache:
    """The finished replies of one model, on disk; only their places are held in memory.

    Several processes may add to a cache at once, and a kill at any moment leaves all replies whose `add` has returned.

    Args:
        folder: where the files of all models lie.
        model: the model's name.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.path = folder / f"{_file_stem(model)}.jsonl"
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

    def add(self, reply: Reply, about: Mapping[str, str]) -> None:
        """Keep a finished reply; it is on the disk when this returns.

        Args:
            reply: without failure.
            about: what was asked for, for people who read the file.

        Raises:
            OSError: the disk is full or the file cannot be written.
        """
        assert not reply.failure, "only usable replies are kept"
        row = {
            "key": reply.key,
            **about,
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


def _file_stem(model: str) -> str:
    """A file name that people recognise, and no other model has."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-.")[:60] or "model"
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _key_of(line: bytes) -> str | None:
    """The key of a line that holds a whole reply; None if it does not, as after a power cut."""
    try:
        row: Any = json.loads(line)
        is_whole = isinstance(row["key"], str) and isinstance(row["text"], str)
        is_whole = is_whole and {"prompt_tokens", "reply_tokens", "seconds"} <= row.keys()
    except (ValueError, TypeError, KeyError):
        return None
    return row["key"] if is_whole else None
