"""What the dataclass tree says of each key: its dotted name, type, default, range and explanation."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

from polyprag.config import Config, Range

SEE = "docs/configuration.md explains every key"
LONGEST_SHOWN = 80
LIKENESS = 0.6
"""The least similarity, from 0 to 1, at which a known word is suggested for an unknown one."""


@dataclass(frozen=True)
class Key:
    """What the dataclass tree says of one key.

    Attributes:
        name: the dotted name, such as `experts.count`.
        kind: int, float, bool, str or an enumeration; of a list, that of its elements.
        is_list: whether the key holds a list.
        default: the default value.
        help: one sentence.
        allowed: the range of a number, where there is one.
    """

    name: str
    kind: type
    is_list: bool
    default: Any
    help: str
    allowed: Range | None

    @property
    def expected(self) -> str:
        """What a value must look like, for errors and docs."""
        if issubclass(self.kind, StrEnum):
            words = ", ".join(self.kind)
            return f"a list such as [{next(iter(self.kind))}] out of {words}" if self.is_list else f"one of {words}"
        if self.is_list:
            return "a list such as [a, b]"
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "text"
        return f"a {'whole ' if self.kind is int else ''}number such as {self.default}"


@functools.cache
def keys() -> dict[str, Key]:
    """Every key of the configuration by dotted name, in the order of the dataclasses."""
    return {key.name: key for key in _keys_of(Config, "")}


@functools.cache
def sections() -> dict[str, str]:
    """The explanation of every section by dotted name, in the order of the dataclasses."""
    return dict(_sections_of(Config, ""))


def config_values(config: Config) -> dict[str, Any]:
    """Every value of a configuration by dotted key."""
    return {name: operator.attrgetter(name)(config) for name in keys()}


def config_difference(a: Config, b: Config) -> list[str]:
    """The dotted keys whose values differ, in the order of the dataclasses."""
    values = config_values(b)
    return [name for name, value in config_values(a).items() if value != values[name]]


def suggestion(word: str, known: Sequence[str]) -> str:
    """The likeliest known word as a clause for an error, or an empty text where none is near.

    Dotted words are compared as a whole and by their last part, so that a key in the wrong section is found too.
    """

    def likeness(candidate: str) -> tuple[float, float]:
        whole = difflib.SequenceMatcher(None, word, candidate).ratio()
        last = difflib.SequenceMatcher(None, word.rpartition(".")[2], candidate.rpartition(".")[2]).ratio()
        return max(whole, last), whole

    if len(word) > LONGEST_SHOWN:
        return ""
    best = max(known, key=likeness)
    return f"; did you mean {best}?" if likeness(best)[0] >= LIKENESS else ""


def shown(value: object) -> str:
    """A value as an error shows it: text quoted, lists in brackets, long ones cut."""
    if isinstance(value, list):
        text = f"[{', '.join(value)}]"
    else:
        text = repr(value) if isinstance(value, str) and not isinstance(value, StrEnum) else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _keys_of(section: type, prefix: str) -> Iterator[Key]:
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        hint, name = hints[field.name], prefix + field.name
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _keys_of(hint, f"{name}.")
            continue
        is_list = get_origin(hint) is list
        kind = get_args(hint)[0] if is_list else hint
        default = field.default_factory() if callable(field.default_factory) else field.default
        yield Key(name, kind, is_list, default, field.metadata["help"], field.metadata["allowed"])


def _sections_of(section: type, prefix: str) -> Iterator[tuple[str, str]]:
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield prefix + field.name, field.metadata["help"]
            yield from _sections_of(hint, f"{prefix}{field.name}.")
