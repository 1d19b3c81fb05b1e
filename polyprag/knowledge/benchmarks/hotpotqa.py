"""HotpotQA (arXiv 1809.09600): bridge and comparison questions, each with ten paragraphs, two of them gold."""

from __future__ import annotations

from polyprag.knowledge.benchmarks.answers import texts_in
from polyprag.knowledge.benchmarks.contexts import context_of
from polyprag.knowledge.rows import Row


def question_of(row: Row) -> Row:
    """A published question in our own form.

    Args:
        row: `{"_id" or "id", "question", "answer", "type", "context", "supporting_facts"}`.

    Raises:
        RowError: the context or the supporting facts have another form.
    """
    values = row.values
    own = {
        "id": values.get("_id", values.get("id")),
        "question": values.get("question"),
        "answers": texts_in(values.get("answer")),
        "type": values.get("type"),
    }
    return Row(row.place, own | context_of(row))
