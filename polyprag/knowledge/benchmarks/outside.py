"""Questions outside a benchmark's test set, as passages with a pair each, to be trained on before the run itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from polyprag.config import DataConfig
from polyprag.errors import DataError
from polyprag.knowledge.asked import draw, read_asked, source_of
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.benchmarks.published import PUBLISHED
from polyprag.knowledge.benchmarks.reading import read_further
from polyprag.knowledge.corpus import Collector, merge_into
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.knowledge.questions import Draft, read_drafts
from polyprag.knowledge.rows import Row
from polyprag.knowledge.selection import first_of_each, of_types, stratified_sample
from polyprag.records import Augmentation, Knowledge, LoadCounts, QAPair, Question


def load_outside(data: DataConfig, bad: BadRows) -> Knowledge:
    """What can be learned from a benchmark without having seen what it tests.

    Outside are questions that are neither in the test set, whatever `data.types` and `data.limit` leave of it, nor
    among the validation questions, and whose words are not those of such a question either. Where the test file leaves
    too few, the training file beside it is read, too. The passage of a question is its first gold passage, or else the
    first one that came with it, or else the question itself.

    Args:
        data: names the benchmark; `limit` and `max_passages` both say how many questions are drawn, stratified over
            types; 0 means all of the test file's, or all of the training file's if the former leaves none.
        bad: what happens to rows that cannot be used.

    Returns:
        Passages with one pair for each question, and no test or validation questions.

    Raises:
        ConfigError: a type is not among the questions'.
        DataError: a file cannot be used, or no question is outside.
        RowError: a row cannot be used, and such rows are not left out.
    """
    drafts, _ = read_asked(data, bad)
    apart = _set_apart([draft.question for draft in drafts], data)
    wanted = min((n for n in (data.limit, data.max_passages) if n), default=0)
    outside = {draft.question.id: draft for draft in _outside(drafts, apart)}
    copies = len(drafts) - len(apart) - len(outside)
    if len(outside) < max(wanted, 1):
        further = [_slim(row) for row in read_further(data, bad)]
        read = read_drafts(further, source_of(data), bad)[0] if further else []
        left = {draft.question.id: draft for draft in _outside(read, apart)}
        copies += len(read) - len(left)
        outside = left | outside
    if not outside:
        remedy = f"lower data.per_type, or put {' or '.join(PUBLISHED[data.name].train) or 'more questions'} beside it"
        raise DataError(f"{source_of(data)}: no question is outside the test set; {remedy}")
    typed = of_types([draft.question for draft in outside.values()], data.types)
    drawn = stratified_sample(typed, wanted or len(typed), data.limit_seed)
    dropped = {
        "in the test set or for validation": len(apart),
        "copies of test or validation questions": copies,
        "other types": len(outside) - len(typed),
        "beyond the limit": len(typed) - len(drawn),
    }
    return _as_passages([outside[question.id] for question in drawn], dropped, bad)


def _set_apart(questions: Sequence[Question], data: DataConfig) -> list[Question]:
    """The whole test set and the validation questions."""
    first, _ = first_of_each(questions, data.per_type, PUBLISHED[data.name].typed)
    validation = draw(questions, dataclasses.replace(data, limit=0)).validation
    return list({question.id: question for question in (*first, *validation)}.values())


def _outside(drafts: Iterable[Draft], apart: Sequence[Question]) -> Iterator[Draft]:
    ids, index = {question.id for question in apart}, QuestionIndex(apart)
    for draft in drafts:
        text = draft.question.text
        if draft.question.id not in ids and not index.equal(text) and not index.alike(text):
            yield draft


def _slim(row: Row) -> Row:
    """A question with one of its passages, since a training file holds more text than there may be memory for."""
    passages = row.values.get("passages")
    if not isinstance(passages, list):
        return row
    gold = [own for own in passages if isinstance(own, dict) and own.get("is_support")]
    return Row(row.place, row.values | {"passages": (gold or passages)[:1], "gold_titles": []})


def _as_passages(drafts: Iterable[Draft], dropped: dict[str, int], bad: BadRows) -> Knowledge:
    collector = Collector()
    for draft in drafts:
        question = draft.question
        with bad.tolerated():
            passage_id = collector.add(_passage_row(draft))
            pair = QAPair(question.text, question.answers[0])
            merge_into(collector.augmentations, Augmentation(passage_id, qa=(pair,)))
    counts = LoadCounts(
        duplicates=collector.duplicates,
        dropped_rows=dict(bad.counts),
        dropped_questions={reason: count for reason, count in dropped.items() if count},
    )
    return Knowledge(tuple(collector.passages), collector.augmentations, counts=counts)


def _passage_row(draft: Draft) -> Row:
    """The row of the passage that a question is trained with."""
    gold = next((passage for passage in draft.gold if passage.text), None)
    if gold is not None:
        return Row(draft.place, {"id": gold.id, "title": gold.title, "text": gold.text})
    return draft.passages[0] if draft.passages else Row(draft.place, {"text": draft.question.text})
