"""2WikiMultihopQA (arXiv 2011.01060): four types of questions over two or four paragraphs, in the form of HotpotQA.

Gold is the answer with the aliases and demonyms of its Wikidata item, as in the official scorer
(`2wikimultihop_evaluate_v1.1.py`), which reads them from `id_aliases.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.benchmarks import hotpotqa
from polyprag.knowledge.benchmarks.answers import texts_in
from polyprag.knowledge.rows import Row, read_rows

ALIASES = "id_aliases.json"

logger = logging.getLogger(__name__)


def question_of(row: Row, aliases: Mapping[str, list[str]]) -> Row:
    """A published question in our own form.

    Args:
        row: as HotpotQA's, and `answer_id`.
        aliases: by Wikidata id, as `read_aliases` gives them.

    Raises:
        RowError: the context or the supporting facts have another form.
    """
    question, answer_id = hotpotqa.question_of(row), row.values.get("answer_id")
    further = aliases.get(answer_id, []) if isinstance(answer_id, str) else []
    answers = [*texts_in(row.values.get("answer")), *further]
    return Row(row.place, question.values | {"answers": answers})


def read_aliases(folder: Path, bad: BadRows) -> dict[str, list[str]]:
    """Aliases and demonyms by Wikidata id, from JSON lines `{"Q_id", "aliases", "demonyms"}`.

    Args:
        folder: where the questions lie; without the file there are no aliases, and one line warns of that.
        bad: what happens to lines that cannot be used.

    Raises:
        RowError: a line cannot be used, and such lines are not left out.
    """
    path = folder / ALIASES
    if not path.is_file():
        logger.warning("%s is not there, so only the answers themselves count as right, none of their aliases", path)
        return {}
    aliases: dict[str, list[str]] = {}
    for row in read_rows(path, bad):
        with bad.tolerated():
            found = texts_in(row.values.get("aliases")) + texts_in(row.values.get("demonyms"))
            if found:
                aliases[row.text("Q_id")] = found
    return aliases
