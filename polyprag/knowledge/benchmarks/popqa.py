"""PopQA (arXiv 2212.10511): one-hop questions about entities of all popularity, without passages.

The type of a question is its relation. The papers report the set as a whole, so its first questions are the test set,
whatever their relations are.
"""

from __future__ import annotations

from polyprag.knowledge.benchmarks.answers import texts_in, texts_of
from polyprag.knowledge.rows import Row


def question_of(row: Row) -> Row:
    """A published question in our own form.

    Gold is the object, `possible_answers` and the object's aliases. What is known of the gold passage is the title of
    the subject's page.

    Args:
        row: `{"id", "question", "obj", "prop", "possible_answers", "o_aliases", "s_wiki_title"}`, the lists as such or
            as strings of JSON.

    Raises:
        RowError: a list of answers is no JSON.
    """
    values = row.values
    answers = [*texts_in(values.get("obj")), *texts_of(row, "possible_answers"), *texts_of(row, "o_aliases")]
    own = {
        "id": values.get("id"),
        "question": values.get("question"),
        "answers": answers,
        "type": values.get("prop"),
        "gold_titles": texts_in(values.get("s_wiki_title")),
    }
    return Row(row.place, own)
