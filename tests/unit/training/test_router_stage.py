"""Shapes: B queries, G routed groups, K experts, N passages."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from polyprag.answering.query_router import QueryRouter, measure_keys
from polyprag.answering.question_encoder import build_encoder
from polyprag.config import Config, RouterDesign
from polyprag.errors import ConfigError, DataError, Interrupted, StoreError, TrainingError
from polyprag.experts.base_model import load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import gates_from_logits
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.prompts import PromptWriter
from polyprag.router_store import FILE, StoredRouter, open_router, write_router
from polyprag.runs import run_knowledge
from polyprag.store import open_store
from polyprag.training import router_stage
from polyprag.training.batches import collate
from polyprag.training.module import label_loss
from polyprag.training.router_data import Query, build_queries, learned_from, texts_of
from polyprag.training.router_module import RouterModule
from polyprag.training.router_stage import FOLDER, check_router, new_router, train_router

DESIGNS = list(RouterDesign)
SHORT = ("router.steps=8", "router.batch_size=16", "router.validate_every=4", "router.hidden=16", "run.threads=1")
WITH_LM = (*SHORT, "router.lm_steps=4", "router.lm_batch_size=4", "router.lm_learning_rate=0.01")

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty:UserWarning")


@pytest.fixture
def begin(configure, train_at_random, tmp_path) -> Callable[..., tuple[Config, Path]]:
    """`begin(*overrides, name="run")`: configuration and folder of a run with a store and no query router."""

    def started(*overrides: str, name: str = "run") -> tuple[Config, Path]:
        config, run = configure(*overrides), tmp_path / name
        train_at_random(config, run)
        return config, run

    return started


class Parts:
    """What the stage builds, before its training."""

    def __init__(self, config: Config, run: Path) -> None:
        torch.manual_seed(0)
        store = open_store(run / "store")
        self.base = load_base(config.base)
        self.pool = ExpertPool(self.base.model, config.experts, config.routing.granularity)
        self.pool.load(store.pool())
        for parameter in self.pool.parameters():
            parameter.requires_grad_(False)
        knowledge = load_knowledge(config.data)
        self.queries, held_back = build_queries(knowledge, config, PromptWriter(self.base.tokenizer))
        encoder = build_encoder(config.router, self.base)
        self.router = new_router(config, store, encoder)
        self.router.start_from(measure_keys(encoder, texts_of(knowledge)))
        self.gates_NGK = gates_from_logits(store.rows_NGK, config.routing.normalisation, config.routing.top_k)
        self.module = RouterModule(encoder, self.router, self.gates_NGK, held_back, config, self.base, self.pool)


def opened(run: Path) -> StoredRouter:
    return open_router(run / FOLDER, open_store(run / "store").manifest.digest)


def state_of(run: Path) -> dict[str, Tensor]:
    return opened(run).router.state_dict()


def said_of(run: Path) -> dict[str, Any]:
    """What the router's file says of its training, but for the clock."""
    return {name: value for name, value in opened(run).facts.training.items() if name != "seconds"}


def equal(ours: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return ours.keys() == other.keys() and all(torch.equal(ours[name], other[name]) for name in ours)


def turned_round(questions: Path) -> None:
    """Put the questions of a file into the other order, so that others are set apart for validation."""
    lines = questions.read_text(encoding="utf-8").splitlines(keepends=True)
    questions.write_text("".join(reversed(lines)), encoding="utf-8")


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


class TestTraining:
    @pytest.mark.parametrize("design", DESIGNS)
    def test_it_writes_a_router_no_worse_than_the_untrained(self, begin, design, capsys, monkeypatch):
        config, run = begin(*SHORT, f"router.design={design}", "data.validation_questions=0", "router.held_back=0.5")
        scores, original = [], RouterModule.held_back_scores
        monkeypatch.setattr(RouterModule, "held_back_scores", lambda self: scores.append(original(self)) or scores[-1])
        train_router(config, run)
        stored = opened(run)
        said = stored.facts.training
        assert len(scores) == 3  # before, half way, at the end
        assert (said["first_choice"], said["loss"]) == min(scores, key=lambda score: (-score[0], score[1]))
        assert said["held_back"] == 9
        assert said["seconds"] > 0
        assert stored.facts.design is design
        shares = (stored.facts.passages, stored.facts.groups, stored.facts.experts)
        assert shares == tuple(open_store(run / "store").rows_NGK.shape)
        line = capsys.readouterr().out.strip().splitlines()[-1]
        assert line.startswith(f"the query router is {run / FOLDER}; of 9 held-back questions ")
        assert f" {said['first_choice']:.1%} find a passage of theirs first (step {said['step']})" in line

    def test_the_state_kept_is_the_best_of_those_looked_at(self, begin, monkeypatch):
        config, run = begin(*SHORT)
        looks = iter([(0.2, 1.0), (0.5, 2.0), (0.5, 1.5)])  # before, after 4 and after 8 steps
        states = []

        def scripted(self: RouterModule) -> tuple[float, float]:
            states.append({name: tensor.clone() for name, tensor in self.router.state_dict().items()})
            return next(looks)

        monkeypatch.setattr(RouterModule, "held_back_scores", scripted)
        train_router(config, run)
        assert len(states) == 3
        assert not equal(states[0], states[2])
        assert {"step": 8, "first_choice": 0.5, "loss": 1.5}.items() <= said_of(run).items()
        assert equal(state_of(run), {name: tensor.bfloat16().float() for name, tensor in states[2].items()})

    def test_without_held_back_questions_the_last_state_is_kept(self, begin):
        config, run = begin(*SHORT, "data.validation_questions=0", "router.held_back=0")
        train_router(config, run)
        assert {"step": 8, "held_back": 0}.items() <= said_of(run).items()

    def test_the_same_seed_gives_the_same_router(self, begin):
        routers = []
        for name, seed in (("one", 0), ("same", 0), ("other", 1)):
            config, run = begin(*SHORT, f"run.seed={seed}", "data.validation_questions=0", name=name)
            train_router(config, run)
            routers.append(state_of(run))
        assert equal(routers[0], routers[1])
        assert not equal(routers[0], routers[2])

    def test_sentences_alone_are_enough(self, begin):
        config, run = begin(*SHORT, "data.train_qas=0")
        assert not load_knowledge(config.data).augmentations
        train_router(config, run)
        assert said_of(run)["held_back"] == 2

    def test_a_dry_run_tells_sizes_and_writes_nothing(self, begin, capsys):
        config, run = begin(*SHORT)
        before = snapshot(run)
        train_router(config, run, dry_run=True)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("  ")[0] for line in lines] == [
            *("training questions", "sentences", "held-back questions", "steps", "trainable parameters")
        ]
        assert [line.split()[-1] for line in lines[:4]] == ["18", "12", "2", "8"]
        assert snapshot(run) == before

    def test_a_loss_that_is_not_finite_changes_no_weight(self, begin, monkeypatch):
        config, run = begin(*SHORT)
        states = []

        def broken_at_the_third(self: QueryRouter, *arguments: Any) -> Tensor:
            states.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
            loss = self.log_weights_V.square().sum()
            return loss * float("nan") if len(states) == 3 else loss

        monkeypatch.setattr(QueryRouter, "distillation_loss", broken_at_the_third)
        base, built = load_base(config.base), []
        monkeypatch.setattr(router_stage, "new_router", lambda *parts: built.append(new_router(*parts)) or built[0])
        with pytest.raises(TrainingError, match=r"the router's loss is nan at step 2; .*lower router\.learning_rate"):
            train_router(config, run, base=base)
        assert len(states) == 3
        assert not equal(states[2], states[0])
        assert equal(built[0].state_dict(), states[2])
        assert not (run / FOLDER / FILE).exists()


class TestOnlyTheRouterLearns:
    @pytest.mark.parametrize("overrides", [SHORT, WITH_LM])
    def test_base_pool_and_rows_stay_bit_equal(self, begin, overrides):
        config, run = begin(*overrides)
        parts = Parts(config, run)
        for parameter in parts.pool.parameters():
            parameter.requires_grad_(True)  # as the training of the pool leaves them
        before = {name: tensor.clone() for name, tensor in parts.base.model.state_dict().items()}
        stored = snapshot(run / "store")
        train_router(config, run, base=parts.base, pool=parts.pool)
        assert equal(parts.base.model.state_dict(), before)
        assert all(parameter.grad is None for parameter in parts.base.model.parameters())
        assert snapshot(run / "store") == stored

    @pytest.mark.parametrize("design", DESIGNS)
    def test_all_that_is_optimised_belongs_to_the_router(self, begin, design):
        config, run = begin(*WITH_LM, f"router.design={design}", "router.token_learning_rate=0.5")
        parts = Parts(config, run)
        assert {name.split(".")[0] for name, _ in parts.module.named_parameters()} == {"router"}
        found = parts.module.configure_optimizers()
        groups = found["optimizer"].param_groups
        own = dict(parts.router.named_parameters())
        assert [id(weight) for group in groups for weight in group["params"]] == [id(weight) for weight in own.values()]
        rates = [0.5 if name == "log_weights_V" else 0.001 for name in own]
        assert [group["lr"] for group in groups] == pytest.approx(rates)
        schedule = found["lr_scheduler"]["scheduler"]
        for step, expected in ((7, rates), (8, [0.01] * len(own))):
            factors = [factor(step) for factor in schedule.lr_lambdas]
            assert [factor * rate for factor, rate in zip(factors, rates, strict=True)] == pytest.approx(expected)


class TestLanguageModelLoss:
    @pytest.mark.parametrize("design", DESIGNS)
    def test_its_gradients_reach_the_router_and_nothing_else(self, begin, design, monkeypatch):
        config, run = begin(*WITH_LM, f"router.design={design}", "router.token_dropout=0")
        parts = Parts(config, run)
        monkeypatch.setattr(parts.module, "log", lambda *_, **__: None)
        asked = [query for query in parts.queries if query.pack is not None][:4]
        loss = parts.module.training_step(asked, batch_idx=config.router.steps)
        loss.backward()
        parts.module.on_after_backward()
        silent = {"log_scale"} if design is RouterDesign.MLP else set()  # it scales what the gates do not depend on
        for name, parameter in parts.router.named_parameters():
            assert name in silent or parameter.grad.any(), name
        assert all(parameter.grad is None for parameter in parts.base.model.parameters())

        questions_BD = parts.router.represent(parts.module.encoder.encode([query.text for query in asked]))
        gates_BGK = parts.router.gates(questions_BD, parts.gates_NGK, 8)
        batch = collate([query.pack for query in asked], parts.base.tokenizer.pad_token_id)
        plain = label_loss(parts.base.model, batch)
        with parts.pool.gated(gates_BGK), torch.no_grad():
            torch.testing.assert_close(loss, label_loss(parts.base.model, batch))
        assert not torch.isclose(plain, loss)

    def test_training_through_it_changes_the_router(self, begin, monkeypatch):
        config, run = begin(*WITH_LM)
        losses = []
        original = RouterModule.training_step

        def recorded(self: RouterModule, queries: list[Query], batch_idx: int) -> Tensor:
            losses.append((batch_idx, len(queries), all(query.pack is not None for query in queries)))
            return original(self, queries, batch_idx)

        monkeypatch.setattr(RouterModule, "training_step", recorded)
        monkeypatch.setattr(RouterModule, "held_back_scores", lambda self: (0.0, -float(len(losses))))
        train_router(config, run)
        assert [step for step, _, _ in losses] == list(range(12))
        assert [size for _, size, _ in losses] == [16] * 8 + [4] * 4
        assert all(answered for step, _, answered in losses if step >= 8)
        assert said_of(run)["step"] == 12
        config, shorter = begin(*WITH_LM, "router.lm_steps=0", name="shorter")
        losses.clear()
        train_router(config, shorter)
        assert not equal(state_of(run), state_of(shorter))


class TestResuming:
    @pytest.mark.parametrize("design", DESIGNS)
    def test_in_parts_it_gives_the_same_router_bit_for_bit(self, begin, stop_after, design):
        overrides = (*WITH_LM, f"router.design={design}", "data.validation_questions=0", "router.held_back=0.5")
        config, whole = begin(*overrides, name="whole")
        train_router(config, whole)
        config, parts = begin(*overrides, name="parts")
        stops = (1, 3, 5, 1)  # after steps 1, 4 (a look, whose checkpoint must know it), 9 and 10 of 12
        for batches in stops:
            stop_after(batches)
            with pytest.raises(Interrupted, match="go on with --resume auto"):
                train_router(config, parts, "auto")
            assert not (parts / FOLDER / FILE).exists()
        stop_after(1000)
        train_router(config, parts, "auto")
        assert equal(state_of(parts), state_of(whole))
        assert said_of(parts) == said_of(whole)

    def test_a_checkpoint_knows_the_look_at_its_own_step(self, begin, stop_after, monkeypatch):
        config, run = begin(*SHORT)
        monkeypatch.setattr(RouterModule, "held_back_scores", lambda self: (float(self.global_step), 0.0))
        stop_after(4)
        with pytest.raises(Interrupted):
            train_router(config, run)
        (path,) = (run / FOLDER / "checkpoints").rglob("last.ckpt")
        assert torch.load(path, weights_only=True)["best"]["step"] == 4

    def test_a_finished_one_is_not_trained_again(self, begin, monkeypatch):
        config, run = begin(*SHORT)
        train_router(config, run)
        before = snapshot(run)
        monkeypatch.setattr(pl.Trainer, "fit", None)
        train_router(config, run, "auto")
        assert snapshot(run) == before

    def test_a_lost_file_comes_back_from_the_last_checkpoint(self, begin, monkeypatch):
        config, run = begin(*SHORT)
        train_router(config, run)
        before, said = state_of(run), said_of(run)
        (run / FOLDER / FILE).unlink()
        steps: list[int] = []
        monkeypatch.setattr(RouterModule, "training_step", lambda self, queries, step: steps.append(step))
        train_router(config, run, "auto")
        assert not steps
        assert equal(state_of(run), before)
        assert said_of(run) == said

    def test_without_resume_it_is_trained_anew(self, begin):
        config, run = begin(*SHORT)
        train_router(config, run)
        before = (run / FOLDER / FILE).stat().st_mtime_ns
        train_router(config, run)
        assert (run / FOLDER / FILE).stat().st_mtime_ns > before

    def test_the_checkpoint_of_another_configuration_is_refused(self, begin, configure):
        config, run = begin(*SHORT)
        train_router(config, run)
        before = snapshot(run)
        with pytest.raises(ConfigError, match=r"--resume .*last\.ckpt: router\.learning_rate differ from") as caught:
            train_router(configure(*SHORT, "router.learning_rate=0.5"), run, "auto")
        assert "\n" not in str(caught.value)
        assert snapshot(run) == before

    @pytest.fixture
    def questioned(self, begin, library_files, tmp_path) -> tuple[Config, Path, Path]:
        """Configuration, folder, and a file of questions of its own, which a test may change."""
        questions = tmp_path / "asked.jsonl"
        questions.write_bytes(library_files[1].read_bytes())
        return *begin(*SHORT, f"data.questions={questions}"), questions

    def test_a_finished_one_of_other_questions_is_not_kept(self, questioned):
        config, run, questions = questioned
        train_router(config, run)
        before = snapshot(run)
        turned_round(questions)
        with pytest.raises(ConfigError, match=r"or a router's held-back questions; restore them, or train anew"):
            train_router(config, run, "auto")
        assert snapshot(run) == before
        train_router(config, run)
        assert said_of(run)["learned_from"] == learned_from(run_knowledge(config, run))

    def test_a_checkpoint_of_other_questions_is_refused(self, questioned, stop_after):
        config, run, questions = questioned
        stop_after(3)
        with pytest.raises(Interrupted):
            train_router(config, run)
        turned_round(questions)
        with pytest.raises(ConfigError, match=r"or a router's held-back questions; restore them, or train anew"):
            train_router(config, run, "auto")

    def test_one_that_does_not_tell_what_it_learned_from_is_kept(self, begin, monkeypatch):
        config, run = begin(*SHORT)
        train_router(config, run)
        stored = opened(run)
        untold = {name: value for name, value in stored.facts.training.items() if name != "learned_from"}
        write_router(run / FOLDER, stored.router, dataclasses.replace(stored.facts, training=untold))
        monkeypatch.setattr(pl.Trainer, "fit", None)
        train_router(config, run, "auto")

    def test_a_store_trained_anew_asks_for_a_router_anew(self, begin, train_at_random):
        config, run = begin(*SHORT)
        train_router(config, run)
        train_at_random(config, run, seed=1)
        with pytest.raises(StoreError, match="belongs to another store"):
            opened(run)
        train_router(config, run, "auto")
        assert opened(run).facts.store == open_store(run / "store").manifest.digest


class TestRefusals:
    def test_no_store(self, configure, tmp_path):
        with pytest.raises(StoreError, match=r"store: no such folder; .*train one with train\.py"):
            train_router(configure(*SHORT), tmp_path / "none")

    @pytest.mark.parametrize(
        ("overrides", "error", "says"),
        [
            (("router.layers=99",), ConfigError, r"router\.layers is 99, but the base model has 3 blocks"),
            (("data.train_qas=0", "router.sentences=false"), DataError, "no passage has question-answer pairs for the"),
            (("data.train_qas=0", "router.lm_steps=1"), DataError, "no passage has question-answer pairs for the"),
        ],
    )
    def test_what_cannot_be_trained_is_known_before_the_pool_is(self, configure, tiny_base, overrides, error, says):
        config = configure(*overrides)
        with pytest.raises(error, match=says) as caught:
            check_router(config, tiny_base, load_knowledge(config.data))
        assert "\n" not in str(caught.value)

    def test_what_can_be_trained_passes(self, configure, tiny_base):
        for overrides in ((), ("data.train_qas=0",), ("router.sentences=false", "router.lm_steps=1")):
            config = configure(*overrides)
            check_router(config, tiny_base, load_knowledge(config.data))
