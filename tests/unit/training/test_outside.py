import dataclasses
import json
from pathlib import Path

import pytest

from polyprag.config import Config, DataName, DataPart, SplittingConfig
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.loading import load_knowledge
from polyprag.records import Augmentation, Knowledge, Passage, QAPair, Question
from polyprag.training.outside import COPIES, IN_CORPUS, PAIRLESS, Outside, outside_data, outside_knowledge

CORPUS = Knowledge(
    (Passage("p0", "Arlen", "Arlen lies by the river Om."), Passage("p1", "Brask", "Brask lies by the river Tul.")),
    test=(Question("q0", "By which river does the town of Arlen lie?", ("Om",)),),
    validation=(Question("v0", "Which old bridge leads into the town of Brask?", ("none",)),),
)


def write_rows(path: Path, *rows: tuple[str, str, list[str]]) -> Path:
    """A file of passages `(title, text, questions)`, each question answered by the title."""
    written = [
        {"title": title, "text": text, "qas": [{"question": one, "answer": title} for one in questions]}
        for title, text, questions in rows
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    return path


def outside(config: Config, passages: int) -> Config:
    return dataclasses.replace(config, data=outside_data(config, passages))


@pytest.fixture
def read(configure, tmp_path):
    """`read(*rows)`: what is left of a file of such passages for a run on the corpus."""

    def of(*rows: tuple[str, str, list[str]]) -> Outside:
        path = write_rows(tmp_path / "outside.jsonl", *rows)
        return outside_knowledge(outside(configure(f"data.outside={path}"), 50), CORPUS)

    return of


class TestWhichDataAreOutside:
    def test_a_file_that_is_named_comes_first_and_is_read_like_the_corpus(self, configure, tmp_path):
        path = write_rows(tmp_path / "outside.jsonl", ("Gard", "Gard is a town.", ["What is Gard?"]))
        layout = ("data.text_column=body", "data.title_column=name", "data.on_bad_row=skip", "data.splitting.size=50")
        for name in ("jsonl", "demo"):
            files = () if name == "jsonl" else ("data.path=", "data.questions=")
            data = outside_data(configure(f"data.outside={path}", f"data.name={name}", *files, *layout), 7)
            assert (data.name, data.path, data.questions, data.max_passages) == (DataName.JSONL, str(path), "", 7)
            assert (data.text_column, data.title_column, data.on_bad_row.value) == ("body", "name", "skip")
            assert data.splitting == SplittingConfig(size=50)

    def test_of_a_benchmark_it_is_the_questions_outside_the_test_set(self, configure):
        config = configure("data.name=popqa", "data.questions=", "data.types=[x]", "data.limit=3", "data.retrieved=2")
        data = outside_data(config, 7)
        assert (data.name, data.path, data.part) == (DataName.POPQA, config.data.path, DataPart.OUTSIDE)
        assert (data.max_passages, data.limit, data.types, data.retrieved) == (7, 0, [], 0)
        assert data.per_type == config.data.per_type

    def test_what_is_left_over_is_not_cut_by_the_questions_of_the_run(self, configure):
        data = outside_data(configure("data.max_passages=2", "data.retrieved=1", "data.limit=1"), 3)
        assert len(load_knowledge(data).passages) == 3

    def test_how_little_the_corpus_has_is_no_matter(self, configure):
        little = outside_data(configure("data.max_passages=2", "data.max_pairs=1", "data.max_rewrites=0"), 3)
        assert little == outside_data(configure("data.max_passages=2"), 3)
        assert any(len(own.qa) > 1 for own in load_knowledge(little).augmentations.values())

    def test_a_corpus_without_end_leaves_nothing(self, configure):
        with pytest.raises(ConfigError, match=r"^data\.outside is empty, .* warm-up and format_lora need passages"):
            outside_data(configure(), 5)


class TestLeftOut:
    def test_passages_of_the_corpus(self, read):
        own, other = CORPUS.passages[0], ("Gard", "Gard is a town.", ["What is Gard?"])
        outside = read((own.title, own.text, ["What is Arlen?"]), other)
        assert [passage.title for passage in outside.passages] == ["Gard"]
        assert outside.left_out == {IN_CORPUS: 1}
        assert str(outside) == "1 outside passages with 1 pairs; left out: 1 passages of the corpus"

    @pytest.mark.parametrize("asked", [*CORPUS.test, *CORPUS.validation])
    def test_pairs_that_copy_a_question_of_the_run(self, read, asked):
        nearly = f"Now: {asked.text.lower()}"
        outside = read(("Gard", "Gard is a town.", [asked.text, "What is Gard?", nearly]))
        assert [pair.question for pair in outside.pairs] == ["What is Gard?"]
        assert outside.left_out == {COPIES: 2}

    def test_passages_without_pairs_or_none_but_copies(self, read):
        asked = CORPUS.test[0].text
        outside = read(("Gard", "Gard is a town.", [asked]), ("Holm", "Holm is.", []), ("Ister", "A river.", ["What?"]))
        assert [passage.title for passage in outside.passages] == ["Ister"]
        assert outside.left_out == {COPIES: 1, PAIRLESS: 2}
        assert outside.knowledge.augmentations.keys() == {passage.id for passage in outside.passages}

    def test_a_file_of_which_nothing_is_left_is_refused(self, read):
        own = CORPUS.passages[0]
        says = r"outside\.jsonl: nothing outside the corpus is left .* \(1 passages of the corpus\); name a file"
        with pytest.raises(DataError, match=says) as caught:
            read((own.title, own.text, ["What is Arlen?"]))
        assert "\n" not in str(caught.value)

    def test_of_the_demo_world_nothing_of_another_seed_is_in_the_run(self, configure):
        config = configure("data.name=demo", "data.path=", "data.questions=", "data.world.questions=0")
        run = load_knowledge(config.data)
        found = outside_knowledge(outside(config, 60), run)
        asked = {question.text for question in (*run.test, *run.validation)}
        assert not {p.content_hash for p in found.passages} & {p.content_hash for p in run.passages}
        assert not {pair.question for pair in found.pairs} & asked
        assert len(found.passages) > 50


class TestOutside:
    def passages(self, *pairs: int) -> Outside:
        """Passages of so many pairs."""
        passages = tuple(Passage(f"p{at}", "", f"Text {at}.") for at in range(len(pairs)))
        qa = {
            passage.id: Augmentation(passage.id, (), tuple(QAPair(f"{passage.id} {at}?", "yes") for at in range(count)))
            for passage, count in zip(passages, pairs, strict=True)
        }
        return Outside(passages, qa, {IN_CORPUS: 1})

    @pytest.mark.parametrize(("most", "kept"), [(1, 1), (3, 1), (4, 1), (5, 2), (9, 2), (10, 3), (99, 3)])
    def test_the_first_passages_fill_a_number_of_pairs(self, most, kept):
        first = self.passages(3, 2, 5).first(most)
        assert [passage.id for passage in first.passages] == ["p0", "p1", "p2"][:kept]
        assert first.augmentations.keys() == {passage.id for passage in first.passages}
        assert len(first.pairs) == sum((3, 2, 5)[:kept])
        assert first.left_out == {IN_CORPUS: 1}

    def test_the_fingerprint_is_that_of_the_content(self):
        outside = self.passages(1, 2)
        assert outside.fingerprint == self.passages(1, 2).fingerprint
        others = [self.passages(2, 1), outside.first(1), Outside(outside.passages[::-1], outside.augmentations)]
        renamed = tuple(Passage(p.id, "title", p.text) for p in outside.passages)
        others.append(Outside(renamed, outside.augmentations))
        assert len({one.fingerprint for one in (outside, *others)}) == 5
