"""Prompt files with a version: the messages that a language model is sent, with places to be filled in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from polyprag.errors import DataError

Message = dict[str, str]

_FRONT_MATTER = re.compile(r"---\n(.*?)\n---\n(.*)", re.DOTALL)
_TURN = re.compile(r"^## (system|user|assistant)[ \t]*\n", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_HASH_DIGITS = 8


@dataclass(frozen=True)
class Prompt:
    """One prompt file.

    Attributes:
        version: its name, its own version and the beginning of the sha256 of its bytes.
        turns: role and template of each message; templates hold `{passage}` and other placeholders.
        styles: what `{style}` stands for, rewrite by rewrite.
    """

    version: str
    turns: tuple[tuple[str, str], ...]
    styles: tuple[str, ...] = ()

    def messages(self, **values: str) -> list[Message]:
        """The messages with values in place of the placeholders."""

        def filled(template: str) -> str:
            return _PLACEHOLDER.sub(lambda match: values[match[1]], template)

        return [{"role": role, "content": filled(template)} for role, template in self.turns]


def read_prompt(path: Path, required: set[str], optional: set[str]) -> Prompt:
    """Read a prompt file: YAML with `version:` between two lines `---`, then messages under `## user` and the like.

    Args:
        path: the file; its name without the ending begins the prompt's version.
        required: placeholders that it must use.
        optional: others that it may use.

    Raises:
        DataError: the file cannot be read or used.
    """
    try:
        content = path.read_bytes()
        text = content.decode().replace("\r\n", "\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8; save it as UTF-8") from error
    facts, body = _front_matter(text, path)
    turns = _turns(body, path)
    _check_placeholders(turns, required, optional, path)
    version = f"{path.stem}-{facts['version']}-{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}"
    return Prompt(version, turns, _styles(facts, turns, path))


def _front_matter(text: str, path: Path) -> tuple[dict[str, object], str]:
    match = _FRONT_MATTER.fullmatch(text)
    try:
        facts = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError as error:
        problem = str(error).split("\n")[0]
        raise DataError(f"{path}: the lines between --- are not YAML ({problem}); correct them") from error
    if match is None or not isinstance(facts, dict) or not isinstance(facts.get("version"), int | str):
        raise DataError(f"{path}: has no version; begin the file with the lines ---, version: 1, ---")
    return facts, match[2]


def _turns(body: str, path: Path) -> tuple[tuple[str, str], ...]:
    """Messages by their headings; a body without any is one message of the user."""
    before, *rest = _TURN.split(body)
    if not rest:
        rest, before = ["user", before], ""
    turns = tuple((role, text.strip()) for role, text in zip(rest[::2], rest[1::2], strict=True))
    if before.strip() or turns[-1][0] == "system" or not all(text for _, text in turns):
        raise DataError(
            f"{path}: must hold messages under the headings ## system, ## user and ## assistant, none of them empty, "
            "and not end with one of ## system"
        )
    return turns


def _check_placeholders(turns: tuple[tuple[str, str], ...], required: set[str], optional: set[str], path: Path) -> None:
    used = {name for _, text in turns for name in _PLACEHOLDER.findall(text)}
    known = ", ".join(f"{{{name}}}" for name in sorted(required | optional))
    for name in sorted(required - used):
        raise DataError(f"{path}: the placeholder {{{name}}} is missing; this file may use {known}")
    for name in sorted(used - required - optional):
        raise DataError(f"{path}: the placeholder {{{name}}} is unknown; this file may use {known}")


def _styles(facts: dict[str, object], turns: tuple[tuple[str, str], ...], path: Path) -> tuple[str, ...]:
    styles = facts.get("styles", [])
    if not isinstance(styles, list) or not all(isinstance(style, str) and style.strip() for style in styles):
        raise DataError(f"{path}: styles must be a list of texts; write one in a line, after a dash")
    if not styles and any("{style}" in text for _, text in turns):
        raise DataError(f"{path}: uses {{style}} but lists no styles; add styles: to the lines between ---")
    return tuple(styles)
