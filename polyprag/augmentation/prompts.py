"""Prompt files with a version: what a language model is asked for a rewrite or for question-answer pairs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyprag.augmentation.answers import candidates
from polyprag.chat.prompts import Message, Prompt, read_prompt
from polyprag.errors import DataError
from polyprag.records import Passage

Style = Literal["json", "lines"]

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
    return read_prompt(path, required, optional)
