import json
import logging
from pathlib import Path

import pytest

from polyprag.config import DataConfig, DataName, OnBadRow
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.loading import load_knowledge
from polyprag.records import Augmentation, Knowledge, Passage, QAPair, Question


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(*numbers: int) -> list[dict[str, str]]:
    return [{"question": f"question {number}?", "answer": f"answer {number}"} for number in numbers]


def qa(*numbers: int) -> tuple[QAPair, ...]:
    return tuple(QAPair(f"question {number}?", f"answer {number}") for number in numbers)


def load(tmp_path: Path, corpus=(), questions=(), augmentation=(), **settings) -> Knowledge:
    data = DataConfig(name=DataName.JSONL, **settings)
    for key, rows in (("path", corpus), ("questions", questions), ("augmentation", augmentation)):
        if rows:
            setattr(data, key, str(write(tmp_path / f"{key}.jsonl", *rows)))
    return load_knowledge(data)


class TestLoadKnowledge:
    def test_pairs_are_split_into_training_and_questions(self, tmp_path):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2, 3, 4, 5)}, {"id": "b", "text": "two", "qas": pairs(6)}]
        knowledge = load(tmp_path, corpus, train_qas=3, validation_questions=0)
        assert knowledge.augmentations == {"a": Augmentation("a", qa=qa(1, 2, 3)), "b": Augmentation("b", qa=qa(6))}
        assert knowledge.test == (
            Question("a-q3", "question 4?", ("answer 4",), "", ("a",)),
            Question("a-q4", "question 5?", ("answer 5",), "", ("a",)),
        )

    def test_named_questions_take_the_place_of_left_over_pairs(self, tmp_path):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2)}]
        knowledge = load(tmp_path, corpus, [{"id": "q", "question": "?", "answers": ["x"]}], train_qas=1)
        assert [question.id for question in knowledge.test] == ["q"]
        assert knowledge.augmentations["a"].qa == qa(1)

    def test_a_named_augmentation_joins_the_passages_own_pairs(self, tmp_path):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2)}, {"id": "b", "text": "two"}]
        augmentation = [{"passage_id": "a", "rewrites": ["r"], "qa": pairs(9)}]
        knowledge = load(tmp_path, corpus, augmentation=augmentation, train_qas=1)
        assert knowledge.augmentations == {"a": Augmentation("a", ("r",), qa(1, 9))}

    @pytest.mark.parametrize(
        ("limits", "rewrites", "left"),
        [({}, 2, (1, 2, 9)), ({"max_pairs": 2}, 2, (1, 2)), ({"max_pairs": 7, "max_rewrites": 1}, 1, (1, 2, 9))],
    )
    def test_training_is_limited_for_each_passage_after_all_is_joined(self, tmp_path, limits, rewrites, left):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2, 3)}]
        augmentation = [{"passage_id": "a", "rewrites": ["r", "s"], "qa": pairs(9)}]
        knowledge = load(tmp_path, corpus, augmentation=augmentation, train_qas=2, validation_questions=0, **limits)
        assert knowledge.augmentations == {"a": Augmentation("a", ("r", "s")[:rewrites], qa(*left))}
        assert [question.id for question in knowledge.test] == ["a-q2"]

    def test_the_demo_world_is_limited_too(self):
        data = DataConfig(max_pairs=1, max_rewrites=0)
        data.world.passages = 20
        knowledge = load_knowledge(data)
        assert {(len(own.qa), len(own.rewrites)) for own in knowledge.augmentations.values()} == {(1, 0)}

    def test_a_configuration_without_files(self, tmp_path):
        with pytest.raises(ConfigError, match=r"data\.path and data\.questions are both empty"):
            load(tmp_path)

    def test_max_passages_drops_questions_without_gold(self, tmp_path, caplog):
        corpus = [{"id": id_, "text": id_, "qas": pairs(1)} for id_ in "abc"]
        gold = {"q1": ["a"], "q2": ["b", "c"], "q3": ["c"], "q4": []}
        questions = [{"id": id_, "question": id_, "answers": ["x"], "passage_ids": ids} for id_, ids in gold.items()]
        with caplog.at_level(logging.INFO, "polyprag"):
            knowledge = load(tmp_path, corpus, questions, max_passages=2, validation_questions=0)
        assert [passage.id for passage in knowledge.passages] == ["a", "b"]
        assert knowledge.augmentations.keys() == {"a", "b"}
        assert {question.id: question.passage_ids for question in knowledge.test} == {
            "q1": ("a",), "q2": ("b",), "q4": (),
        }  # fmt: skip
        assert "1 dropped questions (gold passages cut 1)" in caplog.text
        with pytest.raises(DataError, match=r"no question is left: data\.max_passages=2 cuts all gold passages"):
            load(tmp_path, corpus, questions[2:3], max_passages=2)

    def test_types_limit_and_validation(self, tmp_path):
        questions = [
            {"id": f"{type_}{index}", "question": f"{type_}{index}", "answers": ["x"], "type": type_}
            for type_ in "abc"
            for index in range(20)
        ]
        options = {"types": ["a", "b"], "limit": 10, "validation_questions": 6, "limit_seed": 3}
        knowledge = load(tmp_path, [{"text": "one"}], questions, **options)
        assert [question.type for question in knowledge.test] == ["a"] * 5 + ["b"] * 5
        assert [question.type for question in knowledge.validation] == ["a"] * 3 + ["b"] * 3
        assert load(tmp_path, [{"text": "one"}], questions, **options) == knowledge
        assert load(tmp_path, [{"text": "one"}], questions, **{**options, "limit_seed": 4}).test != knowledge.test
        with pytest.raises(ConfigError, match=r"data\.types: no question has type 'z'"):
            load(tmp_path, [{"text": "one"}], questions, types=["z"])

    def test_only_passages_of_drawn_questions_stay(self, tmp_path):
        questions = [
            {
                "id": f"q{index}",
                "question": f"{index}?",
                "answers": ["x"],
                "passages": [
                    {"text": f"gold {index}", "is_support": True},
                    {"text": f"other {index}"},
                    {"text": "everywhere"},
                ],
            }
            for index in range(8)
        ]
        knowledge = load(tmp_path, questions=questions, limit=2, validation_questions=1)
        drawn = {question.id[1:] for question in (*knowledge.test, *knowledge.validation)}
        assert len(drawn) == 3
        expected = {f"{word} {number}" for word in ("gold", "other") for number in drawn} | {"everywhere"}
        assert {passage.text for passage in knowledge.passages} == expected
        assert len(knowledge.passages) == 7
        texts = {passage.id: passage.text for passage in knowledge.passages}
        assert [texts[question.passage_ids[0]] for question in knowledge.test] == [
            f"gold {question.id[1:]}" for question in knowledge.test
        ]

    def test_the_demo_world_is_cut_and_filtered_too(self, monkeypatch):
        passages = tuple(Passage(id_, id_, "text") for id_ in "abc")

        def questions(prefix: str) -> tuple[Question, ...]:
            return tuple(
                Question(f"{prefix}{index}{id_}", "?", ("x",), "t" if index % 2 else "u", (id_,))
                for index in range(6)
                for id_ in "abc"
            )

        world = Knowledge(passages, {id_: Augmentation(id_, qa=qa(1)) for id_ in "abc"}, questions("q"), questions("v"))
        monkeypatch.setattr("polyprag.knowledge.loading.generate_world", lambda config: world)
        assert load_knowledge(DataConfig()) == world
        cut = load_knowledge(DataConfig(max_passages=2, types=["t"], limit=4))
        assert cut.passages == passages[:2]
        assert cut.augmentations.keys() == {"a", "b"}
        assert len(cut.test) == 4
        assert len(cut.validation) == 6
        assert {question.type for question in (*cut.test, *cut.validation)} == {"t"}


def with_passages(index: int, *others: str) -> dict[str, object]:
    passages = [{"title": f"Town {index}", "text": f"Town{index} makes glass{index}.", "is_support": True}]
    return {
        "id": f"q{index}",
        "question": f"What does town{index} make?",
        "answers": [f"glass{index}"],
        "passages": passages + [{"text": text} for text in others],
    }


class TestBadRows:
    QUESTIONS = (with_passages(0), {"question": "?"}, with_passages(1), {"question": "!", "answers": []})

    def test_they_fail_with_their_line(self, tmp_path):
        with pytest.raises(DataError, match=r'questions\.jsonl:2: "answers" holds none'):
            load(tmp_path, questions=self.QUESTIONS)

    def test_or_are_counted(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, "polyprag"):
            knowledge = load(tmp_path, questions=self.QUESTIONS, on_bad_row=OnBadRow.SKIP, validation_questions=0)
        assert [question.id for question in knowledge.test] == ["q0", "q1"]
        assert knowledge.counts.dropped_rows == {"no answers": 2}
        assert "2 rows left out (no answers 2)" in caplog.text

    def test_those_of_the_corpus_too(self, tmp_path):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2)}, {"title": "no text"}]
        knowledge = load(tmp_path, corpus, on_bad_row=OnBadRow.SKIP, train_qas=1, validation_questions=0)
        assert len(knowledge.passages) == 1
        assert sum(knowledge.counts.dropped_rows.values()) == 1


class TestRetrieved:
    def test_only_what_the_drawn_questions_retrieve_stays(self, tmp_path):
        questions = [with_passages(index, "town0 town1 town2 town3 and nothing else") for index in range(8)]
        knowledge = load(tmp_path, questions=questions, limit=2, validation_questions=1, retrieved=1)
        assert [passage.title for passage in knowledge.passages] == [
            f"Town {question.id[1:]}"
            for question in sorted((*knowledge.test, *knowledge.validation), key=lambda one: one.id)
        ]
        assert all(question.passage_ids for question in (*knowledge.test, *knowledge.validation))
        assert knowledge.counts.unknown_gold == 0

    def test_passages_of_all_questions_compete(self, tmp_path):
        decoy = {"text": "What does town0 make, make, make"}
        questions = [with_passages(0), {"id": "d", "question": "?", "answers": ["x"], "type": "t", "passages": [decoy]}]
        knowledge = load(tmp_path, questions=questions, types=[""], validation_questions=0, retrieved=1)
        assert [passage.text for passage in knowledge.passages] == [decoy["text"]]
        assert [(question.id, question.passage_ids) for question in knowledge.test] == [("q0", ())]
        assert knowledge.counts.unknown_gold == 1

    def test_a_corpus_of_its_own_is_cut_too(self, tmp_path):
        corpus = [{"id": f"p{index}", "text": f"town{index} glass", "qas": pairs(index)} for index in range(5)]
        questions = [{"id": "q", "question": "town1 or town3?", "answers": ["x"], "passage_ids": ["p1", "p4"]}]
        knowledge = load(tmp_path, corpus, questions, retrieved=2, validation_questions=0)
        assert [passage.id for passage in knowledge.passages] == ["p1", "p3"]
        assert knowledge.augmentations.keys() == {"p1", "p3"}
        assert knowledge.test[0].passage_ids == ("p1",)
        assert knowledge.counts.unknown_gold == 1

    def test_nothing_in_common(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.retrieved: no question shares a word with a passage; set it to 0"):
            load(tmp_path, [{"text": "one"}], [{"question": "two?", "answers": ["x"]}], retrieved=3)


class TestCollection:
    PASSAGES = (
        {"id": "1", "title": "Town 0", "text": "Town0 makes glass0, and more of it than ever."},
        {"id": "2", "title": "Town 0", "text": "The market of town0 is held on Mondays."},
        {"id": "3", "title": "Town 1", "text": "Town1 makes glass1."},
        {"id": "4", "title": "Nowhere", "text": "Nothing is made here."},
    )

    def collected(self, tmp_path: Path, questions, name: DataName = DataName.JSONL, **settings) -> Knowledge:
        settings = {"retrieved": 2, "validation_questions": 0} | settings
        files = {"collection": str(write(tmp_path / "collection.jsonl", *self.PASSAGES))}
        path = str(write(tmp_path / "questions.jsonl", *questions))
        files |= {"questions": path} if name is DataName.JSONL else {"path": path}
        return load_knowledge(DataConfig(name=name, collection_index=str(tmp_path / "index"), **files, **settings))

    @pytest.mark.parametrize("name", [DataName.JSONL, DataName.HOTPOTQA])
    def test_the_corpus_is_what_the_questions_retrieve(self, tmp_path, name):
        knowledge = self.collected(tmp_path, [with_passages(0), with_passages(1)], name)
        assert sorted(passage.id for passage in knowledge.passages) == ["1", "2", "3"]
        assert [question.passage_ids for question in knowledge.test] == [("1",), ("3",)]
        assert (knowledge.counts.unknown_gold, knowledge.counts.duplicates) == (0, 0)

    def test_only_drawn_questions_retrieve(self, tmp_path):
        knowledge = self.collected(tmp_path, [with_passages(0), with_passages(1)], DataName.WIKI2, per_type=1)
        assert {passage.title for passage in knowledge.passages} == {"Town 0"}
        assert [question.id for question in knowledge.test] == ["q0"]
        knowledge = self.collected(
            tmp_path, [with_passages(0), with_passages(1)], DataName.WIKI2, per_type=1, validation_questions=1
        )
        assert {passage.title for passage in knowledge.passages} == {"Town 0", "Town 1"}
        assert [question.passage_ids for question in knowledge.validation] == [("3",)]

    def test_gold_that_is_not_there_is_unknown(self, tmp_path):
        knowledge = self.collected(tmp_path, [with_passages(0), with_passages(9)])
        assert [len(question.passage_ids) for question in knowledge.test] == [1, 0]
        assert knowledge.counts.unknown_gold == 1

    def test_an_augmentation_belongs_to_the_collections_passages(self, tmp_path):
        file = write(tmp_path / "augmentation.jsonl", {"passage_id": "1", "qa": pairs(1)})
        knowledge = self.collected(tmp_path, [with_passages(0)], augmentation=str(file))
        assert knowledge.augmentations == {"1": Augmentation("1", (), qa(1))}

    def test_popqa_and_complexwebquestions_need_one(self, tmp_path):
        for name in (DataName.POPQA, DataName.CWQ):
            path = str(Path(__file__).parent / "published" / name)
            with pytest.raises(DataError, match=r"no question comes with passages.* data\.collection"):
                load_knowledge(DataConfig(name=name, path=path))

    def test_popqas_gold_is_the_subjects_page_where_it_holds_an_answer(self, tmp_path):
        passages = [
            {"id": "a", "title": "Mira Tolk", "text": "Mira Tolk was a film director."},
            {"id": "b", "title": "Mira Tolk", "text": "Mira Tolk died in Brask."},
            {"id": "c", "title": "The Glass Road", "text": "The Glass Road is a silent film."},
        ]
        data = DataConfig(
            name=DataName.POPQA,
            path=str(Path(__file__).parent / "published" / "popqa"),
            collection=str(write(tmp_path / "c.jsonl", *passages)),
            collection_index=str(tmp_path / "index"),
            retrieved=3,
            types=["occupation", "director"],
            validation_questions=0,
        )
        gold = {question.id: question.passage_ids for question in load_knowledge(data).test}
        assert gold == {"4001": ("a",), "4002": (), "4003": (), "4006": ()}


SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "types"), [(DataName.WIKI2, 4), (DataName.POPQA, 16), (DataName.JSONL, None)], ids=str
)
@pytest.mark.parametrize("file", ["2wikimultihopqa_300.jsonl", "popqa_300.jsonl"])
def test_all_questions_of_the_shared_files_load(name, types, file):
    path = SHARED / file
    if not path.exists():
        pytest.skip(f"{path} is not there")
    if name is not DataName.JSONL and not file.startswith(name):
        pytest.skip("another benchmark")
    key = "questions" if name is DataName.JSONL else "path"
    knowledge = load_knowledge(DataConfig(name=name, validation_questions=0, **{key: str(path)}))
    assert len(knowledge.test) == 300
    assert all(question.passage_ids and question.answers for question in knowledge.test)
    if types:
        assert len({question.type for question in knowledge.test}) == types
    split = load_knowledge(DataConfig(name=name, limit=40, retrieved=3, **{key: str(path)}))
    assert (len(split.test), len(split.validation)) == (40, 40)
    assert len(split.passages) < 240
