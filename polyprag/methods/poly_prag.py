"""Poly-PRAG: a routing chooses gates over the shared pool; nothing is loaded or merged (arXiv 2511.17044).

Shapes: B questions, G routed groups, K experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor

from polyprag.answering.generation import Generated
from polyprag.answering.passage_keys import CodedKeys
from polyprag.answering.question_routing import (
    GivenRouting,
    HybridRouting,
    PassageRouting,
    QueryRouting,
    QuestionRouting,
    Routed,
    oracle_gates,
    random_gates,
)
from polyprag.config import AbstainTo, Combine, MethodName
from polyprag.knowledge.prompts import with_title
from polyprag.methods.gold_passages import gold_of, other_passages
from polyprag.methods.method import COMBINE_CHOICES, Method
from polyprag.methods.workbench import Answered, Clock, Confidence, Setting, Workbench
from polyprag.records import Question

TOP_EXPERTS = 3
COMBINE_SUFFIX = "_combine"


class Mode(StrEnum):
    """How a question gets its gates."""

    PASSAGE = "passage"
    QUERY = "query"
    HYBRID = "hybrid"
    ORACLE = "oracle"
    UNIFORM = "uniform"
    AVERAGE = "average"
    SHUFFLED = "shuffled"
    RANDOM = "random"


GIVEN_GOLD = {Mode.ORACLE, Mode.UNIFORM, Mode.AVERAGE, Mode.SHUFFLED, Mode.RANDOM}
"""Modes that are given the gold passages instead of choosing."""
LEARNED = {Mode.QUERY, Mode.HYBRID}
"""Modes that need the query router."""


def mode_of(name: MethodName) -> Mode:
    """The routing of a Poly-PRAG method, read off its name; `poly_prag` alone routes by retrieved passages."""
    rest = name.removesuffix(COMBINE_SUFFIX).removeprefix("poly_prag").removeprefix("_")
    return Mode(rest) if rest else Mode.PASSAGE


def needs_router(name: MethodName) -> bool:
    """Whether a method's answers depend on the query router."""
    return name.startswith("poly_prag") and mode_of(name) in LEARNED


class PolyPrag(Method):
    """`poly_prag` and its routings; with `_combine` the passages are shown in the prompt as well.

    `poly_prag` takes the gates of retrieved passages, `poly_prag_query` those that the query router chooses without
    retrieval, `poly_prag_hybrid` weighs both. The controls are given the gold passages: `oracle` takes their gates,
    `uniform` spreads the same mass evenly over all experts, `average` takes the mean gates of all passages, `shuffled`
    those of another question's passages, `random` interchanges the experts of each group at random. Combined controls
    show the gold passages.
    """

    def __init__(self, name: MethodName, bench: Workbench) -> None:
        super().__init__(name, bench)
        self.mode = mode_of(name)
        self.shows_passages = name.endswith(COMBINE_SUFFIX)

    @property
    def strength(self) -> float:
        """Factor on the experts' update: 1 where they answer alone."""
        return self.bench.config.answering.combine_scale if self.shows_passages else 1.0

    @property
    def falls_back(self) -> bool:
        """Whether standard RAG answers where the routing is not trusted; a given routing always is."""
        answering = self.bench.config.answering
        to_rag = answering.abstain_to is AbstainTo.STANDARD_RAG
        return to_rag and answering.abstain_below > 0 and self.mode not in GIVEN_GOLD

    def options(self) -> list[Setting]:
        """Passages to choose and ways to combine their gates; for the controls, the ways alone."""
        options = self.passage_options(combine=COMBINE_CHOICES)
        if self.mode not in GIVEN_GOLD:
            return options
        ways = dict.fromkeys(setting.combine for setting in options)
        return [Setting(combine=how) for how in ways]

    def check(self, questions: Sequence[Question]) -> None:
        """Open the store, and the query router where it is wanted; look up the gold passages of the controls.

        Raises:
            ConfigError: the run has no store, or what represents questions is not installed.
            DataError: a control meets a question without gold passages in the store.
            StoreError: store or router is missing, damaged, or belongs to another base model or store.
        """
        _ = self.bench.store
        if self.mode in LEARNED:
            _ = self.bench.question_encoder
        if self.mode in GIVEN_GOLD:
            for question in questions:
                gold_of(question, self.bench.positions)

    def prepare(
        self, questions: Sequence[Question], settings: Sequence[Setting], own: Sequence[Question] | None = None
    ) -> None:
        """Put the experts into the base model and set up the routing.

        Raises:
            DataError: a control meets a question without gold passages in the store.
        """
        self.check(questions)
        _ = self.bench.generator, self.bench.gates_NGK
        if self.falls_back:
            _ = self.bench.retriever
        self.routing = self._routing(questions)

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """Route and generate all questions at once; those whose routing is not trusted by the fall-back."""
        bench, clock = self.bench, Clock()
        with clock.step("retrieve" if self.mode is Mode.PASSAGE else "route"):
            routed = self.routing.route(questions, setting.passages, setting.combine)
        trusted = [choice.margin >= bench.config.answering.abstain_below for choice in routed]
        shown = [self._shown(question, choice) for question, choice in zip(questions, routed, strict=True)]
        doubted = [row for row, trust in enumerate(trusted) if not trust]
        if doubted:
            instead = self._instead([questions[row] for row in doubted], setting.passages, clock)
            for row, positions in zip(doubted, instead, strict=True):
                shown[row] = positions
        with clock.step("generate"):
            prompts = [self._prompt(question, own) for question, own in zip(questions, shown, strict=True)]
            texts = self._generate(prompts, routed, trusted)
        seconds = clock.shared_by(len(questions))
        searches = int(self.mode in {Mode.PASSAGE, Mode.HYBRID})
        return [
            Answered(
                text,
                tuple(bench.passages[position].id for position in choice.passages),
                top_experts(choice.gates_GK),
                len(prompt),
                seconds,
                Confidence(choice.entropy, choice.margin, not trust),
                retrievals=searches + (self.falls_back and not trust),
                first_token_seconds=clock.until(text.first_token_at),
            )
            for text, choice, prompt, trust in zip(texts, routed, prompts, trusted, strict=True)
        ]

    @property
    def identity(self) -> str:
        """The store, the query router where it chooses, when its choice is not trusted, and the experts' strength."""
        answering = self.bench.config.answering
        parts = [self.bench.store.manifest.digest]
        if self.mode in LEARNED:
            parts.append(self.bench.stored_router.digest)
            if isinstance(self.bench.stored_router.router.keys, CodedKeys):
                parts.append(f"key_share {answering.key_share}")
        if answering.abstain_below:
            parts.append(f"{answering.abstain_below} {answering.abstain_to}")
        if self.strength != 1:
            parts.append(f"strength {self.strength}")
        return " ".join(parts)

    @property
    def bytes_per_passage(self) -> float:
        """Pool, rows and what routing and fall-back need, over the passages; texts too where prompts may show them."""
        bench = self.bench
        total = sum(bench.store.bytes_on_disk[part] for part in ("pool", "rows", "other"))
        total += bench.stored_router.bytes if self.mode in LEARNED else 0
        index = bench.index_bytes_per_passage if self.retrieves else 0.0
        texts = bench.text_bytes_per_passage if self.shows_passages or self.falls_back else 0.0
        return total / bench.store.manifest.passages + index + texts

    @property
    def train_seconds(self) -> float:
        """Seconds of the joint training, and of the query router's where it is wanted."""
        router = self.bench.stored_router.facts.training["seconds"] if self.mode in LEARNED else 0.0
        return float(self.bench.store.manifest.training["seconds"]) + float(router)

    @property
    def needs_augmentation(self) -> bool:
        """It is what the pool is trained on."""
        return True

    @property
    def retrieves(self) -> bool:
        """Whether an index is needed: not where the query router chooses alone and never falls back on standard RAG."""
        return self.mode is not Mode.QUERY or self.falls_back

    def _routing(self, questions: Sequence[Question]) -> QuestionRouting:
        """What chooses this method's gates."""
        bench, mode = self.bench, self.mode
        if mode is Mode.PASSAGE:
            return PassageRouting(bench.retriever, bench.gates_NGK)
        if mode in LEARNED:
            query = QueryRouting(bench.question_encoder, bench.stored_router.router, bench.gates_NGK)
            return query if mode is Mode.QUERY else HybridRouting(query, bench.retriever)
        positions, seed = bench.positions, bench.config.evaluation.seed
        if mode is Mode.SHUFFLED:
            others = other_passages(questions, positions, seed)
            return GivenRouting(lambda question: others[question.id], self._given_gates)
        return GivenRouting(lambda question: gold_of(question, positions), self._given_gates)

    def _given_gates(self, question: Question, positions: Sequence[int], combine: Combine) -> Tensor:
        """The gates [G, K] of a control."""
        bench = self.bench
        gates_GK = oracle_gates(bench.gates_NGK, positions, combine)
        if self.mode is Mode.UNIFORM:
            return gates_GK.mean(-1, keepdim=True).expand_as(gates_GK)
        if self.mode is Mode.AVERAGE:
            return float(gates_GK[0].sum()) * bench.mean_gates_GK
        if self.mode is Mode.RANDOM:
            return random_gates(question, gates_GK, bench.config.evaluation.seed)
        return gates_GK

    def _shown(self, question: Question, choice: Routed) -> list[int]:
        """Positions of the passages that the prompt shows where the routing is trusted."""
        if not self.shows_passages:
            return []
        return gold_of(question, self.bench.positions) if self.mode in GIVEN_GOLD else list(choice.passages)

    def _instead(self, questions: Sequence[Question], passages: int, clock: Clock) -> list[list[int]]:
        """Positions of the passages that prompts show where the routing is not trusted: none by the base model."""
        if not self.falls_back:
            return [[] for _ in questions]
        with clock.step("retrieve"):
            found = self.bench.retrieve(questions, passages)
        return [[hit.position for hit in hits] for hits in found]

    def _prompt(self, question: Question, shown: Sequence[int]) -> list[int]:
        passages = self.bench.passages
        return self.bench.writer.question(question.text, [with_title(passages[position]) for position in shown])

    def _generate(
        self, prompts: Sequence[list[int]], routed: Sequence[Routed], trusted: Sequence[bool]
    ) -> list[Generated]:
        """Answers under the gates where they are trusted, by the base model alone elsewhere."""
        bench = self.bench
        texts: dict[int, Generated] = {}
        for trust in (True, False):
            rows = [row for row, own in enumerate(trusted) if own is trust]
            if rows:
                gates_BGK = torch.stack([routed[row].gates_GK for row in rows]) if trust else None
                with bench.pool.at_strength(self.strength):
                    answers = bench.generator.answer([prompts[row] for row in rows], gates_BGK)
                texts |= dict(zip(rows, answers, strict=True))
        return [texts[row] for row in range(len(prompts))]


def top_experts(gates_GK: Tensor) -> tuple[tuple[int, float], ...]:
    """The experts with the largest gate, averaged over groups, and that gate, largest first."""
    mean_K = gates_GK.mean(0)
    best = mean_K.topk(min(TOP_EXPERTS, len(mean_K)))
    return tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
