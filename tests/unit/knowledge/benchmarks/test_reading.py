"""The published files, made up but in exactly the published form, and what they become."""

import gzip
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from polyprag.config import DataConfig, DataName, OnBadRow
from polyprag.errors import DataError
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.benchmarks.reading import read_benchmark, read_further
from polyprag.knowledge.json_values import read_values
from polyprag.knowledge.questions import Draft, read_drafts

PUBLISHED = Path(__file__).parents[1] / "published"
FILES = {
    DataName.WIKI2: "dev.json",
    DataName.HOTPOTQA: "hotpot_dev_distractor_v1.json",
    DataName.POPQA: "popQA.tsv",
    DataName.CWQ: "ComplexWebQuestions_dev.json",
}
Edit = Callable[[dict[str, object]], object]


def read(name: DataName, path: Path | str = "", bad: BadRows | None = None, **settings: str) -> dict[str, Draft]:
    data = DataConfig(name=name, path=str(path or PUBLISHED / name), **settings)
    bad = bad or BadRows()
    drafts, _ = read_drafts(read_benchmark(data, bad), data.path, bad)
    return {draft.question.id: draft for draft in drafts}


def edited(tmp_path: Path, name: DataName, index: int, edit: Edit) -> Path:
    """A copy of a published JSON file in which one row was changed, or replaced by what `edit` returns."""
    rows = list(read_values(PUBLISHED / name / FILES[name]))
    rows[index] = edit(rows[index]) or rows[index]
    (tmp_path / FILES[name]).write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path


class TestWikiMultihop:
    def test_types_gold_and_aliases(self):
        drafts = read(DataName.WIKI2)
        types = [draft.question.type for draft in drafts.values()]
        assert {type_: types.count(type_) for type_ in types} == {
            "comparison": 4, "compositional": 4, "bridge_comparison": 3, "inference": 3,
        }  # fmt: skip
        birthplace = drafts["cps00"]
        assert birthplace.question.text == "Where was the director of film The Glass Road born?"
        assert birthplace.question.answers == ("Arlen", "Arlen on the Om", "Old Arlen", "Arlener")
        assert [passage.title for passage in birthplace.gold] == ["The Glass Road", "Mira Tolk"]
        assert birthplace.gold[1].text == "Mira Tolk was a director from Arlen. Mira was born in Arlen in 1867."
        assert len(birthplace.passages) == 3
        assert [len(drafts[id_].gold) for id_ in ("cmp00", "brc00", "inf00")] == [2, 4, 2]

    def test_only_the_answers_own_aliases_count(self):
        drafts = read(DataName.WIKI2)
        assert drafts["cps01"].question.answers == ("Brask",)  # its aliases are empty
        assert drafts["cps02"].question.answers == ("Corvo", "Corvo City")  # beside a null and a blank
        assert drafts["brc00"].question.answers == ("no",)  # without an answer_id
        assert drafts["odd01"].question.answers == ("Mira Tolk", "M. Tolk")

    def test_odd_contexts(self):
        odd = read(DataName.WIKI2)["odd00"]
        assert [(passage.title, passage.text) for passage in odd.gold] == [
            ("Runa Hale", "Runa Hale was a painter. Runa was born in 1902."),
            ("Nowhere", ""),
            ("Blank", ""),
        ]

    def test_missing_aliases_are_one_warning(self, tmp_path, caplog):
        path = shutil.copy(PUBLISHED / DataName.WIKI2 / "dev.json", tmp_path)
        with caplog.at_level(logging.WARNING, "polyprag"):
            drafts = read(DataName.WIKI2, path)
        assert drafts["cps00"].question.answers == ("Arlen",)
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path}/id_aliases.json is not there, so only the answers themselves count as right, "
            "none of their aliases"
        ]

    def test_bad_alias_rows(self, tmp_path):
        shutil.copy(PUBLISHED / DataName.WIKI2 / "dev.json", tmp_path)
        (tmp_path / "id_aliases.json").write_text('{"Q_id": "Q920", "aliases": ["A"]}\n{"aliases": ["B"]}\n[1]\n')
        with pytest.raises(DataError, match=r'id_aliases\.json:2: "Q_id" is missing'):
            read(DataName.WIKI2, tmp_path)
        bad = BadRows(OnBadRow.SKIP)
        assert read(DataName.WIKI2, tmp_path, bad)["cps00"].question.answers == ("Arlen", "A")
        assert bad.counts.total() == 2


class TestHotpotQA:
    def test_types_gold_and_text(self):
        drafts = read(DataName.HOTPOTQA)
        assert [draft.question.type for draft in drafts.values()].count("comparison") == 3
        bridge = drafts["5a0"]
        assert bridge.question.answers == ("Arlen",)
        assert [passage.text for passage in bridge.gold] == [
            "The Glass Road is a 1921 silent film directed by Mira Tolk. It was shot in black and white.",
            "Mira Tolk was a director from Arlen. Mira was born in Arlen in 1867.",
        ]
        assert drafts["5b0"].question.answers == ("yes",)
        assert drafts["5b1"].question.answers == ("no",)

    def test_odd_contexts(self):
        odd = read(DataName.HOTPOTQA)["5c0"]
        assert [(passage.title, passage.text) for passage in odd.gold] == [
            ("Ettin", "Ettin is a town. Kites were made there by Runa Hale."),
            ("Runa Hale", ""),
            ("Kite", ""),
        ]
        assert [row.values["title"] for row in odd.passages] == ["Ettin", "Ettin"]

    @pytest.mark.parametrize("splits", [None, ["validation"], ["train", "validation"]])
    def test_the_hubs_columns_read_like_the_file(self, tmp_path, splits):
        def columns(row: dict[str, list[list[object]]]) -> dict[str, object]:
            titles, sentences = zip(*row["context"], strict=True)
            names, numbers = zip(*row["supporting_facts"], strict=True)
            return {
                **{key: row[key] for key in ("question", "answer", "type", "level")},
                "id": row["_id"],
                "context": {"title": list(titles), "sentences": list(sentences)},
                "supporting_facts": {"title": list(names), "sent_id": list(numbers)},
            }

        rows = [columns(row) for row in read_values(PUBLISHED / "hotpotqa" / FILES[DataName.HOTPOTQA])]
        table = datasets.Dataset.from_list(rows)
        others = datasets.Dataset.from_list(rows[:1])
        named = {split: table if split == "validation" else others for split in splits or ()}
        (datasets.DatasetDict(named) if splits else table).save_to_disk(tmp_path / "saved")
        from_hub, from_file = read(DataName.HOTPOTQA, f"hf:{tmp_path / 'saved'}"), read(DataName.HOTPOTQA)
        assert [draft.question for draft in from_hub.values()] == [draft.question for draft in from_file.values()]
        assert [draft.gold for draft in from_hub.values()] == [draft.gold for draft in from_file.values()]


class TestPopQA:
    def test_relations_answers_and_the_subjects_page(self):
        drafts = read(DataName.POPQA)
        assert [draft.question.type for draft in drafts.values()] == [
            "occupation", "occupation", "director", "country", "capital", "director",
        ]  # fmt: skip
        assert drafts["4001"].question.answers == ("director", "film director", "filmmaker")
        assert drafts["4001"].gold[0].title == "Mira Tolk"
        assert not drafts["4001"].passages

    def test_quotes_blanks_and_what_is_missing(self):
        drafts = read(DataName.POPQA)
        assert drafts["4003"].question.answers == ("Mira Tolk", "M. Tolk", 'Anna "Nan" Tolk')
        assert drafts["4004"].question.answers == ("Estria", "Republic of Estria")
        assert drafts["4005"].question.answers == ("Arlen",)
        assert drafts["4006"].question.answers == ("Jon Veld", "J. Veld")

    def test_the_hubs_rows_read_like_the_file(self, tmp_path):
        lines = (PUBLISHED / "popqa" / "popQA.tsv").read_text(encoding="utf-8")
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "test.tsv").write_text(lines, encoding="utf-8")
        table = datasets.Dataset.from_csv(str(folder / "test.tsv"), sep="\t", cache_dir=str(tmp_path / "cache"))
        datasets.DatasetDict(test=table).save_to_disk(tmp_path / "saved")
        from_hub = read(DataName.POPQA, f"hf:{tmp_path / 'saved'}")
        assert [one.question for one in from_hub.values()] == [one.question for one in read(DataName.POPQA).values()]

    def test_bad_rows(self, tmp_path):
        text = (PUBLISHED / "popqa" / "popQA.tsv").read_text(encoding="utf-8")
        broken = text.replace('"[""rope maker""]"', "[rope").replace("\t[]\t[]\t", "\t[]\t\t", 1)
        (tmp_path / "popQA.tsv").write_text(broken + "4009\tonly\tthree\n", encoding="utf-8")
        with pytest.raises(DataError, match=r'popQA\.tsv:3: "possible_answers" must be a JSON list; correct it'):
            read(DataName.POPQA, tmp_path)
        bad = BadRows(OnBadRow.SKIP)
        assert list(read(DataName.POPQA, tmp_path, bad)) == ["4001", "4003", "4004", "4005", "4006"]
        assert bad.counts == {"broken JSON list": 1, "wrong number of columns": 1}
        (tmp_path / "popQA.tsv").write_text("id\tsubj\n1\tx\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"popQA\.tsv:1: there is no column 'question'"):
            read(DataName.POPQA, tmp_path)

    def test_nothing_is_evaluated(self, tmp_path):
        text = (PUBLISHED / "popqa" / "popQA.tsv").read_text(encoding="utf-8")
        (tmp_path / "popQA.tsv").write_text(text.replace('"[""rope maker""]"', "[print('run')]"), encoding="utf-8")
        with pytest.raises(DataError, match="must be a JSON list"):
            read(DataName.POPQA, tmp_path)


class TestComplexWebQuestions:
    def test_types_and_answers(self):
        drafts = read(DataName.CWQ)
        assert [draft.question.type for draft in drafts.values()] == [
            "composition", "conjunction", "superlative", "comparative", "composition",
        ]  # fmt: skip
        assert drafts["WebQTest-1_aa"].question.answers == ("Brask", "Brask Town")
        assert drafts["WebQTest-2_bb"].question.answers == ("Drissa", "Corvo", "Corvo City")

    def test_a_null_answer_counts_by_its_aliases(self):
        assert read(DataName.CWQ)["WebQTest-3_cc"].question.answers == ("River Om",)

    def test_answers_as_columns_or_as_texts(self, tmp_path):
        columns = {"answer": ["Drissa", None], "aliases": [[], ["Corvo City"]], "answer_id": ["m.02", "m.03"]}
        path = edited(tmp_path, DataName.CWQ, 1, lambda row: row | {"answers": columns})
        assert read(DataName.CWQ, path)["WebQTest-2_bb"].question.answers == ("Drissa", "Corvo City")
        path = edited(tmp_path, DataName.CWQ, 1, lambda row: row | {"answers": ["Drissa", 1963]})
        assert read(DataName.CWQ, path)["WebQTest-2_bb"].question.answers == ("Drissa", "1963")

    @pytest.mark.parametrize("answers", [None, [], [None], [{"answer": None, "aliases": []}], {"aliases": 5}, "x"])
    def test_a_question_without_answers_is_a_bad_row(self, tmp_path, answers):
        path = edited(tmp_path, DataName.CWQ, 1, lambda row: row | {"answers": answers})
        with pytest.raises(DataError, match=r"_dev\.json: \[1\]: \"answers\" holds none for 'Which .*on_bad_row=skip"):
            read(DataName.CWQ, path)
        bad = BadRows(OnBadRow.SKIP)
        assert len(read(DataName.CWQ, path, bad)) == 4
        assert bad.counts == {"no answers": 1}


@pytest.mark.parametrize("name", [DataName.WIKI2, DataName.HOTPOTQA, DataName.CWQ])
class TestAnyJson:
    def test_values_one_after_another_read_like_the_list(self, tmp_path, name):
        rows = list(read_values(PUBLISHED / name / FILES[name]))
        path = tmp_path / FILES[name]
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        aliases = PUBLISHED / name / "id_aliases.json"
        if aliases.exists():
            shutil.copy(aliases, tmp_path)
        from_lines, from_list = read(name, path).values(), read(name).values()
        assert [draft.question for draft in from_lines] == [draft.question for draft in from_list]

    @pytest.mark.parametrize(
        ("edit", "complaint"),
        [
            (lambda row: row.pop("question") and None, '"question" is missing|"question" must be a string, not None'),
            (lambda row: row | {"question": "  "}, '"question" is blank'),
            (lambda row: ["no", "row"], "is no JSON object"),
        ],
    )
    def test_a_bad_row_fails_or_is_counted(self, tmp_path, name, edit, complaint):
        path = edited(tmp_path, name, 2, edit)
        with pytest.raises(DataError, match=rf"{FILES[name]}: \[2\]: ({complaint})".replace(".json", r"\.json")):
            read(name, path)
        bad = BadRows(OnBadRow.SKIP)
        assert len(read(name, path, bad)) == len(read(name)) - 1
        assert bad.counts.total() == 1

    def test_an_id_used_twice(self, tmp_path, name):
        rows = list(read_values(PUBLISHED / name / FILES[name]))
        (tmp_path / FILES[name]).write_text(json.dumps([*rows, rows[0]]))
        assert len(read(name, tmp_path)) == len(rows)
        (tmp_path / FILES[name]).write_text(json.dumps([*rows, rows[0] | {"question": "Another?"}]))
        with pytest.raises(DataError, match="belongs to another question above"):
            read(name, tmp_path)

    def test_a_file_that_is_cut_off(self, tmp_path, name):
        content = (PUBLISHED / name / FILES[name]).read_bytes()
        (tmp_path / FILES[name]).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=r"\.json: \[\d+\]: broken JSON .*copy the file again"):
            read(name, tmp_path)


@pytest.mark.parametrize("name", list(FILES))
class TestFinding:
    def test_file_and_folder_read_alike(self, name):
        assert read(name, PUBLISHED / name / FILES[name]) == read(name, PUBLISHED / name)

    def test_a_folder_without_the_file(self, tmp_path, name):
        with pytest.raises(DataError, match=rf"{tmp_path}: holds no {FILES[name]}; put the published file of {name}"):
            read(name, tmp_path)

    def test_no_such_path(self, tmp_path, name):
        with pytest.raises(
            DataError, match=rf"no such file or folder; download {name} and name its file in data\.path"
        ):
            read(name, tmp_path / "none")

    def test_our_own_form_reads_alike(self, tmp_path, name):
        row = {"id": "q", "question": "?", "answers": ["x"], "type": "t", "passages": [{"text": "p"}]}
        (tmp_path / "any.jsonl").write_text(json.dumps(row) + "\n")
        drafts = read(name, tmp_path / "any.jsonl")
        assert read(name, tmp_path) == drafts
        assert (drafts["q"].question.answers, drafts["q"].question.type) == (("x",), "t")

    def test_a_training_file_lies_beside(self, tmp_path, name):
        shutil.copytree(PUBLISHED / name, tmp_path / "set")
        data = DataConfig(name=name, path=str(tmp_path / "set"))
        assert list(read_further(data, BadRows())) == []
        train = {DataName.WIKI2: "train.json", DataName.HOTPOTQA: "hotpot_train_v1.1.json",
                 DataName.CWQ: "ComplexWebQuestions_train.json"}.get(name)  # fmt: skip
        if train:
            shutil.copy(tmp_path / "set" / FILES[name], tmp_path / "set" / train)
            assert len(list(read_further(data, BadRows()))) == len(list(read_benchmark(data, BadRows())))
