import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor

from polyprag.config import Config, PragConfig
from polyprag.errors import AdapterError
from polyprag.experts.base_model import load_base
from polyprag.methods import adapter_batches, adapter_training, adapters
from polyprag.methods.adapters import FACTS, INITIAL, WARM_UP, WEIGHTS, AdapterEncoder
from polyprag.records import Augmentation, Passage, QAPair
from polyprag.training.batches import Batch

OFFICIAL = ("prag.epochs=2",)
TUNED = ("prag.recipe=default", "prag.loss=answers", "prag.batch_size=6", "prag.epochs=3", "prag.learning_rate=0.003")
OUTSIDE = (QAPair("What is Gard?", "a town"), QAPair("In which year did Ister begin?", "1503"))
TOLERANCE = 2e-5
"""Largest difference of a trained weight matrix, as a share of how far it moved from the start, in float32."""
REWRITE = "Arlen saw the birth of a maker of glass."

Weights = dict[str, Tensor]
NewEncoder = Callable[..., AdapterEncoder]


@pytest.fixture(scope="module")
def work() -> tuple[tuple[Passage, ...], dict[str, Augmentation]]:
    """Four passages with ever more pairs and text, and so with ever more steps."""
    passages = tuple(
        Passage(f"p{index}", f"Town {index}", "The town lies by the river Om. " * (index + 1)) for index in range(4)
    )
    pairs = {
        f"p{index}": tuple(
            QAPair(f"What is number {at} of {index}?", f"river {at}{index}") for at in range(2 + 3 * index)
        )
        for index in range(4)
    }
    return passages, {name: Augmentation(name, (REWRITE,) * (int(name[1]) % 2), own) for name, own in pairs.items()}


@pytest.fixture
def new_encoder(configure, tmp_path, work) -> NewEncoder:
    """`new_encoder(folder, *overrides, warm_up=())`: an encoder of the four passages."""

    def make(folder: str, *overrides: str, warm_up: tuple[QAPair, ...] = ()) -> AdapterEncoder:
        config: Config = configure(*overrides)
        return AdapterEncoder(load_base(config.base), config, tmp_path / folder, work[1], warm_up)

    return make


def stored(encoder: AdapterEncoder, passage: Passage) -> Weights:
    return load_file(encoder.path(passage) / WEIGHTS)


def trained(encoder: AdapterEncoder) -> set[Path]:
    return {facts.parent for facts in encoder.folder.glob(f"*/{FACTS}") if facts.parent.name != WARM_UP}


def loss_and_gradients(encoder: AdapterEncoder, weights: Weights, batch: Batch) -> tuple[Tensor, Weights]:
    """A batch's loss under PEFT's own layers with these weights, and its gradients, by PEFT's names."""
    set_peft_model_state_dict(encoder.model, weights)
    encoder.model.zero_grad()
    loss = adapter_training.label_loss(encoder.model, batch)
    loss.backward()
    named = encoder.model.named_parameters()
    return loss, {name.replace(f".{INITIAL}", ""): weight.grad for name, weight in named if "lora_" in name}


def logits_of(encoder: AdapterEncoder) -> Tensor:
    with torch.no_grad():
        return encoder.model(torch.tensor([encoder.writer.question("Where does the town lie?")])).logits


@pytest.mark.parametrize("quantisation", ["none", "nf4"])
@pytest.mark.parametrize("warm_up", [(), OUTSIDE], ids=["cold", "warm"])
@pytest.mark.parametrize("recipe", [OFFICIAL, TUNED], ids=["official", "tuned"])
def test_adapters_become_what_each_becomes_alone(new_encoder, work, recipe, warm_up, quantisation):
    passages, _ = work
    overrides = (*recipe, f"base.quantisation={quantisation}")
    alone = new_encoder("alone", *overrides, "prag.parallel=1", warm_up=warm_up)
    together = new_encoder("together", *overrides, "prag.parallel=3", warm_up=warm_up)
    assert len({len(alone.trainer.steps(alone.subject(passage))) for passage in passages}) > 2
    for encoder in (alone, together):
        encoder.encode(passages)
    for passage in passages:
        expected, found = stored(alone, passage), stored(together, passage)
        assert found.keys() == expected.keys()
        for name, weight in expected.items():
            moved = (weight - alone.start[name]).norm()
            assert moved > 0, name
            assert (found[name] - weight).norm() <= TOLERANCE * moved, name
        files = sorted(file.name for file in together.path(passage).iterdir())
        assert files == ["adapter_config.json", WEIGHTS, FACTS]
        configs = [(encoder.path(passage) / "adapter_config.json").read_text() for encoder in (alone, together)]
        assert configs[0] == configs[1]


def test_losses_and_gradients_are_those_of_each_adapter_alone(new_encoder, work):
    encoder = new_encoder("run", *TUNED)
    packs = [encoder.trainer.steps(encoder.subject(passage))[0] for passage in work[0][:3]]
    pad = encoder.base.tokenizer.pad_token_id
    torch.manual_seed(0)
    weights = [{name: torch.randn_like(drawn) * 0.2 for name, drawn in encoder.drawn.items()} for _ in packs]
    expected = [
        loss_and_gradients(encoder, own, adapter_training.collate(rows, pad))
        for own, rows in zip(weights, packs, strict=True)
    ]
    rows = [dataclasses.replace(pack, task=index) for index, own in enumerate(packs) for pack in own]
    with adapter_batches.in_place_of_one(encoder.model, INITIAL, 3) as batch_of:
        for name, layer in batch_of.layers.items():
            layer.A.data = torch.cat([own[f"{name}.lora_A.weight"] for own in weights])
            layer.B.data = torch.cat([own[f"{name}.lora_B.weight"] for own in weights], dim=1)
        losses_K = batch_of.losses(encoder.model, adapter_training.collate(rows[::-1], pad))
        losses_K.sum().backward()
        for layer in batch_of.layers.values():
            layer.A.data, layer.B.data = layer.A.grad, layer.B.grad
        for index, (loss, gradients) in enumerate(expected):
            torch.testing.assert_close(losses_K[index], loss, rtol=1e-5, atol=0)
            for name, found in batch_of.adapter(index).items():
                torch.testing.assert_close(found, gradients[name], rtol=1e-4, atol=1e-5 * gradients[name].abs().max())


def test_how_many_train_at_once_is_no_part_of_the_recipe(new_encoder):
    encoders = [new_encoder("run", f"prag.parallel={count}") for count in (1, 2, 8)]
    assert len({encoder.folder for encoder in encoders}) == 1
    assert len({encoder.identity for encoder in encoders}) == 1
    assert "parallel" not in repr(PragConfig())


def test_groups_are_of_like_work(new_encoder, work, monkeypatch):
    groups: list[list[str]] = []
    together = AdapterEncoder.train_together

    def recorded(self, subjects):
        groups.append([subject.passage.id for subject in subjects])
        return together(self, subjects)

    monkeypatch.setattr(AdapterEncoder, "train_together", recorded)
    passages, _ = work
    new_encoder("run", "prag.parallel=2").encode([passages[at] for at in (3, 0, 2, 1)])
    assert groups == [["p0", "p1"], ["p2", "p3"]]


def test_the_model_is_afterwards_as_it_was(new_encoder, work):
    encoder = new_encoder("run")
    before, layers = logits_of(encoder), dict(encoder.model.named_modules())
    encoder.train_together([encoder.subject(passage) for passage in work[0][:2]])
    after = dict(encoder.model.named_modules())
    assert after.keys() == layers.keys()
    assert all(after[name] is layer for name, layer in layers.items())
    assert torch.equal(logits_of(encoder), before)


def test_a_loss_that_is_not_finite_names_its_passage_and_leaves_the_model_whole(new_encoder, work, monkeypatch):
    encoder = new_encoder("run", "prag.parallel=2")
    losses = adapter_batches.AdapterBatch.losses
    calls = iter(range(100))

    def diverging(self, model, batch):
        found = losses(self, model, batch)
        return torch.stack([found[0], found[1] * (float("nan") if next(calls) == 2 else 1)])

    monkeypatch.setattr(adapter_batches.AdapterBatch, "losses", diverging)
    with pytest.raises(AdapterError, match=r"^the loss of the adapter of passage 'p1' is nan at step 3; lower prag\."):
        encoder.encode(work[0])
    assert not trained(encoder)
    assert [module for module in encoder.model.modules() if isinstance(module, LoraLayer)]
    encoder.train(encoder.subject(work[0][0]))


def test_alone_a_loss_that_is_not_finite_is_refused_too(new_encoder, work, monkeypatch):
    encoder = new_encoder("run", "prag.parallel=1")
    monkeypatch.setattr(adapter_training, "label_loss", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(AdapterError, match=r"^the loss of the adapter of passage 'p0' is inf at step 1; lower prag\."):
        encoder.encode(work[0])
    assert not trained(encoder)


def test_a_stop_loses_one_group_at_most(new_encoder, work, monkeypatch):
    passages, _ = work
    encoder = new_encoder("run", "prag.parallel=2")
    together = AdapterEncoder.train_together

    def stopped(self, group):
        if passages[2] in [subject.passage for subject in group]:
            raise KeyboardInterrupt
        return together(self, group)

    with monkeypatch.context() as patch:
        patch.setattr(AdapterEncoder, "train_together", stopped)
        with pytest.raises(KeyboardInterrupt):
            encoder.encode(passages)
    assert trained(encoder) == {encoder.path(passage) for passage in passages[:2]}
    times = {path: (path / WEIGHTS).stat().st_mtime_ns for path in trained(encoder)}
    again = new_encoder("run", "prag.parallel=2")
    again.encode(passages)
    assert trained(again) == {encoder.path(passage) for passage in passages}
    assert {path: (path / WEIGHTS).stat().st_mtime_ns for path in times} == times


def test_one_without_effect_in_a_group_is_refused_and_not_stored(new_encoder, work, monkeypatch):
    encoder = new_encoder("run", "prag.parallel=2")
    together = AdapterEncoder.train_together

    def idle(self, group):
        return {**together(self, group), "passage 'p1'": self.start}

    monkeypatch.setattr(AdapterEncoder, "train_together", idle)
    with pytest.raises(AdapterError, match=r"^the adapter of passage 'p1' changes no logit"):
        encoder.encode(work[0])
    assert trained(encoder) == {encoder.path(work[0][0])}


def test_a_group_shares_its_seconds(new_encoder, work, monkeypatch):
    clock: Iterator[float] = iter([0.0, 90.0])  # looks at each adapter's effect are no training
    monkeypatch.setattr(adapters, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    encoder = new_encoder("run", "prag.parallel=3")
    encoder.encode(work[0][:3])
    seconds = [json.loads((encoder.path(p) / FACTS).read_text())["seconds"] for p in work[0][:3]]
    assert seconds == [30.0, 30.0, 30.0]
