"""Poly-PRAG: retrieved passages choose gates over the shared pool; nothing is loaded or merged (arXiv 2511.17044).

Shapes: B questions, P passages of a question, G routed groups, K experts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from polyprag.config import MethodName
from polyprag.errors import DataError
from polyprag.experts.routing import combine_gates
from polyprag.knowledge.prompts import with_title
from polyprag.knowledge.records import Question
from polyprag.methods.method import COMBINE_CHOICES, Method
from polyprag.methods.workbench import Answered, Clock, Setting

TOP_EXPERTS = 3
GIVEN_GOLD = {MethodName.POLY_PRAG_ORACLE, MethodName.POLY_PRAG_UNIFORM, MethodName.POLY_PRAG_SHUFFLED}


class PolyPrag(Method):
    """`poly_prag`, `poly_prag_combine`, and the controls.

    `poly_prag` takes the gates of retrieved passages; `poly_prag_combine` shows these passages in the prompt as well.
    The controls are given the gold passages instead of retrieving: `poly_prag_oracle` takes their gates,
    `poly_prag_uniform` spreads the same mass evenly over all experts, `poly_prag_shuffled` takes the gates of another
    question's passages.
    """

    def options(self) -> list[Setting]:
        """Passages to retrieve and ways to combine their gates; for the controls, the ways alone."""
        options = self.passage_options(combine=COMBINE_CHOICES)
        if self.name not in GIVEN_GOLD:
            return options
        ways = dict.fromkeys(setting.combine for setting in options)
        return [Setting(combine=how) for how in ways]

    def check(self, questions: Sequence[Question]) -> None:
        """Open the store and look up the gold passages of the controls.

        Raises:
            ConfigError: the run has no store.
            DataError: a control meets a question without gold passages in the store.
            StoreError: the store is damaged or belongs to another base model.
        """
        _ = self.bench.store
        if self.name in GIVEN_GOLD:
            for question in questions:
                _gold(question, self.bench.positions)

    def prepare(self, questions: Sequence[Question], settings: Sequence[Setting]) -> None:
        """Put the experts into the base model and draw the passages of the shuffled control.

        Raises:
            DataError: a control meets a question without gold passages in the store.
        """
        self.check(questions)
        _ = self.bench.generator, self.bench.gates_NGK, self.bench.retriever
        if self.name is MethodName.POLY_PRAG_SHUFFLED:
            self.others = other_passages(questions, self.bench.positions, self.bench.config.evaluation.seed)

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """Retrieve, look up and combine gates, generate all questions at once."""
        bench, clock = self.bench, Clock()
        with clock.step("retrieve"):
            chosen = self._choose(questions, setting)
        with clock.step("route"):
            gates_BGK = torch.stack([self._gates(positions, scores, setting) for positions, scores in chosen])
        shown = [[bench.passages[position] for position in positions] for positions, _ in chosen]
        with clock.step("generate"):
            combine = self.name is MethodName.POLY_PRAG_COMBINE
            prompts = [
                bench.writer.question(question.text, [with_title(p) for p in context] if combine else [])
                for question, context in zip(questions, shown, strict=True)
            ]
            texts = bench.generator.answer(prompts, gates_BGK)
        seconds = clock.shared_by(len(questions))
        return [
            Answered(text, tuple(p.id for p in context), top_experts(gates_GK), len(prompt), seconds)
            for text, context, gates_GK, prompt in zip(texts, shown, gates_BGK, prompts, strict=True)
        ]

    @property
    def identity(self) -> str:
        """The store."""
        return self.bench.store.manifest.digest

    @property
    def bytes_per_passage(self) -> float:
        """The store without its texts, over its passages; with them where prompts show them."""
        store = self.bench.store
        own = sum(store.bytes_on_disk[part] for part in ("pool", "rows", "other")) / store.manifest.passages
        texts = self.bench.text_bytes_per_passage if self.name is MethodName.POLY_PRAG_COMBINE else 0.0
        return own + self.bench.index_bytes_per_passage + texts

    @property
    def train_seconds(self) -> float:
        """Seconds of the joint training."""
        return float(self.bench.store.manifest.training["seconds"])

    def _choose(self, questions: Sequence[Question], setting: Setting) -> list[tuple[list[int], list[float]]]:
        """The passages whose gates each question takes, with their scores."""
        if self.name is MethodName.POLY_PRAG_SHUFFLED:
            return [(self.others[question.id], [1.0] * len(self.others[question.id])) for question in questions]
        if self.name in GIVEN_GOLD:
            gold = [_gold(question, self.bench.positions) for question in questions]
            return [(positions, [1.0] * len(positions)) for positions in gold]
        found = self.bench.retrieve(questions, setting.passages)
        return [([hit.position for hit in hits], [hit.score for hit in hits]) for hits in found]

    def _gates(self, positions: Sequence[int], scores: Sequence[float], setting: Setting) -> Tensor:
        """The gates [G, K] of one question; without any passage, no expert speaks."""
        gates_NGK = self.bench.gates_NGK
        if not positions:
            return torch.zeros_like(gates_NGK[0])
        gates_GK = combine_gates(gates_NGK[list(positions)], torch.tensor(scores), setting.combine)
        if self.name is MethodName.POLY_PRAG_UNIFORM:
            return gates_GK.mean(-1, keepdim=True).expand_as(gates_GK)
        return gates_GK


def top_experts(gates_GK: Tensor) -> tuple[tuple[int, float], ...]:
    """The experts with the largest gate, averaged over groups, and that gate, largest first."""
    mean_K = gates_GK.mean(0)
    best = mean_K.topk(min(TOP_EXPERTS, len(mean_K)))
    return tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def other_passages(questions: Sequence[Question], positions: dict[str, int], seed: int) -> dict[str, list[int]]:
    """For each question, the gold passages of another question that has none of its own among them.

    Args:
        questions: questions with gold passages.
        positions: position of each passage id in the store.
        seed: of the draw.

    Raises:
        DataError: all questions are about the same passage.
    """
    generator = random.Random(seed)
    gold = {question.id: _gold(question, positions) for question in questions}
    others = {}
    for question in questions:
        foreign = [mine for mine in gold.values() if not set(mine) & set(gold[question.id])]
        same_size = [mine for mine in foreign if len(mine) == len(gold[question.id])]
        if not foreign:
            raise DataError(f"question {question.id!r}: no question about other passages to shuffle gates with")
        others[question.id] = generator.choice(same_size or foreign)
    return others


def _gold(question: Question, positions: dict[str, int]) -> list[int]:
    known = [positions[passage] for passage in question.passage_ids if passage in positions]
    if not known:
        raise DataError(
            f"question {question.id!r} has no gold passage in the store; "
            "leave the oracle, uniform and shuffled methods out of evaluation.methods"
        )
    return known
