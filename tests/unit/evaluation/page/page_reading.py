"""How the tests read a page: every number on it, and what it says it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "wbr", "path", "line", "rect"}
FREE = {"code", "pre", "style", "title"}
"""Elements whose digits are texts."""
FREE_CLASSES = {"text", "tick"}
CONSTANTS = re.compile(r"\bF1\b|95 %")
ESCAPED = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))")
UNITS = {"": 1, "%": 0.01, "ms": 1e-3, "s": 1, "h": 3600, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Shown:
    """A number of a page: full value and path as it tells them, and its text."""

    value: float
    path: str
    source: str
    is_opposite: bool
    text: str


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Reads a page: its numbers, its visible text, and digits that belong to no number."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = []
        self.numbers: list[Shown] = []
        self.stray: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        element = self.open.pop()
        assert element.tag == tag, f"</{tag}> closes <{element.tag}>"
        own = element.attributes
        if "data-path" in own:
            self.numbers.append(
                Shown(
                    float(own.get("value", own.get("data-value", ""))),
                    own["data-path"],
                    own.get("data-source", ""),
                    "data-opposite" in own,
                    "".join(element.text),
                )
            )

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text.append(data)
        if not any(element.tag == "style" for element in self.open):
            self.text.append(data)
        free = any(
            "data-path" in element.attributes
            or element.tag in FREE
            or FREE_CLASSES & set(element.attributes.get("class", "").split())
            for element in self.open
        )
        if not free and re.search(r"\d", CONSTANTS.sub("", data)):
            self.stray.append(data.strip())


def value_at(content: Any, path: str) -> Any:
    """The value that a path leads to; a dot behind a backslash belongs to a key."""
    steps = [ESCAPED.sub(unescaped, step) for step in re.findall(r"(?:\\.|[^.\\])+", path)]
    for step in steps:
        content = content[int(step)] if isinstance(content, list) else content[step]
    return content


def unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else found[2]


def is_rounding(text: str, value: float) -> bool:
    """Whether a text is a number's value, rounded to the digits that it has."""
    if text == "–":
        return value == 0
    if text.startswith("< "):
        return 0 <= value < parse(text[2:])[0]
    number, last = parse(text)
    return abs(number - value) <= last / 2 * (1 + 1e-9) + 1e-12


def parse(text: str) -> tuple[float, float]:
    """A text's number, and what its last digit stands for."""
    found = re.fullmatch(r"([+−]?)([\d,]+(?:\.(\d+))?)(?: (\S+))?", text)
    assert found, text
    sign, digits, decimals, unit = found.groups(default="")
    factor = UNITS[unit]
    size = float(digits.replace(",", "")) * factor
    return -size if sign == "−" else size, factor * 10 ** -len(decimals)


def wrong_numbers(shown: list[Shown], contents: dict[str, Any]) -> list[Shown]:
    """Numbers that are not those of their file, or whose text is not their rounding."""
    wrong = []
    for number in shown:
        there = value_at(contents[number.source], number.path)
        expected = -there if number.is_opposite else there
        if number.value != expected or not is_rounding(number.text, number.value):
            wrong.append(number)
    return wrong
