"""From rows to questions: first as they stand in a file, then with their gold passages in a corpus."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from polyprag.errors import DataError
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.corpus import ID_DIGITS, Collector, Corpus, passage_of
from polyprag.knowledge.gold import GoldFinder
from polyprag.knowledge.rows import Row
from polyprag.records import Passage, Question


@dataclass(frozen=True)
class Draft:
    """A question as its file has it, before its gold passages are found in a corpus.

    Attributes:
        place: file and line.
        question: gold passages by the ids that the file gives, which need not be those of the corpus.
        passages: rows of the passages that came with it.
        gold: the gold ones among them, and those of which only the title is known, whose text is empty.
    """

    place: str
    question: Question
    passages: tuple[Row, ...] = ()
    gold: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class QuestionSet:
    """Questions with the corpus that their gold passages belong to.

    Attributes:
        questions: in the order of the file, gold passages by canonical id.
        corpus: the one given, or the passages that came with the questions.
        carried: ids of the passages that came with a question, by question id; empty if the corpus was given.
        missing: number of gold passages that are not in the corpus, by question id; none where absent.
    """

    questions: tuple[Question, ...]
    corpus: Corpus
    carried: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)


def read_drafts(rows: Iterable[Row], source: str, bad: BadRows) -> tuple[list[Draft], int]:
    """Read questions `{"id"?, "question", "answers": [..], "type"?, "passage_ids"?, "passages"?, "gold_titles"?}`.

    Passages `[{"title"?, "text", "is_support"?}]` of a question are gold where `is_support` is true. Of the passages
    in `gold_titles` no more is known than that they are gold.

    Args:
        rows: of one file.
        source: what the file is called in errors.
        bad: what happens to rows that cannot be used.

    Returns:
        The questions, and how many rows repeated an earlier one.

    Raises:
        DataError: there are no questions.
        RowError: a row is malformed or an id is used twice, and such rows are not left out.
    """
    drafts: dict[str, Draft] = {}
    repeated = 0
    for row in rows:
        with bad.tolerated():
            draft = _draft(row)
            known = drafts.setdefault(draft.question.id, draft)
            if (known.question, known.gold) != (draft.question, draft.gold):
                complaint = f"id {draft.question.id!r} belongs to another question above; give each its own id"
                raise row.error(complaint, "question id used twice")
            if known is not draft:
                drafts[draft.question.id] = dataclasses.replace(known, passages=known.passages + draft.passages)
                repeated += 1
    if not drafts:
        left_out = f"; {bad.counts.total()} rows were left out" if bad.counts else ""
        wanted = 'write one {"question": ..., "answers": [...]} a line'
        raise DataError(f"{source}: holds no questions{left_out}; {wanted}")
    return list(drafts.values()), repeated


def settle(drafts: Sequence[Draft], source: str, bad: BadRows, corpus: Corpus | None = None) -> QuestionSet:
    """Find the gold passages of questions in a corpus.

    Passages that come with a question are found by their content, and count as missing gold where they are not there.

    Args:
        drafts: the questions.
        source: what their file is called in errors.
        bad: what happens to questions that cannot be used.
        corpus: the corpus; without one it is made of the passages that come with the questions.

    Raises:
        DataError: there is no corpus.
        RowError: a passage id is not in the corpus or belongs to two passages, and such questions are not left out.
    """
    carried: dict[str, tuple[str, ...]] = {}
    if corpus is None:
        corpus = _own_corpus(drafts, carried, bad)
        drafts = [draft for draft in drafts if draft.question.id in carried]
    if not corpus.passages:
        remedy = "name the corpus in data.path, or of a benchmark a passage collection in data.collection"
        raise DataError(f"{source}: no question comes with passages; {remedy}")
    finder = GoldFinder(corpus)
    questions: list[Question] = []
    missing: dict[str, int] = {}
    for draft in drafts:
        with bad.tolerated():
            ids, lacking = finder.find(draft.question, draft.gold, draft.place)
            questions.append(dataclasses.replace(draft.question, passage_ids=ids))
            missing |= {draft.question.id: lacking} if lacking else {}
    return QuestionSet(tuple(questions), corpus, {id_: own for id_, own in carried.items() if own}, missing)


def _own_corpus(drafts: Iterable[Draft], carried: dict[str, tuple[str, ...]], bad: BadRows) -> Corpus:
    """The passages that come with questions; notes which came with which."""
    collector = Collector()
    for draft in drafts:
        with bad.tolerated():
            carried[draft.question.id] = tuple(dict.fromkeys(collector.add(row) for row in draft.passages))
    return collector.corpus()


def _draft(row: Row) -> Draft:
    text, answers, type_ = row.text("question"), row.texts("answers"), row.optional_text("type")
    if not answers:
        remedy = "give at least one, remove the question, or set data.on_bad_row=skip"
        raise row.error(f'"answers" holds none for {text!r}; {remedy}', "no answers")
    rows = row.objects("passages")
    passages = [(passage_of(own), own.flag("is_support")) for own in rows]
    gold = dict.fromkeys(passage for passage, supports in passages if supports)
    titles = (Passage("", title, "") for title in row.texts("gold_titles"))
    ids = row.identifiers("passage_ids")
    content = json.dumps([text, answers, type_, [*ids, *(passage.id for passage in gold)]]).encode()
    made = f"q-{hashlib.sha256(content).hexdigest()[:ID_DIGITS]}"
    question = Question(row.identifier("id") or made, text, answers, type_, ids)
    return Draft(row.place, question, tuple(rows), (*gold, *titles))
