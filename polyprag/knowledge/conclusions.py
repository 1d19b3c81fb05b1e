"""The short answer in a chain of thought."""

from __future__ import annotations

import re
from itertools import pairwise

from polyprag.knowledge.splitting import ends_sentence

AROUND = " \t.:*\"'`“”"
"""What models put around a short answer."""
_CONCLUSION = re.compile(r"\bthe\s+answer\s+is\b", re.IGNORECASE)
_NEXT_QUESTION = re.compile(r"^\s*question:", re.MULTILINE | re.IGNORECASE)


def conclusion_of(raw: str, ended: bool = True) -> str:
    """What follows the last "the answer is" that anything follows, up to the end of its sentence or line.

    Without one it is the last line. What comes after a further question that the model asks itself does not count.

    Args:
        raw: what was generated.
        ended: whether the model was done. Where it was not, and has concluded more than once, a last conclusion that
            breaks off does not count.
    """
    thought = _NEXT_QUESTION.split(raw, maxsplit=1)[0].strip()
    *earlier, last = (_first_sentence(part) for part in _CONCLUSION.split(thought))
    said = [answer for answer, _ in earlier[1:] if answer]
    if earlier and last[0] and (ended or last[1] or not said):
        said.append(last[0])
    return said[-1] if said else next(iter(thought.splitlines()[::-1]), "").strip()


def _first_sentence(text: str) -> tuple[str, bool]:
    """The first sentence that is more than punctuation, without what is put around it; and whether it has an end.

    Unlike elsewhere, "no." ends a sentence where it begins one.
    """
    text = text.lstrip(f"{AROUND}\n\r")
    line, line_end, _ = text.partition("\n")
    words = line.split()
    for at, (word, following) in enumerate(pairwise(words)):
        if ends_sentence(word, following) or (at == 0 and word.casefold() == "no."):
            return " ".join(words[: at + 1]).strip(AROUND), True
    return " ".join(words).strip(AROUND), bool(line_end) or line.rstrip().endswith((".", "!", "?"))
