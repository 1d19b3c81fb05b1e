from pathlib import Path

import pytest

from polyprag.config import Config, MethodName
from polyprag.config.keys import config_values
from polyprag.config.loading import load_config, to_yaml
from polyprag.evaluation.trained import trained_with
from polyprag.files import write_text
from polyprag.training.controls import control_config, control_folder

CORPUS = ("data.name=jsonl", "data.path=corpus.jsonl", "experts.count=3", "run.dir=runs/one")
OUTSIDE = (*CORPUS, "data.outside=outside.jsonl")


def configured(*overrides: str) -> Config:
    return load_config(None, overrides)


@pytest.fixture
def run(tmp_path) -> Path:
    """The folder of a run whose pool is trained."""
    write_text(tmp_path / "config.yaml", to_yaml(configured(*CORPUS)))
    return tmp_path


def write_control(run: Path, name: MethodName, *overrides: str) -> None:
    write_text(control_folder(run, name) / "config.yaml", to_yaml(control_config(configured(*overrides), name)))


def test_the_pool_is_told_as_it_was_trained(run):
    asked = configured(*CORPUS, "data.questions=gold.jsonl", "answering.passages=2")
    told = trained_with(run, asked, has_pool=True)
    assert told == {"pool": config_values(configured(*CORPUS)), "controls": {}, "translator": {}}
    assert "pool" not in trained_with(run, asked, has_pool=False)


def test_the_translator_tells_what_it_was_given_otherwise(run):
    write_text(run / "translator" / "config.yaml", to_yaml(configured(*OUTSIDE, "translator.epochs=2")))
    found = trained_with(run, configured(*CORPUS), has_pool=True)["translator"]
    assert found == {"data.outside": "outside.jsonl", "translator.epochs": 2}


def test_controls_tell_the_file_of_outside_passages(run):
    write_control(run, MethodName.FORMAT_LORA, *OUTSIDE, "controls.passages=7")
    found = trained_with(run, configured(*CORPUS), has_pool=True)["controls"]
    assert found == {"data.outside": "outside.jsonl", "controls.passages": 7}


def test_controls_of_the_pools_own_configuration_tell_nothing(run):
    write_control(run, MethodName.GLOBAL_LORA, *CORPUS)
    assert trained_with(run, configured(*CORPUS), has_pool=True)["controls"] == {}


def test_what_a_corpus_leaves_over_is_no_file_of_outside_passages(run):
    part = (*CORPUS, "data.max_passages=5")
    write_text(run / "config.yaml", to_yaml(configured(*part)))
    write_control(run, MethodName.FORMAT_LORA, *part)
    assert trained_with(run, configured(*part), has_pool=True)["controls"] == {}


def test_keys_that_the_pool_has_fixed_are_not_named(run):
    older = [word.replace("experts.count=3", "experts.count=5") for word in OUTSIDE]
    write_text(run / "translator" / "config.yaml", to_yaml(configured(*older)))
    assert trained_with(run, configured(*CORPUS), has_pool=True)["translator"] == {"data.outside": "outside.jsonl"}


def test_files_of_other_versions_tell_nothing(run):
    write_text(run / "translator" / "config.yaml", "gone: {key: 5}\n")
    assert trained_with(run, configured(*CORPUS), has_pool=True)["translator"] == {}
