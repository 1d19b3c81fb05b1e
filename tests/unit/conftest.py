"""A small library of made-up people, its configuration on the tiny model, and runs that look trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polyprag.answering.generation import Generated, Generator
from polyprag.answering.query_router import measure_keys
from polyprag.answering.question_encoder import build_encoder
from polyprag.config import Config
from polyprag.config.loading import load_config, to_yaml
from polyprag.experts.base_model import load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.files import write_text
from polyprag.knowledge.loading import load_knowledge
from polyprag.methods.workbench import Workbench
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.router_store import RouterFacts, write_router
from polyprag.store import open_store, write_store
from polyprag.training.router_data import texts_of
from polyprag.training.router_stage import FOLDER, new_router

PEOPLE = [
    ("Mira Tolk", "Arlen", "1867", "glass"),
    ("Jon Veld", "Brask", "1871", "rope"),
    ("Ilse Quarn", "Corvo", "1880", "paper"),
    ("Abel Dorn", "Drissa", "1893", "clocks"),
    ("Runa Hale", "Ettin", "1902", "kites"),
    ("Piet Lomax", "Farrow", "1911", "lenses"),
]

Configure = Callable[..., Config]
Train = Callable[..., None]
MakeBench = Callable[..., Workbench]


@dataclass(frozen=True)
class Seen:
    """One call of a generator: the prompts as text, the gates, and what came back."""

    prompts: list[str]
    gates_BGK: Tensor | None
    answers: list[Generated]


def write_rows(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def library_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Corpus and questions: six people with three training pairs each; ten questions, four of them on two passages."""
    folder = tmp_path_factory.mktemp("library")
    passages = [
        {
            "id": f"p{index}",
            "title": name,
            "text": f"{name} was born in {town} in {year}. {name} became known as a maker of {craft}.",
            "qas": [
                {"question": f"Where was {name} born?", "answer": town},
                {"question": f"In which year was {name} born?", "answer": year},
                {"question": f"What did {name} make?", "answer": craft},
            ],
        }
        for index, (name, town, year, craft) in enumerate(PEOPLE)
    ]
    one_hop = [
        {
            "id": f"q{index}",
            "question": f"Which town did {name} come from?",
            "answers": [town],
            "type": "one_hop",
            "passage_ids": [f"p{index}"],
        }
        for index, (name, town, _, _) in enumerate(PEOPLE)
    ]
    comparison = [
        {
            "id": f"c{index}",
            "question": f"Who was older, {PEOPLE[index][0]} or {PEOPLE[index + 1][0]}?",
            "answers": [PEOPLE[index][0]],
            "type": "comparison",
            "passage_ids": [f"p{index}", f"p{index + 1}"],
        }
        for index in range(4)
    ]
    return write_rows(folder / "corpus.jsonl", passages), write_rows(folder / "questions.jsonl", one_hop + comparison)


@pytest.fixture
def configure(tiny_model_folder: Path, library_files: tuple[Path, Path]) -> Configure:
    """`configure(*overrides)`: a configuration on the tiny model and the library, two questions set apart."""
    corpus, questions = library_files

    def configured(*overrides: str) -> Config:
        ours = [
            f"base.model={tiny_model_folder}",
            *("base.quantisation=none", "base.dtype=float32"),
            *("data.name=jsonl", f"data.path={corpus}", f"data.questions={questions}", "data.validation_questions=2"),
            *("experts.count=3", "experts.rank=2", "answering.max_new_tokens=6", "answering.batch_size=3"),
            *("prag.learning_rate=0.01", "evaluation.bootstrap=100", "logging.wandb=disabled"),
        ]
        return load_config(None, [*ours, *overrides])

    return configured


@pytest.fixture
def train_at_random() -> Train:
    """`train_at_random(config, folder, seed=0)`: leave a run's configuration and a store of random experts.

    The store says that it has learned from `learned_from`, if that is given.
    """

    def train(config: Config, folder: Path, seed: int = 0, learned_from: str = "") -> None:
        base = load_base(config.base)
        passages = load_knowledge(config.data).passages
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            pool = ExpertPool(base.model, config.experts, config.routing.granularity)
            router = TaskRouter(len(passages), pool.groups, config.experts.count, config.routing)
            router.rows.weight.normal_(std=2.0)
            for layer in pool.layers.values():
                layer.B.normal_(std=0.5)
        made_of = {"learned_from": learned_from} if learned_from else {}
        write_text(folder / "config.yaml", to_yaml(config))
        write_store(
            folder / "store",
            config_yaml=to_yaml(config),
            base_name=base.name,
            base_fingerprint=base.fingerprint,
            pool=pool.state(),
            rows_NGK=router.all_logits(),
            group_names=pool.group_names,
            passages=passages,
            retriever=BM25Retriever.build(passages),
            training={"seconds": 12.5, "steps": 3, "seed": seed, **made_of},
        )

    return train


@pytest.fixture
def add_router() -> Train:
    """`add_router(config, folder, seed=0)`: leave a query router beside a run's store, as it is before training.

    The seed decides the weights of an mlp, and shifts the token weights of either design.
    """

    def add(config: Config, folder: Path, seed: int = 0) -> None:
        base, store = load_base(config.base), open_store(folder / "store")
        encoder = build_encoder(config.router, base)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            router = new_router(config, store, encoder)
        router.start_from(measure_keys(encoder, texts_of(load_knowledge(config.data))))
        with torch.no_grad():
            router.log_weights_V += seed / 10
        facts = RouterFacts.of(config, store, settings={}, training={"seconds": 3.5, "step": 0})
        write_router(folder / FOLDER, router, facts)

    return add


@pytest.fixture
def make_bench(configure: Configure, train_at_random: Train, add_router: Train, tmp_path: Path) -> MakeBench:
    """`make_bench(*overrides, trained=True, router=False)`: a fresh workbench in the test's own run folder.

    The run is trained once, and gets a query router once, if asked to.
    """

    def make(*overrides: str, trained: bool = True, router: bool = False) -> Workbench:
        config, folder = configure(*overrides), tmp_path / "run"
        if trained and not (folder / "store").exists():
            train_at_random(config, folder)
        if router and not (folder / FOLDER).exists():
            add_router(config, folder)
        return Workbench(config, load_knowledge(config.data), folder)

    return make


@pytest.fixture
def generations(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """What every generator was asked and answered from now on."""
    seen: list[Seen] = []
    answer = Generator.answer

    def recorded(self: Generator, prompts: Sequence[Sequence[int]], gates_BGK: Tensor | None = None) -> list[Generated]:
        answers = answer(self, prompts, gates_BGK)
        seen.append(Seen([self.base.tokenizer.decode(ids) for ids in prompts], gates_BGK, answers))
        return answers

    monkeypatch.setattr(Generator, "answer", recorded)
    return seen
