"""Shapes: P passages, E hidden size, L labels, V vocabulary."""

import pytest
import torch
import torch.nn.functional as F

from polyprag.config import Composition, Loss, Recipe, TasksConfig
from polyprag.errors import TrainingError
from polyprag.experts.adapter_pool import AdapterPool
from polyprag.experts.base_model import load_base
from polyprag.experts.translator import ParameterTranslator, last_states
from polyprag.files import write_tensors
from polyprag.knowledge.prompts import PromptWriter, with_title
from polyprag.training.translator_data import PEFT_PREFIX, Lesson, sequences_of
from polyprag.training.translator_module import TranslatorModule, explained, squared_distance

TARGETS = ["up_proj", "down_proj"]
TARGET_SCALE = 2.0


class Parts:
    """A module over three passages with random adapters."""

    def __init__(self, config, base, knowledge, folder, scale=TARGET_SCALE, sequences=0):
        self.base = base
        pool = AdapterPool(base.model, TARGETS, rank=2, scale=scale, composition=Composition.SUM)
        torch.manual_seed(3)
        self.translator = ParameterTranslator(pool.shapes, 32, rank=2, hidden=4, init=0.2)
        self.module = TranslatorModule(self.translator, base, pool, TARGET_SCALE, config)
        self.targets, self.lessons = [], []
        states_PE = last_states(base, [with_title(passage) for passage in knowledge.passages])
        tasks, writer = TasksConfig(recipe=Recipe.PRAG, loss=Loss.ALL_TOKENS), PromptWriter(base.tokenizer)
        for passage, state_E in zip(knowledge.passages, states_PE, strict=True):
            target = {n: (0.1 * torch.randn(2, i), 0.1 * torch.randn(o, 2)) for n, (i, o) in pool.shapes.items()}
            named = {
                f"{PEFT_PREFIX}{name}.lora_{side}.weight": weight
                for name, both in target.items()
                for side, weight in zip("AB", both, strict=True)
            }
            path = folder / f"{passage.id}.safetensors"
            write_tensors(path, named, {})
            packs, count = sequences_of(passage, knowledge.augmentations[passage.id], tasks, writer, sequences)
            self.targets.append(target)
            self.lessons.append(Lesson(state_E, packs, count, path))


@pytest.fixture
def build(configure, tiny_config, tiny_knowledge, tmp_path):
    """`build(*overrides, scale=…, sequences=…)`: the parts, on a fresh base model."""
    return lambda *overrides, **how: Parts(
        configure(*overrides), load_base(tiny_config), tiny_knowledge, tmp_path, **how
    )


def plain_logits(base, adapter, scale, lesson):
    """Logits at the labels of a passage, sequence by sequence, with the update merged into copies of the weights."""
    model, logits, labels = base.model, [], []
    before = {name: model.get_submodule(name).weight.clone() for name in adapter}
    for name, (A_RD, B_OR) in adapter.items():
        model.get_submodule(name).weight.data += scale * B_OR @ A_RD
    for pack in lesson.packs:
        for branch in range(1, max(pack.branches) + 1):
            own = [at for at, number in enumerate(pack.branches) if number in (0, branch)]
            tokens = [pack.tokens[at] for at in own]
            with torch.no_grad():
                whole = model(torch.tensor([tokens])).logits[0]
            logits.append(whole[:-1])  # all tokens but the first are labelled
            labels.append(torch.tensor(tokens[1:]))
    for name, weight in before.items():
        model.get_submodule(name).weight.data = weight
    return logits, labels


@pytest.mark.parametrize("scale", [TARGET_SCALE, 1.0])
@pytest.mark.parametrize("sequences", [1, 0])
def test_each_part_of_the_loss_is_what_the_official_code_computes(build, tiny_config, scale, sequences):
    parts = build(scale=scale, sequences=sequences)
    plain = load_base(tiny_config)
    with torch.no_grad():
        losses = parts.module.losses(parts.lessons)
        translated = parts.translator(torch.stack([lesson.state_E for lesson in parts.lessons]))
    lm, mse, kl = [], [], []
    for at, (lesson, target) in enumerate(zip(parts.lessons, parts.targets, strict=True)):
        own = {name: (A[at], B[at]) for name, (A, B) in translated.items()}
        ours, labels = plain_logits(plain, own, scale, lesson)
        theirs, _ = plain_logits(plain, target, TARGET_SCALE, lesson)
        assert len(labels) == lesson.sequences == (sequences or 3)
        lm.append(F.cross_entropy(torch.cat(ours), torch.cat(labels)))
        per_sequence = [
            F.kl_div(a.log_softmax(-1)[None], b.softmax(-1)[None], reduction="batchmean")
            for a, b in zip(ours, theirs, strict=True)
        ]
        kl.append(torch.stack(per_sequence).mean())
        mse.append(sum(F.mse_loss(x, y) for name in own for x, y in zip(own[name], target[name], strict=True)))
    for found, expected in zip(losses, (lm, mse, kl), strict=True):
        torch.testing.assert_close(found, torch.stack(expected).mean(), rtol=2e-4, atol=1e-5)


def test_a_batch_has_the_mean_loss_of_its_passages(build):
    parts = build()
    with torch.no_grad():
        together = torch.stack(parts.module.losses(parts.lessons))
        alone = torch.stack([torch.stack(parts.module.losses([lesson])) for lesson in parts.lessons])
    torch.testing.assert_close(together, alone.mean(0), rtol=2e-4, atol=1e-5)


def test_gradients_reach_the_translator_and_nothing_else(build, monkeypatch):
    parts = build("translator.mse=0")
    monkeypatch.setattr(parts.module, "log", lambda *_, **__: None)
    monkeypatch.setattr(parts.module, "log_dict", lambda *_, **__: None)
    assert {name.split(".")[0] for name, _ in parts.module.named_parameters()} == {"translator"}
    parts.module.training_step(parts.lessons, 0).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in parts.translator.parameters())
    assert all(weight.grad is None for weight in parts.base.model.parameters())


def test_the_weights_of_the_parts_are_as_configured(build, monkeypatch):
    said = {}
    parts = build("translator.mse=7", "translator.kl=3")
    monkeypatch.setattr(parts.module, "log", lambda name, value, **_: said.update({name: value}))
    monkeypatch.setattr(parts.module, "log_dict", lambda values, **_: said.update(values))
    loss = parts.module.training_step(parts.lessons, 0)
    named = {name.removeprefix("translator/"): value for name, value in said.items()}
    torch.testing.assert_close(loss, named["lm"] + 7 * named["mse"] + 3 * named["kl"])
    assert said["translator/loss"] is loss


def test_a_loss_that_is_not_finite_is_refused(build):
    parts = build("translator.mse=1e38")
    with torch.no_grad():
        next(parts.translator.parameters()).fill_(1e18)
    with pytest.raises(
        TrainingError, match=r"the translator's loss is \w+ at step 0; .*lower translator\.learning_rate"
    ):
        parts.module.training_step(parts.lessons, 0)


def test_training_leaves_the_base_model_as_it_was(build):
    parts = build()
    tokens_BT = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = parts.base.model(tokens_BT).logits
        sum(parts.module.losses(parts.lessons))
        assert torch.equal(parts.base.model(tokens_BT).logits, before)


class Constant(torch.nn.Module):
    """Gives adapters that are known in advance, whatever it reads."""

    def __init__(self, shapes, given):
        super().__init__()
        self.shapes, self.given = shapes, iter(given)

    def forward(self, states_PE):
        own = next(self.given)
        return {name: (A[None], B[None]) for name, (A, B) in own.items()}


def test_what_is_explained_is_one_for_the_adapters_and_zero_for_their_mean(build):
    parts = build()
    shapes, device = parts.translator.shapes, parts.base.device
    mean = {
        name: tuple(torch.stack([target[name][side] for target in parts.targets]).mean(0) for side in (0, 1))
        for name in shapes
    }
    assert explained(Constant(shapes, parts.targets), parts.lessons, device) == pytest.approx(1.0)
    assert explained(Constant(shapes, [mean] * 3), parts.lessons, device) == pytest.approx(0.0, abs=1e-6)
    assert explained(Constant(shapes, parts.targets[1:] + parts.targets[:1]), parts.lessons, device) < 0
    assert explained(Constant(shapes, [mean]), parts.lessons[:1], device) == 0.0


def test_the_distance_adds_up_matrices_and_averages_passages():
    ours = {"x": (torch.ones(2, 1, 3), torch.zeros(2, 4, 1)), "y": (torch.zeros(2, 1, 5), torch.zeros(2, 2, 1))}
    theirs = {"x": (torch.zeros(2, 1, 3), torch.zeros(2, 4, 1)), "y": (torch.zeros(2, 1, 5), 2 * torch.ones(2, 2, 1))}
    theirs["x"][0][1] = 1.0
    assert float(squared_distance(ours, theirs)) == pytest.approx(0.5 + 4.0)
