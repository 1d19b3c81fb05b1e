"""The built-in base model in 4 bits: it answers, it learns, and its gradients are finite."""

from collections.abc import Iterator

import pytest
import torch

from polyprag.answering.generation import Generator
from polyprag.config import BaseConfig, Config, Dtype, ExpertsConfig, Granularity, Quantisation, TasksConfig
from polyprag.experts.base_model import BUILTIN, BaseModel, builtin_folder, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import build_tasks
from polyprag.records import Augmentation, Knowledge, Passage, QAPair
from polyprag.training.batches import Batch, collate
from polyprag.training.module import label_loss
from polyprag.training.optimisation import PoolOptimizer

pytestmark = [pytest.mark.model, pytest.mark.slow]

PASSAGE = Passage("p0", "Mira Tolk", "Mira Tolk was born in Arlen in 1867.")
PAIRS = (QAPair("Where was Mira Tolk born?", "Arlen"), QAPair("In which year was Mira Tolk born?", "1867"))


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(BaseConfig(BUILTIN, Quantisation.NF4, Dtype.BFLOAT16))


@pytest.fixture(scope="module")
def pool(base) -> ExpertPool:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ExpertPool(base.model, ExpertsConfig(count=2, rank=2, first_layer=24), Granularity.MODULE)


@pytest.fixture(scope="module")
def batch(base) -> Batch:
    knowledge = Knowledge((PASSAGE,), {"p0": Augmentation("p0", (), PAIRS)})
    packs = build_tasks(knowledge, TasksConfig(), PromptWriter(base.tokenizer))
    return collate(packs, base.tokenizer.pad_token_id)


@pytest.fixture
def gated(pool, batch) -> Iterator[TaskRouter]:
    """The router of the one passage, its gates in force."""
    router = TaskRouter(1, pool.groups, pool.config.count, Config().routing)
    pool.context.activate(router(batch.tasks_B))
    yield router
    pool.context.deactivate()


def test_a_second_call_finds_the_model_where_the_first_put_it(base, capfd):
    assert builtin_folder() == builtin_folder()
    assert capfd.readouterr() == ("", "")
    assert base.model.config.num_hidden_layers == 30
    assert base.model.is_loaded_in_4bit


def test_it_answers_each_question_of_a_batch(base):
    capitals = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Germany": "Berlin"}
    writer = PromptWriter(base.tokenizer)
    prompts = [writer.question(f"What is the capital of {country}?") for country in capitals]
    answers = Generator(base, max_new_tokens=12).answer(prompts)
    assert "Paris" in answers[0].text
    for (country, city), answer in zip(capitals.items(), answers, strict=True):
        assert country in answer.text or city in answer.text  # 135M parameters in 4 bits do not know every capital
        assert "\n" not in answer.text


def test_one_step_of_training_lowers_the_loss_on_its_batch(base, pool, batch, gated):
    before = label_loss(base.model, batch)
    before.backward()
    gradients = [parameter.grad for parameter in pool.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    assert not any(
        weight.requires_grad for name, weight in base.model.named_parameters() if not name.endswith((".A", ".B"))
    )
    optimizer = PoolOptimizer(pool.parameters(), gated.parameters(), Config().training)
    optimizer.step()
    pool.context.activate(gated(batch.tasks_B))
    with torch.no_grad():
        after = label_loss(base.model, batch)
    assert torch.isfinite(after)
    assert after < before - 0.01
