"""Shapes: B rows, G routed groups, K experts, N passages, M neighbours."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from benchmarks.loops import plain_loss
from polyprag.config import Config, Quantisation, WandbMode
from polyprag.errors import TrainingError
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import build_tasks
from polyprag.records import Knowledge
from polyprag.training import dead_experts
from polyprag.training import module as module_file
from polyprag.training.batches import Batch, collate
from polyprag.training.checkpoint import Checkpointing
from polyprag.training.datamodule import KnowledgeData
from polyprag.training.module import PoolModule
from polyprag.training.trainer import build_trainer

# the name that all of transformers 5 knows
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")


@pytest.fixture
def config(tiny_config) -> Config:
    config = Config(base=tiny_config)
    config.experts.count, config.experts.rank = 4, 2
    config.routing.init = 1.0
    config.training.epochs, config.training.batch_tokens = 2, 300
    config.training.accelerator = "cpu"
    config.answering.max_new_tokens = 3
    config.logging.wandb = WandbMode.DISABLED
    assert config.base.quantisation is Quantisation.NONE
    return config


class Training:
    """What `train.py` builds, on the tiny model and three passages."""

    def __init__(
        self, base: BaseModel, knowledge: Knowledge, config: Config, neighbours: Sequence[Sequence[int]] | None = None
    ) -> None:
        torch.manual_seed(0)
        self.config = config
        self.packs = build_tasks(knowledge, config.tasks, PromptWriter(base.tokenizer))
        self.pool = ExpertPool(base.model, config.experts, config.routing.granularity)
        for layer in self.pool.layers.values():
            nn.init.normal_(layer.B, std=0.1)
        self.router = TaskRouter(3, self.pool.groups, config.experts.count, config.routing)
        tasks = {passage.id: task for task, passage in enumerate(knowledge.passages)}
        neighbours_NM = None if neighbours is None else torch.tensor(neighbours)
        self.module = PoolModule(base, self.pool, self.router, config, tasks, neighbours_NM)
        self.data = KnowledgeData(self.packs, knowledge.validation, config, base.tokenizer.pad_token_id)

    def trainer(self, folder: Path) -> pl.Trainer:
        return build_trainer(self.config, folder, self.data, Checkpointing(folder / "checkpoints", 60))

    def attach(self, folder: Path) -> None:
        """Let single steps be taken, without a fit around them."""
        self.module.trainer = self.trainer(folder)
        self.module.trainer.datamodule = self.data

    def gradients(self, *batches: Batch) -> dict[str, Tensor]:
        """Gradients of the batches' mean loss, added up batch by batch."""
        for parameter in self.module.parameters():
            parameter.grad = None
        for batch in batches:
            loss, _ = self.module(batch)
            (loss / len(batches)).backward()
            self.module.on_after_backward()
        named = {name: parameter.grad for name, parameter in self.module.named_parameters()}
        return {name: grad.to_dense() if grad.is_sparse else grad for name, grad in named.items()}

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.module.state_dict().items()}


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == expected.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], rtol=tolerance, atol=tolerance)


def test_two_accumulated_batches_equal_one_of_both(tiny_base, tiny_knowledge, config):
    training = Training(tiny_base, tiny_knowledge, config)
    one = training.packs[0]
    other = dataclasses.replace(one, task=2, tokens=tuple(token + 1 for token in one.tokens))  # as many labels
    two = [one, other]
    apart = training.gradients(*(collate([one], 0) for one in two))
    together = training.gradients(collate(two, 0))
    assert any(grad.abs().max() > 1e-4 for grad in together.values())
    assert_close(apart, together, 1e-6)


def test_gradient_checkpointing_changes_no_gradient(tiny_base, tiny_config, tiny_knowledge, config):
    plain = Training(tiny_base, tiny_knowledge, config)
    batch = collate(plain.packs[:4], 0)
    expected = plain.gradients(batch)
    config.training.gradient_checkpointing = True
    recomputing = Training(load_base(tiny_config), tiny_knowledge, config)
    calls = []
    next(iter(recomputing.pool.layers.values())).register_forward_hook(lambda *_: calls.append(1))
    recomputing.module.on_train_start()
    assert_close(recomputing.gradients(batch), expected, 1e-6)
    assert len(calls) == 2  # forward, and again in the backward pass
    recomputing.module.on_validation_start()
    assert not recomputing.module.base.model.training


def test_grouped_attention_changes_no_gradient(tiny_base, tiny_knowledge, config):
    training = Training(tiny_base, tiny_knowledge, config)
    batch = collate(training.packs[:4], 0)
    grouped = training.gradients(batch)
    tiny_base.model.set_attn_implementation("sdpa")
    assert_close(grouped, training.gradients(batch), 1e-6)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_loss_in_chunks_is_the_whole_loss(tiny_base, tiny_knowledge, config, monkeypatch, size):
    training = Training(tiny_base, tiny_knowledge, config)
    batch = collate(training.packs[:4], 0)
    assert 3 < len(batch.targets_L) < 1000
    expected, whole = training.gradients(batch), training.module(batch)[0]
    monkeypatch.setattr(module_file, "CHUNK", size)
    torch.testing.assert_close(training.module(batch)[0], whole, rtol=1e-6, atol=0)
    assert_close(training.gradients(batch), expected, 1e-6)


def test_logits_at_labels_alone_give_the_loss_that_transformers_computes_from_all(tiny_base, tiny_knowledge, config):
    training = Training(tiny_base, tiny_knowledge, config)
    for pack in training.packs[:4]:
        batch = collate([pack], 0)
        with training.pool.gated(training.module.gates(batch.tasks_B)), torch.no_grad():
            torch.testing.assert_close(
                module_file.label_loss(tiny_base.model, batch), plain_loss(tiny_base.model, batch), rtol=1e-5, atol=0
            )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_learns_and_answers_validation_questions(tiny_base, tiny_knowledge, config, tmp_path, checkpointing):
    config.training.gradient_checkpointing = checkpointing
    config.training.learning_rate, config.training.epochs = 0.02, 6
    training = Training(tiny_base, tiny_knowledge, config)
    batch = collate(training.packs, 0)
    before = float(training.module(batch)[0].detach())
    frozen = {name: tensor.clone() for name, tensor in tiny_base.model.named_parameters() if not tensor.requires_grad}
    trainer = training.trainer(tmp_path)
    trainer.fit(training.module, training.data)
    after = float(training.module.eval()(batch)[0].detach())
    assert after < 0.75 * before
    assert all(torch.equal(tiny_base.model.get_parameter(name), tensor) for name, tensor in frozen.items())
    assert [sample.question for sample in training.module.samples] == [q.text for q in tiny_knowledge.validation]
    assert {"train/loss", "train/gradient_norm", "val/f1", "routing/entropy"} <= trainer.logged_metrics.keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_any_weight_changes(
    tiny_base, tiny_knowledge, config, tmp_path, monkeypatch, value
):
    training = Training(tiny_base, tiny_knowledge, config)
    true_loss, seen = module_file.label_loss, []

    def broken_at_the_third(model: object, batch: Batch) -> Tensor:
        seen.append((training.weights(), sorted(set(batch.tasks_B.tolist()))))
        return true_loss(model, batch) * (value if len(seen) == 3 else 1.0)

    monkeypatch.setattr(module_file, "label_loss", broken_at_the_third)
    with pytest.raises(
        TrainingError, match=rf"the loss is {value} at step 2, .*lower training\.learning_rate"
    ) as caught:
        training.trainer(tmp_path).fit(training.module, training.data)
    assert len(str(caught.value).splitlines()) == 1
    weights, passages = seen[-1]
    assert f"passages {passages};" in str(caught.value)
    assert not torch.equal(weights["router.rows.weight"], seen[0][0]["router.rows.weight"])
    after = training.weights()
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


def test_a_checkpoint_holds_what_is_learned_and_the_configuration(tiny_base, tiny_knowledge, config):
    training = Training(tiny_base, tiny_knowledge, config)
    shapes = {name: tuple(tensor.shape) for name, tensor in training.module.state_dict().items()}
    layers = len(training.pool.layers)
    assert shapes.keys() == {"router.rows.weight", *(f"experts.{index}" for index in range(2 * layers))}
    checkpoint: dict[str, str] = {}
    training.module.on_save_checkpoint(checkpoint)
    assert "count: 4" in checkpoint["polyprag_config"]


def test_clipping_bounds_the_experts_and_leaves_rows_alone(tiny_base, tiny_knowledge, config, monkeypatch):
    config.training.clip = 1e-3
    training = Training(tiny_base, tiny_knowledge, config)
    monkeypatch.setattr(training.module, "log", lambda *_: None)
    before = training.gradients(collate(training.packs[:2], 0))
    rows = before.pop("router.rows.weight").clone()
    norm = torch.stack([grad.norm() for grad in before.values()]).norm()
    expected = {name: grad * 1e-3 / norm for name, grad in before.items()}
    training.module.configure_gradient_clipping(None)
    clipped = {name: parameter.grad for name, parameter in training.module.named_parameters()}
    assert torch.equal(clipped.pop("router.rows.weight").to_dense(), rows)
    for name, grad in clipped.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-2, atol=1e-9)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_rows_merges_the_gates_of_similar_passages(tiny_base, tiny_knowledge, config, share):
    config.routing.merge_in_training = share
    training = Training(tiny_base, tiny_knowledge, config, neighbours=[[1], [0], [0]])
    all_NGK = training.router.all_gates()[:]
    gates_BGK = training.module.gates(torch.tensor([2, 0]))
    expected = all_NGK[[2, 0]] + (all_NGK[[0, 1]] if share else 0)
    torch.testing.assert_close(gates_BGK, expected)


def test_a_passage_short_of_similar_ones_counts_its_own_gates_once(tiny_base, tiny_knowledge, config):
    config.routing.merge_in_training = 1.0
    training = Training(tiny_base, tiny_knowledge, config, neighbours=[[0, 0], [2, 1], [0, 1]])
    all_NGK = training.router.all_gates()[:]
    gates_BGK = training.module.gates(torch.tensor([0, 1, 2]))
    torch.testing.assert_close(gates_BGK, torch.stack([all_NGK[0], all_NGK[[1, 2]].sum(0), all_NGK.sum(0)]))


def test_about_the_asked_share_of_rows_is_merged(tiny_base, tiny_knowledge, config):
    config.routing.merge_in_training = 0.25
    training = Training(tiny_base, tiny_knowledge, config, neighbours=[[1], [0], [0]])
    with torch.no_grad():
        mass_B = training.module.gates(torch.zeros(2000, dtype=torch.long)).sum(-1).mean(-1)
    assert float((mass_B > 1.5).float().mean()) == pytest.approx(0.25, abs=0.03)


class Table:
    """A tensor that gives its rows and refuses to go anywhere as a whole."""

    def __init__(self, rows_NM: Tensor) -> None:
        self.rows_NM, self.device = rows_NM, rows_NM.device

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.rows_NM[rows]


def test_only_the_similar_passages_of_a_batch_go_to_its_device(tiny_base, tiny_knowledge, config):
    config.routing.merge_in_training = 1.0
    training = Training(tiny_base, tiny_knowledge, config, neighbours=[[1], [0], [0]])
    expected = training.module.gates(torch.tensor([2, 0]))
    training.module.neighbours_NM = Table(torch.tensor([[1], [0], [0]]))
    assert torch.equal(training.module.gates(torch.tensor([2, 0])), expected)


def test_validation_uses_the_gates_of_the_gold_passage(tiny_base, tiny_knowledge, config, monkeypatch):
    training = Training(tiny_base, tiny_knowledge, config)
    seen = []
    answer = training.module.generator.answer
    monkeypatch.setattr(
        training.module.generator, "answer", lambda ids, gates: seen.append(gates) or answer(ids, gates)
    )
    monkeypatch.setattr(training.module, "log", lambda *_, **__: None)
    training.module.validation_step(list(reversed(tiny_knowledge.validation)), 0)
    torch.testing.assert_close(seen[0], training.router.all_gates()[[2, 1, 0]])


def test_penalties_are_added_by_weight_and_logged_apart(tiny_base, tiny_knowledge, config, tmp_path, monkeypatch):
    config.experts.shared, config.experts.orthogonality = 2, 0.3
    config.routing.load_balance, config.routing.entropy, config.routing.z_loss = 0.1, 0.2, 0.05
    training = Training(tiny_base, tiny_knowledge, config)
    training.attach(tmp_path)
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(training.module, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(training.module, "log_dict", logged.update)
    batch = collate(training.packs[:3], 0)
    total = training.module.training_step(batch, 0)
    lm_loss, _ = training.module(batch)
    torch.testing.assert_close(logged["train/loss"], lm_loss)
    weights = {"load_balance": 0.1, "entropy": 0.2, "z_loss": 0.05, "orthogonality": 0.3}
    torch.testing.assert_close(total, lm_loss + sum(w * logged[f"train/{name}"] for name, w in weights.items()))


def test_without_weights_nothing_is_added_or_logged(tiny_base, tiny_knowledge, config, tmp_path, monkeypatch):
    training = Training(tiny_base, tiny_knowledge, config)
    training.attach(tmp_path)
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(training.module, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(training.module, "log_dict", logged.update)
    total = training.module.training_step(collate(training.packs[:3], 0), 0)
    assert torch.equal(total, logged["train/loss"])
    assert [name for name in logged if name.startswith("train/")] == ["train/loss"]


def test_curves_are_means_over_the_batches_of_a_step(tiny_base, tiny_knowledge, config, tmp_path, monkeypatch):
    config.training.accumulate = 2
    training = Training(tiny_base, tiny_knowledge, config)
    training.attach(tmp_path)
    logged: list[float] = []
    monkeypatch.setattr(training.module, "log", lambda name, value, **_: logged.append(float(value)))
    monkeypatch.setattr(training.module, "log_dict", lambda values: None)
    losses = [training.module.training_step(collate(training.packs[at:], 0), at).item() for at in range(2)]
    assert losses[0] != losses[1]
    assert logged == [pytest.approx(sum(losses) / 2)]


@pytest.mark.parametrize("draws", ["gumbel", "merge_in_training"])
def test_random_numbers_belong_to_a_batch(tiny_base, tiny_knowledge, config, tmp_path, monkeypatch, draws):
    setattr(config.routing, draws, 0.5)
    training = Training(tiny_base, tiny_knowledge, config, neighbours=[[1], [2], [0]])
    training.attach(tmp_path)
    monkeypatch.setattr(training.module, "log", lambda *_, **__: None)
    batch = collate(training.packs, 0)

    def step(batch_idx: int) -> float:
        return training.module.training_step(batch, batch_idx).item()

    before = torch.get_rng_state()
    first, second, again = step(0), step(1), step(0)
    assert first == again != second
    assert torch.equal(torch.get_rng_state(), before)
    config.training.devices = 2  # the second batch of one process is the first of the second of two
    monkeypatch.setattr(KnowledgeData, "place", (1, 2))
    assert step(0) == second


def test_a_batch_that_only_fills_up_changes_nothing(tiny_base, tiny_knowledge, config, tmp_path, monkeypatch):
    training = Training(tiny_base, tiny_knowledge, config)
    training.attach(tmp_path)
    monkeypatch.setattr(training.module, "log", lambda *_, **__: None)
    beyond = training.data.total
    assert training.data.counts(beyond - 1)
    assert not training.data.counts(beyond)
    training.module.trainer.accumulate_grad_batches = 10 * beyond  # no step ends, so no mean of nothing is taken
    training.module.training_step(collate(training.packs[:2], 0), beyond).backward()
    assert all(not parameter.grad.to_dense().any() for parameter in training.module.parameters())


def test_routing_losses_leave_the_experts_alone(tiny_base, tiny_knowledge, config):
    config.routing.load_balance = config.routing.entropy = config.routing.z_loss = 1.0
    training = Training(tiny_base, tiny_knowledge, config)
    penalties = training.module.penalties(torch.tensor([0, 2]))
    sum(weight * value for weight, value in penalties.values()).backward()
    assert all(parameter.grad is None for parameter in training.pool.parameters())
    assert training.router.rows.weight.grad.coalesce().indices().flatten().tolist() == [0, 2]


def test_dead_experts_are_looked_for_while_training_and_counted_in_the_log(
    tiny_base, tiny_knowledge, config, tmp_path, monkeypatch
):
    config.routing.top_k, config.routing.reseed_below, config.routing.reseed_every = 1, 0.5, 5
    config.training.epochs, config.training.validate_every = 6, 0
    training = Training(tiny_base, tiny_knowledge, config)
    looks = []
    monkeypatch.setattr(dead_experts, "reseed", lambda *arguments: looks.append(arguments))
    trainer = training.trainer(tmp_path)
    trainer.fit(training.module, training.data)
    steps = training.data.steps()
    assert len(looks) == steps // 5 - 1 >= 3  # none within the last five steps
    [log] = tmp_path.rglob("metrics.csv")
    with log.open(encoding="utf-8") as lines:
        counted = {int(row["step"]): float(row["routing/dead"]) for row in csv.DictReader(lines) if row["routing/dead"]}
    assert counted == {5 * at: float(look[3].sum()) for at, look in enumerate(looks, 1)}
    assert min(counted.values()) >= training.pool.groups  # four experts, three passages with one each
