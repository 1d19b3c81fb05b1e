"""Shapes: B questions, N passages, P chosen passages, G routed groups, K experts."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.answering.query_router import QueryRouter, measure_keys
from polyprag.answering.question_encoder import BaseEncoder
from polyprag.answering.question_routing import (
    CONSIDERED,
    GivenRouting,
    HybridRouting,
    PassageRouting,
    QueryRouting,
    Routed,
    oracle_gates,
    random_gates,
    relative_entropy,
)
from polyprag.config import Combine, Normalisation, RouterDesign, RoutingConfig
from polyprag.experts.routing import combine_gates
from polyprag.records import Passage, Question
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.retrieval.retriever import Hit

NAMES = [
    *("Mira Tolk", "Jon Veld", "Ilse Quarn", "Abel Dorn", "Runa Hale", "Piet Lomax", "Ada Moor", "Ben Lund"),
    *("Cleo Rask", "Dag Ulm", "Elin Voss", "Finn Ware"),
]
PASSAGES = [
    Passage(f"p{at}", name, f"{name} was born in 18{at:02} and became a {('smith', 'weaver', 'baker')[at % 3]}.")
    for at, name in enumerate(NAMES)
]
QUESTIONS = [
    Question(f"q{at}", text, ("a",))
    for at, text in enumerate(
        [
            "When was Mira Tolk born?",
            "Was Jon Veld or Ilse Quarn a weaver?",
            "Which smith was born in 1806?",
            "Xyzzy?",
            "Tolk, Veld, Quarn, Dorn, Hale, Lomax, Moor, Lund, Rask, Ulm, Voss: who was a baker?",
            "Ware?",
        ]
    )
]
NOTHING_FOUND, ONE_FOUND = 3, 5
GROUPS, EXPERTS = 2, 4
GENERATOR = torch.Generator().manual_seed(0)
GATES_NGK = (2 * torch.randn(len(PASSAGES), GROUPS, EXPERTS, generator=GENERATOR)).softmax(-1)
WAYS = [Combine.SUM, Combine.MEAN, Combine.SCORE]


@cache
def retriever() -> BM25Retriever:
    return BM25Retriever.build(PASSAGES)


@pytest.fixture(params=list(RouterDesign))
def design(request) -> RouterDesign:
    return request.param


@pytest.fixture
def query(tiny_base, design) -> QueryRouting:
    """A routing by a router that is as measured on the corpus, but for a projection."""
    encoder = BaseEncoder(tiny_base, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = QueryRouter(
            design,
            passages=len(PASSAGES),
            groups=GROUPS,
            experts=EXPERTS,
            size=encoder.size,
            vocabulary=encoder.vocabulary,
            hidden=8,
            routing=RoutingConfig(normalisation=Normalisation.SOFTMAX),
        )
        router.start_from(measure_keys(encoder, [[f"{passage.title}\n{passage.text}"] for passage in PASSAGES]))
        if design is RouterDesign.ATTENTION:
            torch.nn.init.normal_(router.projection_DD, std=0.05)
    return QueryRouting(encoder, router, GATES_NGK)


def attention(query: QueryRouting) -> np.ndarray:
    """The distribution over all passages for each question, in float64."""
    with torch.no_grad():
        questions_BD = query.router.represent(query.encoder.encode([question.text for question in QUESTIONS]))
        logits_BN = query.router.logits(questions_BD, GATES_NGK).double().numpy()
    return softmax(logits_BN)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def entropy_of(shares: np.ndarray) -> float:
    kept = shares[shares > 0]
    return float(-(kept * np.log(kept)).sum() / np.log(len(shares))) if len(shares) > 1 else 0.0


def assert_gates(one: Routed, positions: list[int], weights: np.ndarray, how: Combine) -> None:
    """The gates are those of the passages, combined by the formula in float64."""
    shares_P = {
        Combine.SUM: np.ones(len(positions)),
        Combine.MEAN: np.full(len(positions), 1 / len(positions)),
        Combine.SCORE: weights / weights.sum(),
    }[how]
    expected_GK = np.einsum("p,pgk->gk", shares_P, GATES_NGK.double().numpy()[positions])
    torch.testing.assert_close(one.gates_GK.double(), torch.tensor(expected_GK), rtol=1e-5, atol=1e-6)


class TestPassageRouting:
    @pytest.mark.parametrize("how", WAYS)
    @pytest.mark.parametrize("passages", [1, 3, 11])
    def test_gates_are_those_of_the_retrieved_passages_combined(self, how, passages):
        routed = PassageRouting(retriever(), GATES_NGK).route(QUESTIONS, passages, how)
        found = retriever().search([question.text for question in QUESTIONS], passages)
        for one, hits in zip(routed, found, strict=True):
            positions = [hit.position for hit in hits]
            assert one.passages == tuple(positions)
            if hits:
                scores = torch.tensor([hit.score for hit in hits])
                assert torch.equal(one.gates_GK, combine_gates(GATES_NGK[positions], scores, how))
                assert_gates(one, positions, scores.double().numpy(), how)

    @pytest.mark.parametrize("passages", [1, 2, 11])
    def test_scores_count_as_log_odds_among_the_first(self, passages):
        routed = PassageRouting(retriever(), GATES_NGK).route(QUESTIONS, passages, Combine.SUM)
        found = retriever().search([question.text for question in QUESTIONS], max(passages, CONSIDERED))
        for one, hits in zip(routed, found, strict=True):
            if len(hits) > 1:
                shares = softmax(np.array([hit.score for hit in hits]))
                assert one.weights == pytest.approx(shares[:passages].tolist(), abs=1e-6)
                assert one.margin == pytest.approx(shares[0] - shares[1], abs=1e-6)
                assert one.entropy == pytest.approx(entropy_of(shares), abs=1e-5)

    def test_a_question_that_finds_nothing_gets_no_gates(self):
        one = PassageRouting(retriever(), GATES_NGK).route(QUESTIONS, 2, Combine.SCORE)[NOTHING_FOUND]
        assert (one.passages, one.weights, one.entropy, one.margin) == ((), (), 1.0, 0.0)
        assert torch.equal(one.gates_GK, torch.zeros(GROUPS, EXPERTS))

    def test_a_single_find_is_sure(self):
        one = PassageRouting(retriever(), GATES_NGK).route(QUESTIONS, 2, Combine.SUM)[ONE_FOUND]
        assert (one.passages, one.weights, one.entropy, one.margin) == ((11,), (1.0,), 0.0, 1.0)

    @settings(max_examples=40, deadline=None)
    @given(words=st.lists(st.sampled_from([*" ".join(NAMES).split(), "smith", "1803", "x"]), max_size=12))
    def test_confidence_keeps_to_its_bounds(self, words):
        (one,) = PassageRouting(retriever(), GATES_NGK).route([Question("q", " ".join(words), ("a",))], 3, Combine.SUM)
        assert 0 <= one.margin <= 1
        assert -1e-6 <= one.entropy <= 1 + 1e-6
        assert len(one.weights) == len(one.passages) <= 3
        assert list(one.weights) == sorted(one.weights, reverse=True)
        assert 0 <= sum(one.weights) <= 1 + 1e-6


class TestQueryRouting:
    @pytest.mark.parametrize("how", WAYS)
    @pytest.mark.parametrize("design", [RouterDesign.ATTENTION], indirect=True)
    def test_of_one_passage_the_gates_are_its_row(self, query, how):
        routed = query.route(QUESTIONS, 1, how)
        for one, attention_N in zip(routed, attention(query), strict=True):
            assert one.passages == (int(attention_N.argmax()),)
            assert torch.equal(one.gates_GK, GATES_NGK[one.passages[0]])

    @pytest.mark.parametrize("how", WAYS)
    @pytest.mark.parametrize("passages", [2, 5, 20])
    @pytest.mark.parametrize("design", [RouterDesign.ATTENTION], indirect=True)
    def test_of_several_they_are_combined(self, query, how, passages):
        routed = query.route(QUESTIONS, passages, how)
        for one, attention_N in zip(routed, attention(query), strict=True):
            best = np.argsort(-attention_N)[:passages].tolist()
            assert list(one.passages) == best
            assert_gates(one, best, attention_N[best], how)

    @pytest.mark.parametrize("design", [RouterDesign.MLP], indirect=True)
    def test_an_mlp_gives_gates_of_its_own_and_names_the_nearest_rows(self, query):
        routed = query.route(QUESTIONS, 2, Combine.SUM)
        with torch.no_grad():
            texts = [question.text for question in QUESTIONS]
            gates_BGK = query.router.mlp_gates(query.router.represent(query.encoder.encode(texts)))
        for one, own_GK, attention_N in zip(routed, gates_BGK, attention(query), strict=True):
            assert torch.equal(one.gates_GK, own_GK)
            unit_NX = GATES_NGK.flatten(1) / GATES_NGK.flatten(1).norm(dim=1, keepdim=True)
            nearest = (unit_NX - own_GK.flatten() / own_GK.norm()).norm(dim=1).argsort()[:2].tolist()
            assert list(one.passages) == np.argsort(-attention_N)[:2].tolist() == nearest

    def test_confidence_is_that_of_the_distribution_over_all_passages(self, query):
        for one, attention_N in zip(query.route(QUESTIONS, 1, Combine.SUM), attention(query), strict=True):
            first, second = sorted(attention_N, reverse=True)[:2]
            assert one.weights == pytest.approx([first], abs=1e-6)
            assert one.margin == pytest.approx(first - second, abs=1e-6)
            assert one.entropy == pytest.approx(entropy_of(attention_N), abs=1e-5)

    def test_the_other_questions_of_a_batch_do_not_matter(self, query):
        together = query.route(QUESTIONS, 3, Combine.SCORE)
        for question, one in zip(QUESTIONS, together, strict=True):
            (alone,) = query.route([question], 3, Combine.SCORE)
            assert alone.passages == one.passages
            torch.testing.assert_close(alone.gates_GK, one.gates_GK, rtol=1e-5, atol=1e-5)
            assert (alone.margin, alone.entropy) == pytest.approx((one.margin, one.entropy), abs=1e-5)


class TestHybridRouting:
    @pytest.mark.parametrize("how", WAYS)
    @pytest.mark.parametrize("passages", [1, 3])
    def test_it_goes_by_the_mean_of_both_distributions(self, query, how, passages):
        routed = HybridRouting(query, retriever()).route(QUESTIONS, passages, how)
        found = retriever().search([question.text for question in QUESTIONS], CONSIDERED)
        for one, attention_N, hits in zip(routed, attention(query), found, strict=True):
            mean_N = np.zeros(len(PASSAGES))
            attended = np.argsort(-attention_N)[:CONSIDERED]
            mean_N[attended] += attention_N[attended] / 2
            if hits:
                mean_N[[hit.position for hit in hits]] += softmax(np.array([hit.score for hit in hits])) / 2
            considered = np.flatnonzero(mean_N)
            shares_N = mean_N / mean_N.sum()
            best = np.argsort(-mean_N, kind="stable")[:passages].tolist()
            assert list(one.passages) == best
            assert one.weights == pytest.approx(shares_N[best].tolist(), abs=1e-5)
            first, second = sorted(shares_N, reverse=True)[:2]
            assert one.margin == pytest.approx(first - second, abs=1e-5)
            assert one.entropy == pytest.approx(entropy_of(shares_N[considered]), abs=1e-5)
            assert_gates(one, best, shares_N[best], how)

    def test_where_nothing_is_retrieved_the_router_decides(self, query):
        ours = HybridRouting(query, retriever()).route(QUESTIONS, 3, Combine.SUM)[NOTHING_FOUND]
        assert ours.passages == query.route(QUESTIONS, 3, Combine.SUM)[NOTHING_FOUND].passages


class Cosines:
    """A retriever whose scores, from 0 to 1, count twenty times as log odds."""

    sharpness = 20.0

    def search(self, queries: list[str], n: int) -> list[list[Hit]]:
        return [[Hit(2, 0.9), Hit(0, 0.85), Hit(3, 0.5)][:n] for _ in queries]


class TestOtherScores:
    """Scores of another kind than BM25's give a distribution by their backend's sharpness."""

    SHARES = softmax(20 * np.array([0.9, 0.85, 0.5]))

    @pytest.mark.parametrize("how", WAYS)
    def test_passage_routing_is_as_sure_as_the_backend(self, how):
        (one,) = PassageRouting(Cosines(), GATES_NGK).route(QUESTIONS[:1], 2, how)
        assert one.passages == (2, 0)
        assert one.weights == pytest.approx(self.SHARES[:2], abs=1e-6)
        assert one.margin == pytest.approx(self.SHARES[0] - self.SHARES[1], abs=1e-6)
        assert one.entropy == pytest.approx(entropy_of(self.SHARES), abs=1e-5)
        assert_gates(one, [2, 0], np.array([0.9, 0.85]), how)

    def test_hybrid_routing_adds_both_distributions(self, query):
        (ours,), (attention_N, *_) = HybridRouting(query, Cosines()).route(QUESTIONS[:1], 1, WAYS[0]), attention(query)
        mean_N = np.zeros(len(PASSAGES))
        attended = np.argsort(-attention_N)[:CONSIDERED]
        mean_N[attended] += attention_N[attended] / 2
        mean_N[[2, 0, 3]] += self.SHARES / 2
        assert ours.passages == (int(mean_N.argmax()),)
        assert ours.weights == pytest.approx([mean_N.max() / mean_N.sum()], abs=1e-5)


class TestGivenRouting:
    def test_it_takes_what_it_is_given_without_doubt(self):
        routing = GivenRouting(lambda q: [2, 5] if q.id == "q0" else [7], lambda q, own, how: GATES_NGK[own[-1]])
        first, second = routing.route(QUESTIONS[:2], 1, Combine.SUM)
        assert (first.passages, first.weights) == ((2, 5), (0.5, 0.5))
        assert (second.passages, second.weights) == ((7,), (1.0,))
        assert {(one.entropy, one.margin) for one in (first, second)} == {(0.0, 1.0)}
        assert torch.equal(first.gates_GK, GATES_NGK[5])

    @pytest.mark.parametrize("how", WAYS)
    def test_given_passages_count_alike(self, how):
        expected_GK = GATES_NGK[1] + GATES_NGK[4]
        gates_GK = oracle_gates(GATES_NGK, [1, 4], how)
        torch.testing.assert_close(gates_GK, expected_GK if how is Combine.SUM else expected_GK / 2)


class TestRandomGates:
    @settings(max_examples=50, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        gates=st.lists(st.lists(st.floats(0, 2, width=32), min_size=5, max_size=5), min_size=1, max_size=4),
    )
    def test_each_group_keeps_its_gates_in_another_order(self, seed, gates):
        gates_GK = torch.tensor(gates)
        drawn_GK = random_gates(QUESTIONS[0], gates_GK, seed)
        assert torch.equal(drawn_GK.sort(-1).values, gates_GK.sort(-1).values)
        assert torch.equal(drawn_GK, random_gates(QUESTIONS[0], gates_GK, seed))

    def test_question_and_seed_decide_the_order_alone(self):
        gates_GK = torch.arange(40.0).view(5, 8)
        drawn = [random_gates(question, gates_GK, seed) for question in QUESTIONS for seed in (0, 1)]
        assert len({tuple(drawn_GK.flatten().tolist()) for drawn_GK in drawn}) == 2 * len(QUESTIONS)
        assert not any(torch.equal(drawn_GK, gates_GK) for drawn_GK in drawn)
        before = torch.get_rng_state()
        same_id = Question("q0", "Another text?", ("b",))
        assert torch.equal(random_gates(same_id, gates_GK, 0), drawn[0])
        assert torch.equal(torch.get_rng_state(), before)

    def test_groups_are_scrambled_each_in_its_own_way(self):
        orders_GK = random_gates(QUESTIONS[0], torch.arange(8.0).repeat(6, 1), 0)
        assert len({tuple(order_K.tolist()) for order_K in orders_GK}) == 6


class TestRelativeEntropy:
    @settings(max_examples=60, deadline=None)
    @given(logits=st.lists(st.floats(-60, 60), min_size=1, max_size=20))
    def test_it_lies_between_one_choice_and_all_alike(self, logits):
        shares_N = torch.tensor(logits).softmax(-1)
        entropy = relative_entropy(shares_N)
        assert -1e-6 <= entropy <= 1 + 1e-6
        assert entropy == pytest.approx(entropy_of(softmax(np.array(logits))), abs=1e-4)
        assert relative_entropy(shares_N.flip(0)) == pytest.approx(entropy, abs=1e-6)

    @pytest.mark.parametrize("passages", [2, 7])
    def test_its_ends(self, passages):
        assert relative_entropy(torch.full((passages,), 1 / passages)) == pytest.approx(1, abs=1e-6)
        assert relative_entropy(torch.eye(passages)[0]) == 0
        assert relative_entropy(torch.ones(1)) == 0
