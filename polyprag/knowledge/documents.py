"""Plain text and Markdown as sections: a title and the text under it, without markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import yaml  # type: ignore[import-untyped]
from markdown_it import MarkdownIt
from markdown_it.token import Token

LARGEST_TEXT = 512 * 2**20
LARGEST_MARKDOWN = 8 * 2**20
"""Bytes of a document; Markdown takes about a hundred times as much memory while it is read."""

_NESTING = 100  # quotes and lists within each other; what lies deeper is not read
_PARAGRAPH_BREAK = re.compile(r"\n[^\S\n]*\n|\f")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_TAG = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


class Section(NamedTuple):
    """A part of a document.

    Attributes:
        title: what it is about; the names of a Markdown section's headings, from the outermost inward.
        text: one line for each paragraph, list item, table row or line of code; never blank.
    """

    title: str
    text: str


def text_sections(content: str, name: str) -> Iterator[Section]:
    """Plain text as one section: paragraphs that blank lines part, each on a line of its own.

    Args:
        content: the text.
        name: the title.
    """
    paragraphs = (" ".join(part.split()) for part in _PARAGRAPH_BREAK.split(_line_feeds(content)))
    text = "\n".join(filter(None, paragraphs))
    if text:
        yield Section(name, text)


def markdown_sections(content: str, name: str) -> Iterator[Section]:
    """Markdown (CommonMark with tables and strikethrough) as a section for each heading that has text.

    Titles are "Document > Heading > Heading". A heading of level 1 names the document; without one the `title` of the
    front matter does, without that `name`. Emphasis, links, list marks and HTML tags go, their text stays; images leave
    their description; code stays as it is; the front matter (YAML), comments, scripts and styles go altogether.

    Args:
        content: the text.
        name: the title of what no heading names.
    """
    title, content = _front_matter(_line_feeds(content))
    reader = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable(["table", "strikethrough"])
    headings: list[tuple[int, str]] = []
    lines: list[str] = []
    for level, text in _blocks(reader.parse(content)):
        if level:
            yield from _section(title or name, headings, lines)
            headings = [outer for outer in headings if outer[0] < level] + [(level, text)]
            lines = []
        else:
            lines.append(text)
    yield from _section(title or name, headings, lines)


def _section(document: str, headings: Sequence[tuple[int, str]], lines: Sequence[str]) -> Iterator[Section]:
    text = "\n".join(filter(None, lines))
    names = [name for _, name in headings if name]
    if not any(level == 1 and name for level, name in headings):
        names.insert(0, document)
    if text.strip():
        yield Section(" > ".join(names), text)


def _front_matter(content: str) -> tuple[str, str]:
    """The title in a front matter, empty if there is none, and the content after it."""
    found = _FRONT_MATTER.match(content)
    try:
        values = yaml.load(found[1], Loader=yaml.BaseLoader) if found else None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        values = None
    if found is None or not isinstance(values, dict):
        return "", content
    title = values.get("title")
    return " ".join(title.split()) if isinstance(title, str) else "", content[found.end() :]


def _blocks(tokens: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """The blocks of a parsed text: headings under their level, and everything else that holds text under 0."""
    cells: list[str] = []
    for opening, token in pairwise([Token("", "", 0), *tokens]):
        if token.type == "inline" and opening.type in ("th_open", "td_open"):
            cells.append(_inline(token.children))
        elif token.type == "inline":
            is_heading = opening.type == "heading_open" and opening.level == 0
            yield int(opening.tag[1:]) if is_heading else 0, _inline(token.children)
        elif token.type == "tr_close":
            yield 0, " | ".join(cells)
            cells = []
        elif token.type in ("fence", "code_block"):
            yield 0, token.content.strip("\n")
        elif token.type == "html_block":
            yield 0, " ".join(html.unescape(_TAG.sub(" ", token.content)).split())


def _inline(tokens: Sequence[Token] | None) -> str:
    """The text of a block's parts, on one line."""
    return " ".join("".join(_part(token) for token in tokens or ()).split())


def _part(token: Token) -> str:
    if token.type == "image":
        return _inline(token.children)
    if token.type in ("text", "code_inline"):
        return token.content
    is_break = token.type in ("softbreak", "hardbreak") or _LINE_BREAK.fullmatch(token.content)
    return " " if is_break else ""


def _line_feeds(content: str) -> str:
    return content.replace("\r\n", "\n").replace("\r", "\n")
