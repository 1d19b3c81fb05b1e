import dataclasses
import json
from pathlib import Path

import pytest

from polyprag.config import Config, DataName, Granularity, MethodName, WarmUpConfig
from polyprag.config.keys import config_difference
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.loading import load_knowledge
from polyprag.training.controls import CONTROLS, control_config, control_folder, control_knowledge

GLOBAL, FORMAT = MethodName.GLOBAL_LORA, MethodName.FORMAT_LORA
TRAINING_KEYS = {
    *("experts.count", "experts.rank", "experts.shared", "experts.orthogonality"),
    *("routing.granularity", "routing.top_k", "routing.gumbel", "router.after_pool", "training.validate_every"),
}
POOL = (
    *("experts.count=3", "experts.rank=4", "experts.shared=5", "experts.orthogonality=0.1"),
    *("routing.top_k=2", "routing.gumbel=true"),
)


def demo(*overrides: str) -> Config:
    world = ("data.world.passages=20", "data.world.questions=5", "data.world.validation_questions=5")
    return load_config(None, [*POOL, *world, *overrides])


def contents(config: Config) -> set[str]:
    return {passage.content_hash for passage in load_knowledge(config.data).passages}


def write_corpus(path: Path, *names: str) -> Path:
    rows = [
        {"title": name, "text": f"{name} is a town.", "qas": [{"question": f"What is {name}?", "answer": "a town"}]}
        for name in names
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CONTROLS)
class TestOneExpert:
    def test_it_has_the_rank_of_the_whole_pool_and_no_routing(self, name):
        control = control_config(demo(), name)
        assert (control.experts.count, control.experts.rank, control.experts.shared) == (1, 3 * 4 + 5, 0)
        assert (control.routing.granularity, control.routing.top_k) == (Granularity.SHARED, 0)
        assert not control.routing.gumbel
        assert not control.router.after_pool
        assert control.training.validate_every == 0

    def test_nothing_else_of_the_training_differs(self, name):
        config = demo("training.epochs=7", "experts.scale=3", "tasks.loss=all_tokens", "base.dtype=float32")
        changed = {
            key for key in config_difference(config, control_config(config, name)) if key.split(".")[0] != "data"
        }
        assert changed == TRAINING_KEYS

    def test_the_configuration_at_hand_is_left_alone(self, name):
        config, untouched = demo(), demo()
        control_config(config, name)
        assert config == untouched

    def test_its_folder_lies_within_the_run(self, name, tmp_path):
        assert control_folder(tmp_path, name) == tmp_path / "controls" / name.value


def test_the_global_one_learns_the_corpus_of_the_run(configure):
    for config in (demo(), configure(), configure("data.max_passages=2", "data.limit=1")):
        assert control_config(config, GLOBAL).data == config.data


def test_only_the_global_one_starts_from_a_warm_up():
    config = demo("warm_up.pool=true", "warm_up.epochs=2")
    assert control_config(config, GLOBAL).warm_up == config.warm_up
    assert control_config(config, FORMAT).warm_up == WarmUpConfig()


def test_what_they_are_trained_on(configure, tmp_path):
    path = write_corpus(tmp_path / "outside.jsonl", "Gard", "Holm")
    config = configure(f"data.outside={path}")
    run = load_knowledge(config.data)
    holm = next(p for p in load_knowledge(control_config(config, FORMAT).data).passages if p.title == "Holm")
    run = dataclasses.replace(run, passages=(*run.passages, holm))
    assert control_knowledge(control_config(config, GLOBAL), GLOBAL, run) is run
    outside = control_knowledge(control_config(config, FORMAT), FORMAT, run)
    assert [passage.title for passage in outside.passages] == ["Gard"]
    assert (outside.test, outside.validation) == ((), ())


class TestOutside:
    def test_of_the_demo_world_it_is_another_world(self):
        config = demo("controls.passages=24", "data.max_passages=15", "data.limit=3", "data.types=[one_hop]")
        control = control_config(config, FORMAT)
        assert control.data.world.seed == config.data.world.seed + 1
        assert len(load_knowledge(control.data).passages) == 24
        assert not contents(control) & contents(config)
        assert any(own.qa for own in load_knowledge(control.data).augmentations.values())

    def test_of_a_file_it_is_what_the_corpus_leaves_over(self, configure, library_files):
        config = configure("data.max_passages=2", "data.skip_passages=1", "controls.passages=2", "data.limit=1")
        control = control_config(config, FORMAT)
        titles = [passage.title for passage in load_knowledge(control.data).passages]
        assert titles == ["Abel Dorn", "Runa Hale"]
        assert not contents(control) & contents(config)
        everything = contents(configure())
        assert contents(control) | contents(config) < everything
        assert any(own.qa for own in load_knowledge(control.data).augmentations.values())

    def test_or_a_file_of_its_own(self, configure, tmp_path):
        path = write_corpus(tmp_path / "outside.jsonl", "Gard", "Holm", "Ister")
        config = configure(f"data.outside={path}", "controls.passages=2", "data.max_passages=2", "data.train_qas=1")
        control = control_config(config, FORMAT)
        assert (control.data.name, control.data.path, control.data.questions) == (DataName.JSONL, str(path), "")
        assert (control.data.train_qas, control.data.augmentation, control.data.skip_passages) == (1, "", 0)
        assert [passage.title for passage in load_knowledge(control.data).passages] == ["Gard", "Holm"]
        assert not contents(control) & contents(config)

    @pytest.mark.parametrize("overrides", [(), ("data.path=", "data.max_passages=3")])
    def test_where_nothing_is_left_over_the_remedy_is_named(self, configure, overrides):
        says = r"^data\.outside is empty, and data\.max_passages leaves no passage over: .*name a file of passages"
        with pytest.raises(ConfigError, match=says) as caught:
            control_config(configure(*overrides), FORMAT)
        assert "\n" not in str(caught.value)

    def test_a_corpus_that_takes_the_whole_file_leaves_nothing(self, configure):
        control = control_config(configure("data.max_passages=6"), FORMAT)
        with pytest.raises(DataError, match=r"no passage is left: data\.skip_passages=6 leaves out all of them"):
            load_knowledge(control.data)

    def test_a_control_that_cannot_be_trained_is_refused(self):
        config = demo()
        config = dataclasses.replace(config, controls=dataclasses.replace(config.controls, passages=3))
        with pytest.raises(ConfigError, match=r"data\.world\.passages is 3, but must be from 20"):
            control_config(config, FORMAT)
