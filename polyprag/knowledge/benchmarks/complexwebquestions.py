"""ComplexWebQuestions (arXiv 1803.06643): questions composed of simpler ones, without passages.

The type of a question is how it is composed. The papers report the set as a whole, so its first questions are the test
set, whatever their types are.
"""

from __future__ import annotations

from polyprag.knowledge.benchmarks.answers import texts_in
from polyprag.knowledge.rows import Row


def question_of(row: Row) -> Row:
    """A published question in our own form.

    Args:
        row: `{"ID", "question", "compositionality_type", "answers": [{"answer", "aliases"}]}`, or the answers as
            columns `{"answer": [..], "aliases": [[..]]}`; an answer that is null counts by its aliases.
    """
    values = row.values
    answers: list[str] = []
    for answer in _answers(values.get("answers")):
        answers += texts_in(answer.get("answer")) + texts_in(answer.get("aliases"))
    own = {
        "id": values.get("ID"),
        "question": values.get("question"),
        "answers": answers,
        "type": values.get("compositionality_type"),
    }
    return Row(row.place, own)


def _answers(value: object) -> list[dict[str, object]]:
    """The objects of a list, or those that an object of lists stands for; answers given as texts are objects, too."""
    if isinstance(value, dict):
        aliases = value.get("aliases")
        lists = aliases if isinstance(aliases, list) else []
        return [{"answer": value.get("answer")}, *({"aliases": own} for own in lists)]
    items = value if isinstance(value, list) else []
    return [item if isinstance(item, dict) else {"answer": item} for item in items]
