import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from polyprag.config import TrainingConfig
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import build_tasks
from polyprag.training.datamodule import KnowledgeData
from polyprag.training.module import PoolModule
from polyprag.training.trainer import Sizes, measure_sizes, told_device

# the name that all of transformers 5 knows
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")

Measure = Callable[..., tuple[Sizes, ExpertPool]]


@pytest.fixture
def measure(configure) -> Measure:
    """`measure(base, *overrides)`: the sizes of a training on the library, router and batches made on the CPU."""

    def measured(base: BaseModel, *overrides: str) -> tuple[Sizes, ExpertPool]:
        config = configure(*overrides)
        knowledge = load_knowledge(config.data)
        packs = build_tasks(knowledge, config.tasks, PromptWriter(base.tokenizer))
        pool = ExpertPool(base.model, config.experts, config.routing.granularity)
        router = TaskRouter(len(knowledge.passages), pool.groups, config.experts.count, config.routing)
        module = PoolModule(base, pool, router, config, {})
        data = KnowledgeData(packs, (), config, base.tokenizer.pad_token_id)
        return measure_sizes(module, data, pool, router), pool

    return measured


def test_the_step_is_timed_where_the_base_model_is(tiny_base, measure):
    elsewhere = dataclasses.replace(tiny_base, model=tiny_base.model.to("meta"))
    sizes, _ = measure(elsewhere)
    assert sizes.seconds > 0
    assert sizes.passages == 6


@pytest.mark.parametrize("recomputes", [True, False])
def test_the_step_is_timed_as_training_makes_it_and_leaves_evaluation_mode(tiny_base, measure, recomputes):
    seen: list[bool] = []

    def noted(module: Any, *_: Any) -> None:
        seen.append(module.training)

    tiny_base.model.get_decoder().register_forward_hook(noted)
    measure(tiny_base, f"training.gradient_checkpointing={str(recomputes).lower()}")
    assert seen == [recomputes] * 2
    assert not tiny_base.model.training


def test_a_training_tells_where_it_takes_place_and_why(monkeypatch):
    asked = {name: TrainingConfig(accelerator=name) for name in ("auto", "cpu")}
    cpu = torch.device("cpu")
    assert told_device(cpu, asked["cpu"]) == "cpu"
    assert told_device(cpu, asked["auto"]) == (
        "cpu; torch finds no CUDA device, which training.accelerator=gpu would refuse"
    )
    together = TrainingConfig(accelerator="cpu", devices=2, nodes=2)
    assert told_device(cpu, together) == "cpu; 4 processes together"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert told_device(torch.device("cuda:1"), asked["auto"]) == "cuda:1, card 1"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recomputes", ["true", "false"])
def test_a_step_is_timed_on_cuda(tiny_config, measure, recomputes):
    sizes, pool = measure(load_base(tiny_config, "cuda:0"), f"training.gradient_checkpointing={recomputes}")
    assert sizes.seconds > 0
    assert {parameter.device.type for parameter in pool.parameters()} == {"cuda"}
    assert all(parameter.grad is not None for parameter in pool.parameters())
