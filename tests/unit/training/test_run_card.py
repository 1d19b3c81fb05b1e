import json
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger

from polyprag.config import Config
from polyprag.config.loading import load_config
from polyprag.errors import DataError
from polyprag.knowledge.data_card import make_card
from polyprag.knowledge.loading import load_knowledge
from polyprag.runs import run_data
from polyprag.training.run_card import COLUMNS, card_numbers, card_of_run, log_card
from polyprag.training.trainer import loggers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with an augmentation of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    row = {"passage_id": "p1", "rewrites": [], "qa": [{"question": "Who made bells?", "answer": "Ada"}]}
    (folder / "augmentation.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "augmentation_report.json").write_text(json.dumps({"by": "small", "rejected": {"repeated": 3}}))
    return folder


class TestRuns:
    def test_the_runs_own_augmentation_counts(self, configure, folder):
        config = configure()
        card = card_of_run(config, folder, load_knowledge(run_data(config, folder)), None)
        assert card.left_out.augmentation == {"repeated": 3}
        assert card.trained.by == "small"
        assert [source.key for source in card.sources] == ["data.path", "data.augmentation", "data.questions"]
        assert card.sources[1].path == str(folder / "augmentation.jsonl")
        assert all(len(source.sha256) == 64 for source in card.sources)

    def test_another_augmentation_does_without_its_report(self, configure, folder):
        other = folder / "other.jsonl"
        (folder / "augmentation.jsonl").rename(other)
        config = configure(f"data.augmentation={other}")
        card = card_of_run(config, folder, load_knowledge(config.data), None)
        assert (card.left_out.augmentation, card.trained.by) == ({}, "")

    def test_so_does_a_run_without_augmentation(self, configure, tmp_path):
        config = configure()
        knowledge = load_knowledge(config.data)
        assert card_of_run(config, tmp_path, knowledge, None, {1: 0.5}) == make_card(
            config, knowledge, None, recall={1: 0.5}
        )

    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_a_damaged_report_is_refused(self, configure, folder, content):
        (folder / "augmentation_report.json").write_text(content)
        with pytest.raises(DataError, match=r"augmentation_report\.json: not .*; delete the file, or run") as caught:
            card_of_run(configure(), folder, load_knowledge(configure().data), None)
        assert "\n" not in str(caught.value)


def test_numbers_go_by_name():
    summary = {"passages": 3, "left_out": {"rows": {"answers missing": 2}}, "recall": {"1": 0.5}, "warnings": ["x"]}
    assert card_numbers(summary) == {"passages": 3.0, "left_out/rows/answers missing": 2.0, "recall/1": 0.5}


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
class TestWeightsAndBiases:
    @pytest.fixture
    def config(self, monkeypatch) -> Config:
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
        monkeypatch.setenv("WANDB_MODE", "dryrun")  # as Lightning sets it; undone after the test
        wandb.teardown()  # what earlier tests have set up would not look at the environment again
        return load_config(None, ["logging.project=mine"])

    def test_an_offline_run_holds_the_numbers(self, config, tiny_knowledge, tmp_path):
        card = make_card(config, tiny_knowledge, None)
        chosen = loggers(config, tmp_path / "run")
        log_card(card, chosen)
        run = chosen[1].experiment
        assert isinstance(run, wandb.Run)
        summary = dict(run.summary)
        run.finish()
        assert summary["data/passages"] == 3
        assert summary["data/pairs"] == 6
        assert summary["data/overlap/exact"] == 0
        [table] = (tmp_path / "run" / "wandb").glob("offline-run-*/files/media/table/data/*.json")
        content = json.loads(table.read_text())
        assert content["columns"] == list(COLUMNS)
        assert ["overlap/training", 6.0] in content["data"]

    def test_other_loggers_get_nothing(self, config, tiny_knowledge, tmp_path):
        log_card(make_card(config, tiny_knowledge, None), [CSVLogger(str(tmp_path / "run"))])
        assert not (tmp_path / "run").exists()
