from pathlib import Path

import pytest

from polyprag.config import Config
from polyprag.config.loading import load_config, to_yaml
from polyprag.errors import ConfigError
from polyprag.training.checkpoint import LAST, AtomicCheckpointIO, resume_path


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of a checkpoint of the default configuration, learned from data whose fingerprint is `ours`."""
    content = {"polyprag_config": to_yaml(Config()), "polyprag_data": "ours"}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / LAST)
    return tmp_path


@pytest.mark.parametrize("resume", ["auto", "path"])
def test_a_checkpoint_of_other_data_is_refused(folder, resume):
    named = "auto" if resume == "auto" else str(folder / LAST)
    says = (
        rf"^--resume {folder / LAST}: passages, rewrites or pairs are others than those .* train anew without --resume"
    )
    with pytest.raises(ConfigError, match=says):
        resume_path(named, folder, Config(), learned_from="others")
    assert resume_path(named, folder, Config(), learned_from="ours") == folder / LAST


def test_data_are_compared_only_where_both_sides_tell_them(folder):
    assert resume_path("auto", folder, Config()) == folder / LAST
    older = {"polyprag_config": to_yaml(Config())}
    AtomicCheckpointIO().save_checkpoint(older, folder / LAST)
    assert resume_path("auto", folder, Config(), learned_from="others") == folder / LAST


def test_without_a_checkpoint_or_a_wish_to_resume_there_is_no_path(folder, tmp_path):
    assert resume_path(None, folder, Config(), learned_from="others") is None
    assert resume_path("auto", tmp_path / "none", Config(), learned_from="others") is None


def test_other_keys_are_named_before_other_data(folder):
    config = load_config(None, ["experts.rank=7"])
    with pytest.raises(ConfigError, match=r"experts\.rank differ from the checkpoint"):
        resume_path("auto", folder, config, learned_from="others")
