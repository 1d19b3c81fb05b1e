"""Who chooses the gates of a question: retrieval, the query router, both, or a control. One protocol for all.

Shapes: G routed groups, K experts, N passages, P chosen passages.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from polyprag.answering.query_router import QueryRouter
from polyprag.answering.question_encoder import QuestionEncoder
from polyprag.config import Combine, RouterDesign
from polyprag.experts.routing import RowGates, combine_gates
from polyprag.records import Question
from polyprag.retrieval.retriever import Retriever

CONSIDERED = 10
"""Passages over which the confidence of a retrieval is measured, and that a hybrid routing weighs."""


@dataclass(frozen=True)
class Routed:
    """The gates of a question and how sure the choice is.

    Attributes:
        gates_GK: the gates.
        passages: positions of the chosen passages, best first; empty where none was found.
        weights: their shares of the choice, as many as passages.
        entropy: of the distribution over passages, from 0 (one passage) to 1 (all considered alike).
        margin: probability of the first passage less that of the second, from 0 to 1.
    """

    gates_GK: Tensor
    passages: tuple[int, ...]
    weights: tuple[float, ...]
    entropy: float
    margin: float


class QuestionRouting(Protocol):
    """Turns questions into gates."""

    def route(self, questions: Sequence[Question], passages: int, combine: Combine) -> list[Routed]:
        """The gates of a batch of questions.

        Args:
            questions: the batch.
            passages: how many passages to choose for each question, at most.
            combine: how their gates become one set.
        """


@final
class PassageRouting:
    """Gates of the passages that are retrieved.

    Scores times the backend's sharpness count as log odds, so their softmax says how sure the retrieval is.

    Args:
        retriever: the index.
        gates_NGK: the gates of every passage.
    """

    def __init__(self, retriever: Retriever, gates_NGK: RowGates | Tensor) -> None:
        self.retriever, self.gates_NGK = retriever, gates_NGK

    def route(self, questions: Sequence[Question], passages: int, combine: Combine) -> list[Routed]:
        """Retrieve and combine; a question that finds nothing gets no gates."""
        found = self.retriever.search([question.text for question in questions], max(passages, CONSIDERED))
        routed = []
        for hits in found:
            scores = [hit.score for hit in hits]
            shares_P = (torch.tensor(scores) * self.retriever.sharpness).softmax(-1)
            positions = [hit.position for hit in hits]
            routed.append(_routed(self.gates_NGK, positions, scores, shares_P, passages, combine))
        return routed


@final
class QueryRouting:
    """Gates that the query router chooses from the question alone.

    Args:
        encoder: represents questions as in the router's training.
        router: the query router.
        gates_NGK: the gates of every passage.
    """

    def __init__(self, encoder: QuestionEncoder, router: QueryRouter, gates_NGK: RowGates | Tensor) -> None:
        self.encoder, self.router, self.gates_NGK = encoder, router, gates_NGK

    @torch.no_grad()
    def route(self, questions: Sequence[Question], passages: int, combine: Combine) -> list[Routed]:
        """Attend to passage keys and combine the gates of the first; the mlp's gates are taken as they are."""
        questions_BD = self.router.represent(self.encoder.encode([question.text for question in questions]))
        own_BGK = self.router.mlp_gates(questions_BD) if self.router.design is RouterDesign.MLP else None
        routed = []
        for row, met in enumerate(self.router.meet(questions_BD, self.gates_NGK)):
            best = met.attention_M.topk(min(max(passages, 2), len(met.positions_M)))
            positions, weights = met.positions_M[best.indices].tolist(), best.values.tolist()
            chosen = positions[:passages]
            gates_GK = (
                own_BGK[row]
                if own_BGK is not None
                else combine_gates(self.gates_NGK[chosen], best.values[:passages], combine)
            )
            margin = weights[0] - weights[1] if len(weights) > 1 else 1.0
            entropy = met.relative_entropy()
            routed.append(Routed(gates_GK, tuple(chosen), tuple(weights[:passages]), entropy, margin))
        return routed


@final
class HybridRouting:
    """Gates of passages by the mean of two distributions: the query router's attention and the retrieval's softmax.

    Args:
        query: the query router's side.
        retriever: the index.
    """

    def __init__(self, query: QueryRouting, retriever: Retriever) -> None:
        self.query, self.retriever = query, retriever

    def route(self, questions: Sequence[Question], passages: int, combine: Combine) -> list[Routed]:
        """Weigh the first passages of both sides."""
        attended = self.query.route(questions, CONSIDERED, Combine.SUM)
        found = self.retriever.search([question.text for question in questions], CONSIDERED)
        routed = []
        for ours, hits in zip(attended, found, strict=True):
            weights = {position: weight / 2 for position, weight in zip(ours.passages, ours.weights, strict=True)}
            shares_P = (torch.tensor([hit.score for hit in hits]) * self.retriever.sharpness).softmax(-1)
            for hit, share in zip(hits, shares_P.tolist(), strict=True):
                weights[hit.position] = weights.get(hit.position, 0.0) + share / 2
            best = sorted(weights, key=lambda position: (-weights[position], position))
            mixed_P = torch.tensor([max(weights[position], 1e-12) for position in best])
            mixed_P = mixed_P / mixed_P.sum()
            routed.append(_routed(self.query.gates_NGK, best, mixed_P.tolist(), mixed_P, passages, combine))
        return routed


GoldOf = Callable[[Question], Sequence[int]]
"""Positions of a question's gold passages; raises where there are none."""


@final
class GivenRouting:
    """Controls: the gates that a function makes of a question's passages, which are given rather than found.

    Args:
        passages_of: positions of the passages.
        gates_of: gates [G, K] of these passages, for the question.
    """

    def __init__(self, passages_of: GoldOf, gates_of: Callable[[Question, Sequence[int], Combine], Tensor]) -> None:
        self.passages_of, self.gates_of = passages_of, gates_of

    def route(self, questions: Sequence[Question], passages: int, combine: Combine) -> list[Routed]:
        """The given passages, all of them, without doubt."""
        routed = []
        for question in questions:
            own = tuple(self.passages_of(question))
            gates_GK = self.gates_of(question, own, combine)
            routed.append(Routed(gates_GK, own, (1 / len(own),) * len(own), 0.0, 1.0))
        return routed


def oracle_gates(gates_NGK: RowGates | Tensor, positions: Sequence[int], combine: Combine) -> Tensor:
    """The gates [G, K] of given passages, combined; all count alike."""
    return combine_gates(gates_NGK[list(positions)], torch.ones(len(positions)), combine)


def random_gates(question: Question, gates_GK: Tensor, seed: int) -> Tensor:
    """Gates [G, K] with the experts of each group interchanged at random, drawn by the question's id.

    So they are as sparse, as decided and as large as the gates that they are held against.

    Args:
        question: whose gates they are.
        gates_GK: the gates to scramble.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(random.Random(f"{seed}-{question.id}").randrange(2**31))
    order_GK = torch.rand(gates_GK.shape, generator=generator).argsort(-1)
    return gates_GK.gather(-1, order_GK.to(gates_GK.device))


def relative_entropy(distribution_N: Tensor) -> float:
    """Entropy of a distribution, divided by that of an even one over as many."""
    if len(distribution_N) < 2:
        return 0.0
    entropy = -(distribution_N * distribution_N.clamp_min(1e-30).log()).sum()
    return float(entropy / math.log(len(distribution_N)))


def _routed(
    gates_NGK: RowGates | Tensor,
    found: list[int],
    scores: list[float],
    shares_P: Tensor,
    passages: int,
    combine: Combine,
) -> Routed:
    """Gates of the first of some found passages, and how sure the choice is.

    Args:
        gates_NGK: the gates of every passage.
        found: positions, best first.
        scores: what `combine=score` weighs them by.
        shares_P: the distribution over them.
        passages: how many to take.
        combine: how to combine them.
    """
    if not found:
        return Routed(torch.zeros_like(gates_NGK[0]), (), (), 1.0, 0.0)
    chosen = found[:passages]
    gates_GK = combine_gates(gates_NGK[chosen], torch.tensor(scores[: len(chosen)]), combine)
    margin = float(shares_P[0] - shares_P[1]) if len(found) > 1 else 1.0
    return Routed(gates_GK, tuple(chosen), tuple(shares_P[: len(chosen)].tolist()), relative_entropy(shares_P), margin)
