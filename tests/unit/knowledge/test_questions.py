import json
from pathlib import Path

import pytest

from polyprag.config import OnBadRow
from polyprag.errors import DataError
from polyprag.knowledge.augmentations import read_augmentation
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.corpus import Collector, Corpus
from polyprag.knowledge.questions import QuestionSet, read_drafts, settle
from polyprag.knowledge.rows import Row, read_rows
from polyprag.records import Augmentation, Passage, Question

CORPUS = ({"id": "a", "text": "one"}, {"id": "b", "text": "two"}, {"id": "c", "text": "one"})


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def corpus_of(*rows: dict[str, object]) -> Corpus:
    collector = Collector()
    for row in rows:
        collector.add(Row("corpus", row))
    return collector.corpus()


def read(tmp_path: Path, *rows: object, corpus: Corpus | None = None, bad: BadRows | None = None) -> QuestionSet:
    path, bad = write(tmp_path / "q.jsonl", *rows), bad or BadRows()
    drafts, _ = read_drafts(read_rows(path, bad), str(path), bad)
    return settle(drafts, str(path), bad, corpus)


def read_with(tmp_path: Path, *rows: object, bad: BadRows | None = None) -> QuestionSet:
    return read(tmp_path, *rows, corpus=corpus_of(*CORPUS), bad=bad)


def test_gold_passages_are_redirected_to_distinct_ones(tmp_path):
    row = {"id": "q", "question": "?", "answers": ["x", "y", "x"], "type": "t", "passage_ids": ["c", "b", "a"]}
    assert read_with(tmp_path, row).questions == (Question("q", "?", ("x", "y"), "t", ("a", "b")),)


def test_missing_ids_are_made_from_the_content(tmp_path):
    gold = {"passages": [{"text": "two", "is_support": True}]}
    rows = [{"question": "?", "answers": ["x"]}, {"question": "?", "answers": ["y"]}]
    first, second, third = read_with(tmp_path, *rows, rows[1] | gold).questions
    assert first.id.startswith("q-")
    assert len({first.id, second.id, third.id}) == 3
    assert read_with(tmp_path, rows[1]).questions == (second,)


def test_whole_numbers_are_ids_too(tmp_path):
    corpus = corpus_of({"id": 0, "text": "one"}, {"id": "1", "text": "two"})
    row = {"id": 5, "question": "?", "answers": ["x"], "passage_ids": [0, "1", 1]}
    assert read(tmp_path, row, corpus=corpus).questions == (Question("5", "?", ("x",), "", ("0", "1")),)
    path = write(tmp_path / "a.jsonl", {"passage_id": 0, "rewrites": ["r"]})
    assert read_augmentation(path, corpus.passages, corpus.canonical) == {"0": Augmentation("0", ("r",))}


def test_repeated_questions_collapse_and_are_counted(tmp_path):
    row = {"id": "q", "question": "?", "answers": ["x"], "passages": [{"text": "one"}]}
    path = write(tmp_path / "q.jsonl", row, row | {"passages": [{"text": "two"}]}, row)
    drafts, repeated = read_drafts(read_rows(path), str(path), BadRows())
    assert (len(drafts), repeated) == (1, 2)
    assert [own.values["text"] for own in drafts[0].passages] == ["one", "two", "one"]
    asked = settle(drafts, str(path), BadRows())
    assert asked.carried == {"q": tuple(passage.id for passage in asked.corpus.passages)}


def test_passages_of_a_question_are_found_in_a_given_corpus(tmp_path):
    passages = [{"text": "two", "is_support": True}, {"text": "unknown", "is_support": True}, {"text": "one"}]
    asked = read_with(tmp_path, {"id": "q", "question": "?", "answers": ["x"], "passages": passages})
    assert asked.questions[0].passage_ids == ("b",)
    assert len(asked.corpus.passages) == 2
    assert asked.carried == {}
    assert asked.missing == {"q": 1}


BAD_ROWS = [
    ({"answers": ["x"]}, '"question" is missing'),
    ({"question": " ", "answers": ["x"]}, '"question" is blank'),
    ({"question": "?"}, '"answers" holds none'),
    ({"question": "?", "answers": []}, "\"answers\" holds none for '\\?'; give at least one"),
    ({"question": "?", "answers": None}, '"answers" holds none'),
    ({"question": "?", "answers": ["x", ""]}, r'"answers"\[1\] is blank'),
    ({"question": "?", "answers": "x"}, '"answers" must be a list'),
    ({"question": "?", "answers": [1963]}, r'"answers"\[0\] must be a string, not 1963'),
    ({"question": "?", "answers": ["x"], "passage_ids": ["z"]}, "passage id 'z' is not in the corpus"),
    ({"question": "?", "answers": ["x"], "passage_ids": [True]}, r'"passage_ids"\[0\] must be a string, not True'),
    ({"question": "?", "answers": ["x"], "type": 1}, '"type" must be a string'),
    ({"question": "?", "answers": ["x"], "passages": [{"text": "t", "is_support": 1}]}, r'"passages"\[0\]: "is_s'),
    ({"question": "?", "answers": ["x"], "passages": [{"title": "t"}]}, r'"passages"\[0\]: "text" is missing'),
    ({"id": "q", "question": "other?", "answers": ["x"]}, "id 'q' belongs to another question above"),
    ([], r"\[\] is not a JSON object"),
]


@pytest.mark.parametrize(("row", "complaint"), BAD_ROWS)
def test_bad_rows_fail(tmp_path, row, complaint):
    with pytest.raises(DataError, match=r"q\.jsonl:2: " + complaint):
        read_with(tmp_path, {"id": "q", "question": "?", "answers": ["x"]}, row)


@pytest.mark.parametrize(("row", "complaint"), BAD_ROWS)
def test_bad_rows_are_left_out_and_counted_on_request(tmp_path, row, complaint):
    bad = BadRows(OnBadRow.SKIP)
    good = {"id": "q", "question": "?", "answers": ["x"]}
    asked = read_with(tmp_path, good, row, {"id": "r", "question": "!", "answers": ["y"]}, bad=bad)
    assert [question.id for question in asked.questions] == ["q", "r"]
    assert bad.counts.total() == 1


def test_passages_that_come_with_questions_form_the_corpus(tmp_path):
    shared = {"title": "S", "text": "shared", "is_support": True}
    rows = [
        {"id": "q1", "question": "?", "answers": ["x"], "passages": [{"text": "one"}, shared], "passage_ids": ["l"]},
        {"id": "q2", "question": "?", "answers": ["x"], "passages": [shared, {"id": "l", "text": "later"}]},
    ]
    asked = read(tmp_path, *rows)
    assert [passage.text for passage in asked.corpus.passages] == ["one", "shared", "later"]
    one, shared_id, later = [passage.id for passage in asked.corpus.passages]
    assert asked.questions[0].passage_ids == ("l", shared_id)
    assert asked.questions[1].passage_ids == (shared_id,)
    assert asked.carried == {"q1": (one, shared_id), "q2": (shared_id, later)}


def test_an_id_of_two_passages_costs_one_question_where_bad_rows_are_left_out(tmp_path):
    rows = [
        {"id": id_, "question": f"{id_}?", "answers": ["x"], "passages": [{"id": "p", "text": text}]}
        for id_, text in (("q1", "one"), ("q2", "two"))
    ]
    bad = BadRows(OnBadRow.SKIP)
    asked = read(tmp_path, *rows, bad=bad)
    assert [question.id for question in asked.questions] == ["q1"]
    assert bad.counts.total() == 1
    with pytest.raises(DataError, match=r'q\.jsonl:2: "passages"\[0\]: id \'p\' belongs to another passage above'):
        read(tmp_path, *rows)


def test_gold_known_by_its_title_is_what_holds_an_answer(tmp_path):
    rows = [
        {"id": "b1", "title": "Brask", "text": "Brask lies by the Tul."},
        {"id": "b2", "title": "BRASK", "text": "It was founded in 1702."},
        {"id": "c", "title": "Corva", "text": "Corva was founded in 1702 too."},
    ]
    corpus = corpus_of(*rows)
    question = {"id": "q", "question": "When?", "answers": ["1702"], "gold_titles": ["Brask", "Drissa"]}
    asked = read(tmp_path, question, corpus=corpus)
    assert asked.questions[0].passage_ids == ("b2",)
    assert asked.missing == {"q": 1}


def test_no_questions_and_no_passages(tmp_path):
    with pytest.raises(DataError, match=r"q\.jsonl: holds no questions; write"):
        read_with(tmp_path)
    with pytest.raises(DataError, match=r"q\.jsonl: holds no questions; 1 rows were left out; write"):
        read_with(tmp_path, {"question": "?"}, bad=BadRows(OnBadRow.SKIP))
    with pytest.raises(DataError, match=r"q\.jsonl: no question comes with passages; name the corpus in data\.path"):
        read(tmp_path, {"question": "?", "answers": ["x"]})


def test_a_draft_knows_its_gold_before_there_is_a_corpus(tmp_path):
    passages = [{"title": "T", "text": "two", "is_support": True}, {"text": "one"}]
    row = {"id": "q", "question": "?", "answers": ["x"], "passages": passages, "gold_titles": ["U"]}
    path = write(tmp_path / "q.jsonl", row)
    (draft,), _ = read_drafts(read_rows(path), str(path), BadRows())
    made = "p-" + Passage("", "T", "two").content_hash[:16]
    assert draft.gold == (Passage(made, "T", "two"), Passage("", "U", ""))
    assert draft.question == Question("q", "?", ("x",))
