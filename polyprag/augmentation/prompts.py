"""Prompt files with a version: what a language model is asked for a rewrite or for question-answer pairs."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml  # type: ignore[import-untyped]

from polyprag.augmentation.answers import candidates
from polyprag.errors import DataError
from polyprag.records import Passage

Style = Literal["json", "lines"]
Message = dict[str, str]

OWN_FOLDER = Path(__file__).parent / "prompts"
PAIRS_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {key: {"type": "string"} for key in ("question", "answer", "full_answer")},
                "required": ["question", "answer", "full_answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["pairs"],
    "additionalProperties": False,
}
"""What a reply with question-answer pairs looks like, as JSON Schema."""

_FILES: dict[Style, tuple[str, str]] = {"json": ("rewrite", "qa_json"), "lines": ("rewrite_lines", "qa_lines")}
_QA_PLACEHOLDERS: dict[Style, tuple[set[str], set[str]]] = {
    "json": ({"passage", "pairs"}, set()),
    "lines": ({"sentence", "answer"}, {"title", "opening"}),
}
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


@dataclass(frozen=True)
class Prompts:
    """The prompts of one augmentation.

    Attributes:
        rewrite: asks for a rewrite.
        qa: asks for question-answer pairs.
        style: how pairs are asked for.
    """

    rewrite: Prompt
    qa: Prompt
    style: Style = "json"

    @property
    def version(self) -> str:
        """Versions of both, as written beside the augmentation that they led to."""
        return f"{self.rewrite.version} {self.qa.version}"

    @property
    def schema(self) -> dict[str, object]:
        """JSON Schema of a reply with pairs, for servers that can hold a model to it."""
        return PAIRS_SCHEMA

    def rewrite_messages(self, passage: Passage, index: int) -> list[Message]:
        """Messages that ask for a rewrite of a passage.

        Args:
            passage: what is rewritten.
            index: which of its rewrites, from 0; it decides the style.
        """
        styles = self.rewrite.styles
        return self.rewrite.messages(passage=shown(passage), style=styles[index % len(styles)] if styles else "")

    def qa_messages(self, passage: Passage, pairs: int) -> list[list[Message]]:
        """The chats that ask for `pairs` question-answer pairs about a passage.

        Style "json" has one for all pairs; "lines" has one for each answer that patterns find, at most `pairs`, in
        which the assistant's turn has begun. For no pairs there is none.
        """
        if self.style == "json":
            return [] if pairs == 0 else [self.qa.messages(passage=shown(passage), pairs=str(pairs))]
        return [
            self.qa.messages(title=passage.title, **dataclasses.asdict(wanted)) for wanted in candidates(passage, pairs)
        ]


def load_prompts(folder: str = "", style: Style = "json") -> Prompts:
    """Read the prompts of a style.

    Args:
        folder: a folder with files of the user's own, each of which takes the place of the one of the same name that
            comes with polyprag; empty means none.
        style: "json" for servers, "lines" for small local models.

    Raises:
        DataError: the folder is missing or holds none of the two files, or a file cannot be used.
    """
    rewrite, qa = _FILES[style]
    own = Path(folder) if folder else None
    if own and not any((own / f"{name}.md").exists() for name in (rewrite, qa)):
        raise DataError(
            f"augmentation.prompts: {own} holds neither {rewrite}.md nor {qa}.md; copy them from {OWN_FOLDER}"
        )
    qa_needs, qa_may_use = _QA_PLACEHOLDERS[style]
    return Prompts(
        _read(own, rewrite, required={"passage"}, optional={"style"}),
        _read(own, qa, required=qa_needs, optional=qa_may_use),
        style,
    )


def shown(passage: Passage) -> str:
    """A passage as prompts show it: the title, if there is one, on a line of its own before the text."""
    return f"Title: {passage.title}\n\n{passage.text}" if passage.title else passage.text


def _read(own: Path | None, name: str, required: set[str], optional: set[str]) -> Prompt:
    path = own / f"{name}.md" if own and (own / f"{name}.md").exists() else OWN_FOLDER / f"{name}.md"
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
    version = f"{name}-{facts['version']}-{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}"
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
