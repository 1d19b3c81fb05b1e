import dataclasses

import pytest
import torch

from benchmarks import suite
from benchmarks.cases import prag_batched
from polyprag.config.loading import load_config
from polyprag.methods.adapters import AdapterEncoder


def test_adapters_are_trained_anew_in_every_round_one_at_a_time_and_together(
    tiny_config, tiny_knowledge, tmp_path, monkeypatch
):
    asked, trained = [], []

    def recorded(self, passages, questions=None, encode=AdapterEncoder.encode):
        asked.append((self.config.prag.parallel, len(passages), sum(self.path(one).exists() for one in passages)))
        encode(self, passages, questions)
        trained.append(sum(self.path(one).exists() for one in passages))

    monkeypatch.setattr(AdapterEncoder, "encode", recorded)
    config = dataclasses.replace(load_config(None, ["prag.learning_rate=0.01"]), base=tiny_config)
    measured = prag_batched.compared(config, tiny_knowledge, tmp_path, rounds=1)
    assert asked == [(8, 3, 0), (1, 3, 0), (1, 3, 0), (8, 3, 0)]  # the first round warms up
    assert trained == [3, 3, 3, 3]
    assert measured.value > 0
    assert measured.facts["passages"] == 3
    assert measured.facts["updates_differ"] < 1e-4, "the same adapters to rounding, in float32"


def test_the_distance_is_a_share_of_the_expected_updates():
    one = {"x.lora_A.weight": torch.eye(2), "x.lora_B.weight": torch.eye(2)}
    other = {**one, "x.lora_B.weight": 1.5 * torch.eye(2)}
    assert prag_batched.distance([one], [one]) == 0
    assert prag_batched.distance([one, one], [other, other]) == pytest.approx(0.5)


def test_naming_the_module_measures_both_recipes():
    chosen = suite.chosen_cases(suite.found_cases(), ["prag_batched"], False)
    assert [case.name for case in chosen] == ["prag_batched_official", "prag_batched_tuned"]
    assert not {case.name for case in chosen} & {
        case.name for case in suite.chosen_cases(suite.found_cases(), [], False)
    }
