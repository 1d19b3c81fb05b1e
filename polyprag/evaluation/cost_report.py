"""The costs of methods in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polyprag.evaluation.cost import ONE_TO_ONE, REFERENCE
from polyprag.evaluation.grids import NONE, Row, format_bytes, format_seconds

BREAK_EVENS = {"break_even": REFERENCE, "break_even_prag": ONE_TO_ONE}
"""Results that say from how many questions on a method is repaid, and against what."""
_BREAK_EVEN_HEADS = {"break_even": "break-even\nRAG", "break_even_prag": "break-even\nPRAG"}
COST_HEAD = (
    *("seconds/question", "first\ntoken", "tokens\nin", "tokens\nout", "retrievals"),
    *("peak\nmemory", "offline/passage"),
)


class CostColumns:
    """The columns of costs that some results need.

    Args:
        results: of all methods of a table, by the names of `MethodResult`.
    """

    def __init__(self, results: Sequence[Mapping[str, Any]]) -> None:
        self.break_evens = [name for name in BREAK_EVENS if any(name in result for result in results)]

    @property
    def head(self) -> Row:
        """One text a column."""
        return (*COST_HEAD, *(_BREAK_EVEN_HEADS[name] for name in self.break_evens))

    @property
    def note(self) -> str:
        """What the columns mean."""
        against = " or ".join(BREAK_EVENS[name] for name in self.break_evens)
        said = "First token: its seconds from the beginning. Offline: seconds before the first question."
        if not against:
            return said
        return f"{said} Break-even: questions per passage from which on it takes less time in all than {against}."

    def cells(self, seconds: float, result: Mapping[str, Any]) -> Row:
        """A row, with a dash for what was not measured.

        Args:
            seconds: of a question.
            result: of a method, by the names of `MethodResult`.
        """
        return (
            format_seconds(seconds),
            format_seconds(result.get("seconds_to_first_token", 0.0)),
            _rounded(result.get("tokens_in", result.get("prompt_tokens"))),
            _rounded(result.get("tokens_out", result.get("generated_tokens")), 1),
            _rounded(result.get("retrievals"), 2),
            format_bytes(result.get("peak_memory_bytes", 0.0)),
            format_seconds(result.get("offline_seconds_per_passage", 0.0)),
            *(format_questions(result[name]) if name in result else NONE for name in self.break_evens),
        )


def format_questions(questions: float | None) -> str:
    """A number of questions per passage in at most seven characters; None is never."""
    if questions is None:
        return "never"
    if questions >= 9_999.5:
        return f"{questions:.1e}"
    return f"{questions:.1f}" if 0 < questions < 9.95 else f"{questions:.0f}"


def _rounded(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
