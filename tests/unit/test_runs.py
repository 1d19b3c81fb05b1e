import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyprag.config import Combine, Config, DataName
from polyprag.config.keys import config_difference
from polyprag.config.loading import to_yaml
from polyprag.errors import ConfigError, DataError, StoreError
from polyprag.knowledge.loading import load_knowledge
from polyprag.passages import StoredPassages
from polyprag.runs import run_config, run_knowledge, with_prag_passes


@pytest.fixture
def run(configure, train_at_random, tmp_path) -> Path:
    """A run trained with five retrieved passages and mean gates."""
    folder = tmp_path / "run"
    train_at_random(configure("answering.passages=5", "answering.combine=mean", f"run.dir={folder}"), folder)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_questions(path: Path, *rows: dict[str, object]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


class TestConfig:
    def test_without_a_run_it_is_that_of_the_call(self, tmp_path):
        path = write(tmp_path / "some.yaml", "experts:\n  count: 5\n")
        config, folder = run_config(path, [f"run.dir={tmp_path / 'none'}", "experts.rank=3"])
        assert (config.experts.count, config.experts.rank) == (5, 3)
        assert folder == tmp_path / "none"

    def test_without_a_run_it_is_checked(self, tmp_path):
        with pytest.raises(ConfigError, match=r"experts\.count is 0"):
            run_config(None, [f"run.dir={tmp_path / 'none'}", "experts.count=0"])

    def test_the_folder_may_go_by_the_name_of_the_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        _, folder = run_config(write(tmp_path / "some.yaml", ""), [])
        assert folder == Path("runs/some")

    def test_a_trained_run_brings_its_own(self, run, configure):
        config, folder = run_config(None, [f"run.dir={run}"])
        expected = configure("answering.passages=5", "answering.combine=mean", f"run.dir={run}")
        assert folder == run
        assert config == expected

    def test_overrides_come_on_top(self, run):
        config, _ = run_config(None, [f"run.dir={run}", "answering.passages=1", "base.dtype=bfloat16"])
        assert (config.answering.passages, config.answering.combine) == (1, Combine.MEAN)
        assert config.base.dtype == "bfloat16"

    def test_overrides_are_checked(self, run):
        with pytest.raises(ConfigError, match=r"answering\.max_new_tokens is 0"):
            run_config(None, [f"run.dir={run}", "answering.max_new_tokens=0"])
        with pytest.raises(ConfigError, match=r"unknown key 'answering\.passage'; did you mean answering\.passages"):
            run_config(None, [f"run.dir={run}", "answering.passage=1"])

    @pytest.mark.parametrize(
        ("override", "key"),
        [
            ("experts.count=9", "experts.count"),
            ("experts.targets=[up_proj]", "experts.targets"),
            ("experts.composition=factor", "experts.composition"),
            ("routing.granularity=shared", "routing.granularity"),
            ("routing.normalisation=softmax", "routing.normalisation"),
            ("routing.top_k=1", "routing.top_k"),
            ("base.model=elsewhere", "base.model"),
            ("retrieval.backend=dense", "retrieval.backend"),
            ("retrieval.encoder=elsewhere", "retrieval.encoder"),
            ("retrieval.titles=false", "retrieval.titles"),
            ("answering.expand_index=true", "answering.expand_index"),
        ],
    )
    def test_what_training_has_fixed_cannot_be_changed(self, run, override, key):
        with pytest.raises(ConfigError, match=rf"^{key}: fixed by the training in .*; leave out, or train another"):
            run_config(None, [f"run.dir={run}", override])

    def test_the_same_value_again_is_no_change(self, run):
        config, _ = run_config(None, [f"run.dir={run}", "experts.count=3"])
        assert config.experts.count == 3

    def test_a_file_replaces_the_free_sections_and_no_others(self, run, tmp_path, library_files):
        path = write(
            tmp_path / "other.yaml",
            f"data:\n  name: jsonl\n  path: {library_files[0]}\n  train_qas: 1\n"
            "answering:\n  passages: 2\nprag:\n  rank: 7\nexperts:\n  count: 99\ntraining:\n  epochs: 77\n",
        )
        trained, _ = run_config(None, [f"run.dir={run}"])
        config, _ = run_config(path, [f"run.dir={run}", "answering.shots=1"])
        assert (config.answering.passages, config.answering.combine) == (2, Combine.AUTO)
        assert (config.answering.shots, config.prag.rank, config.data.train_qas) == (1, 7, 1)
        free = ("data.", "answering.", "prag.", "evaluation.", "logging.")
        assert all(key.startswith(free) for key in config_difference(trained, config))

    def test_a_run_that_was_only_begun_counts_as_a_run(self, tmp_path, configure):
        folder = tmp_path / "begun"
        folder.mkdir()
        write(folder / "config.yaml", to_yaml(configure("answering.passages=4")))
        config, _ = run_config(None, [f"run.dir={folder}"])
        assert config.answering.passages == 4


class TestKnowledge:
    @pytest.fixture
    def config(self, run) -> Config:
        return run_config(None, [f"run.dir={run}"])[0]

    def test_without_a_store_it_is_that_of_the_data(self, configure, tmp_path):
        config = configure()
        assert run_knowledge(config, tmp_path / "none") == load_knowledge(config.data)

    def test_with_the_data_of_the_training_nothing_changes(self, config, run):
        assert run_knowledge(config, run) == load_knowledge(config.data)

    def test_other_questions_keep_the_corpus_of_the_store(self, config, run, tmp_path):
        config.data.questions = str(
            write_questions(
                tmp_path / "new.jsonl",
                {"id": "n1", "question": "Where is Mira from?", "answers": ["Arlen"], "passage_ids": ["p0"]},
                {"id": "n2", "question": "Who knows?", "answers": ["nobody"]},
            )
        )
        config.data.path, config.data.validation_questions = "", 0
        knowledge = run_knowledge(config, run)
        assert [passage.id for passage in knowledge.passages] == [f"p{index}" for index in range(6)]
        assert [(q.id, q.passage_ids) for q in knowledge.test] == [("n1", ("p0",)), ("n2", ())]

    def test_gold_passages_of_other_files_are_found_by_content(self, config, run, tmp_path):
        own = load_knowledge(config.data).passages[2]
        config.data.path = ""
        config.data.questions = str(
            write_questions(
                tmp_path / "new.jsonl",
                {
                    "id": "n1",
                    "question": "Where is Ilse from?",
                    "answers": ["Corvo"],
                    "passages": [
                        {"title": own.title, "text": own.text, "is_support": True},
                        {"title": "Nobody", "text": "Another text.", "is_support": True},
                    ],
                },
            )
        )
        (question,) = run_knowledge(config, run).test
        assert question.passage_ids == ("p2",)

    def test_another_corpus_under_other_ids_is_matched_to_the_store(self, config, run, tmp_path, library_files):
        rows = [json.loads(line) for line in library_files[0].read_text().splitlines()]
        for row in rows:
            row["id"] = f"other-{row['id']}"
        rows.append({"id": "p0", "title": "New", "text": "Not in the store.", "qas": rows[0]["qas"]})
        config.data.path, config.data.questions = str(write_questions(tmp_path / "corpus.jsonl", *rows)), ""
        config.data.train_qas, config.data.validation_questions = 2, 0
        knowledge = run_knowledge(config, run)
        assert [passage.id for passage in knowledge.passages] == [f"p{index}" for index in range(6)]
        assert sorted(knowledge.augmentations) == [f"p{index}" for index in range(6)]
        assert all(knowledge.augmentations[id_].passage_id == id_ for id_ in knowledge.augmentations)
        assert [q.passage_ids for q in knowledge.test] == [*((f"p{index}",) for index in range(6)), ()]

    def test_an_id_that_is_in_no_corpus_is_refused(self, config, run, tmp_path):
        row = {"question": "Who?", "answers": ["A"], "passage_ids": ["p77"]}
        config.data.path, config.data.questions = "", str(write_questions(tmp_path / "new.jsonl", row))
        with pytest.raises(DataError, match=r"new\.jsonl:1: passage id 'p77' is not in the corpus"):
            run_knowledge(config, run)

    def test_the_demo_world_may_ask_a_run_that_does_not_know_it(self, config, run):
        config.data.name, config.data.path, config.data.questions = DataName.DEMO, "", ""
        config.data.world.passages, config.data.world.questions = 20, 5
        knowledge = run_knowledge(config, run)
        assert len(knowledge.passages) == 6
        assert knowledge.test
        assert not any(question.passage_ids for question in knowledge.test)

    def test_questions_about_a_store_read_its_gold_passages_alone(self, config, run, tmp_path, monkeypatch):
        rows = [{"question": "Where is Mira from?", "answers": ["Arlen"], "passage_ids": ["p0"]}, {"question": "Who?"}]
        questions = write_questions(tmp_path / "new.jsonl", *({"answers": ["A"], **row} for row in rows))
        config.data.path, config.data.questions, config.data.validation_questions = "", str(questions), 0
        read: list[int] = []
        whole = StoredPassages.__getitem__

        def noted(self: StoredPassages, index: int | slice) -> object:
            read.extend([index] if isinstance(index, int) else [])
            return whole(self, index)

        monkeypatch.setattr(StoredPassages, "__getitem__", noted)
        knowledge = run_knowledge(config, run)
        assert [question.passage_ids for question in knowledge.test] == [("p0",), ()]
        assert set(read) == {0}

    def test_a_damaged_store_is_refused(self, config, run):
        (run / "store" / "rows.safetensors").write_bytes(b"")
        with pytest.raises(StoreError, match=r"rows\.safetensors: the store is damaged here"):
            run_knowledge(config, run)


class TestWhoseStore:
    """A store may be what an earlier training has left, when a later one was interrupted."""

    @pytest.mark.parametrize("override", ["training.learning_rate=0.5", "experts.rank=5", "run.seed=3"])
    def test_that_of_an_earlier_training_is_refused(self, run, configure, override):
        write(run / "config.yaml", to_yaml(configure("answering.passages=5", f"run.dir={run}", override)))
        config, folder = run_config(None, [f"run.dir={run}"])
        says = (
            rf"^{run}: its store was trained with another {override.partition('=')[0]} than config\.yaml says, .*anew$"
        )
        with pytest.raises(ConfigError, match=says):
            run_knowledge(config, folder)

    def test_keys_that_weights_do_not_depend_on_may_differ(self, run, configure):
        write(run / "config.yaml", to_yaml(configure("prag.rank=7", "router.steps=3", "run.dir=elsewhere")))
        assert len(run_knowledge(run_config(None, [f"run.dir={run}"])[0], run).passages) == 6

    def test_a_key_that_one_side_does_not_tell_counts_as_at_its_default(self, run):
        told = (run / "config.yaml").read_text(encoding="utf-8")
        older = "".join(line for line in told.splitlines(keepends=True) if "reseed_every" not in line)
        assert older != told
        write(run / "config.yaml", older)
        assert len(run_knowledge(run_config(None, [f"run.dir={run}"])[0], run).passages) == 6

    def test_a_store_without_a_configuration_beside_it_is_opened(self, run, configure):
        (run / "config.yaml").unlink()
        assert len(run_knowledge(configure(), run).passages) == 6


class TestPragPasses:
    """`prag.epochs=0`: as many passes as the pool has taken."""

    @pytest.mark.parametrize(("taken", "expected"), [(11.76, 12), (0.3, 1), (2, 2)])
    def test_they_are_those_of_the_store(self, configure, train_at_random, tmp_path, monkeypatch, taken, expected):
        config = configure("prag.epochs=0")
        train_at_random(config, tmp_path)
        monkeypatch.setattr(
            "polyprag.runs.open_store",
            lambda path: SimpleNamespace(manifest=SimpleNamespace(training={"passes": taken})),
        )
        assert with_prag_passes(config, tmp_path).prag.epochs == expected

    def test_without_a_store_that_tells_them_a_number_is_asked_for(self, configure, train_at_random, tmp_path):
        config = configure("prag.epochs=0")
        with pytest.raises(ConfigError, match=r"prag\.epochs is 0"):
            with_prag_passes(config, tmp_path)
        train_at_random(config, tmp_path)
        with pytest.raises(ConfigError, match=r"prag\.epochs is 0, the passes of the pool, but .*store tells none"):
            with_prag_passes(config, tmp_path)

    def test_a_number_stays(self, configure, tmp_path):
        config = configure("prag.epochs=3")
        assert with_prag_passes(config, tmp_path) is config
