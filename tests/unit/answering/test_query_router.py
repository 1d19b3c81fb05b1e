"""Shapes: B questions, T tokens, D size of a state, S sampled tokens, N passages, G routed groups, K experts."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from polyprag.answering.query_router import INITIAL_SCALE, KeyStatistics, QueryRouter, measure_keys
from polyprag.answering.question_encoder import BATCH, BaseEncoder, QuestionEncoder, TokenStates
from polyprag.config import Normalisation, RouterDesign, RoutingConfig

PEOPLE = {"Mira Tolk": "Arlen", "Jon Veld": "Brask", "Ilse Quarn": "Corvo", "Abel Dorn": "Drissa", "Runa Hale": "Ettin"}
TEXTS_N = [
    [
        f"{name}\n{name} was born in {town}. {name} founded the school of {town} and became its first teacher.",
        f"The school of {town} is the work of {name}.",
        *(f"{word} was {name} {end}?" for word in ("Where", "When") for end in ("born", "a teacher", "the founder")),
    ][: 8 - number % 2]
    for number, (name, town) in enumerate(PEOPLE.items())
]
QUESTIONS = [
    *("Who?", "From which town did Mira Tolk come?", "Which school is the work of Jon Veld, and when was he born?"),
    *("What did Ilse Quarn found?", "Abel Dorn?", "In which year, and in which town, was Runa Hale born?"),
]
GROUPS, EXPERTS = 2, 3
GATES_NGK = (3 * torch.randn(5, GROUPS, EXPERTS, generator=torch.Generator().manual_seed(0))).softmax(-1)
DESIGNS = list(RouterDesign)


@pytest.fixture(params=[0, 1])
def encoder(request, tiny_base) -> BaseEncoder:
    """Token embeddings, and states of the first block."""
    return BaseEncoder(tiny_base, request.param)


@pytest.fixture
def embeddings(tiny_base) -> BaseEncoder:
    return BaseEncoder(tiny_base, 0)


def router_for(encoder: QuestionEncoder, design: RouterDesign = RouterDesign.ATTENTION, **routing) -> QueryRouter:
    """A router with what was measured on the corpus."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = QueryRouter(
            design,
            passages=len(TEXTS_N),
            groups=GROUPS,
            experts=EXPERTS,
            size=encoder.size,
            vocabulary=encoder.vocabulary,
            hidden=16,
            routing=RoutingConfig(**routing),
        )
    router.start_from(measure_keys(encoder, TEXTS_N))
    return router


def disturbed(router: QueryRouter) -> QueryRouter:
    """The router as if it had been trained a little."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return router


def tokens_of(encoder: QuestionEncoder, text: str) -> tuple[list[int], np.ndarray]:
    """Ids and float64 states of one text, encoded alone."""
    found = encoder.encode([text])
    return found.ids_BT[0].tolist(), found.states_BTD[0].double().numpy()


def reference(encoder: QuestionEncoder, texts_N: list[list[str]]) -> dict[str, np.ndarray]:
    """Whitening, inverse document frequencies and keys in float64, token by token."""
    tokens_N = [[tokens_of(encoder, text) for text in own] for own in texts_N]
    states_SD = np.concatenate([states for own in tokens_N for _, states in own])
    mean_D = states_SD.mean(0)
    covariance_DD = sum(np.outer(state - mean_D, state - mean_D) for state in states_SD) / len(states_SD)
    covariance_DD += 1e-3 * np.trace(covariance_DD) / len(mean_D) * np.eye(len(mean_D))
    values_D, vectors_DD = np.linalg.eigh(covariance_DD)
    whitening_DD = vectors_DD @ np.diag(values_D**-0.5) @ vectors_DD.T
    counts_N = [Counter(id for ids, _ in own for id in ids) for own in tokens_N]
    idf = {}
    for id in range(encoder.vocabulary):
        documents = sum(id in counts for counts in counts_N)
        idf[id] = math.log(1 + (len(texts_N) - documents + 0.5) / (documents + 0.5))
    mean_length = sum(counts.total() for counts in counts_N) / len(texts_N)
    keys = []
    for own, counts in zip(tokens_N, counts_N, strict=True):
        key_D = np.zeros(len(mean_D))
        for ids, states_TD in own:
            for id, state_D in zip(ids, states_TD, strict=True):
                white_D = (state_D - mean_D) @ whitening_DD
                share = (1.2 + 1) / (counts[id] + 1.2 * (1 - 0.75 + 0.75 * counts.total() / mean_length))
                key_D += idf[id] * share * white_D / np.linalg.norm(white_D)
        keys.append(key_D / np.linalg.norm(key_D))
    return {"mean": mean_D, "whitening": whitening_DD, "weights": np.array(list(idf.values())), "keys": np.stack(keys)}


def assert_close(ours: Tensor, expected: np.ndarray | Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours.double(), torch.as_tensor(expected).double(), rtol=tolerance, atol=tolerance)


class TestKeys:
    def test_they_are_what_bm25_would_weigh_written_out(self, encoder):
        assert sum(map(len, TEXTS_N)) > BATCH
        assert len(set(map(len, TEXTS_N))) > 1
        measured, expected = measure_keys(encoder, TEXTS_N), reference(encoder, TEXTS_N)
        assert_close(measured.mean_D, expected["mean"])
        assert_close(measured.whitening_DD, expected["whitening"], 1e-4)
        assert_close(measured.weights_V, expected["weights"], 1e-6)
        assert_close(measured.keys_ND, expected["keys"], 1e-4)

    def test_they_have_length_one(self, encoder):
        assert_close(measure_keys(encoder, TEXTS_N).keys_ND.norm(dim=-1), torch.ones(5))

    def test_whitened_states_have_unit_covariance_where_there_is_variance(self, embeddings):
        measured = measure_keys(embeddings, TEXTS_N)
        states_SD = np.concatenate([tokens_of(embeddings, text)[1] for own in TEXTS_N for text in own])
        white_SD = (states_SD - measured.mean_D.double().numpy()) @ measured.whitening_DD.double().numpy()
        values_D = np.linalg.eigvalsh(np.cov(white_SD.T, bias=True))
        assert values_D.max() < 1 + 1e-4
        assert np.median(values_D) > 0.9

    def test_the_order_of_passages_permutes_them_and_the_logits(self, encoder):
        order = [3, 0, 4, 2, 1]
        straight, mixed = measure_keys(encoder, TEXTS_N), measure_keys(encoder, [TEXTS_N[at] for at in order])
        assert_close(mixed.keys_ND, straight.keys_ND[order], 1e-4)
        router, other = router_for(encoder), router_for(encoder)
        other.start_from(mixed)
        states = encoder.encode(QUESTIONS)
        logits_BN = router.logits(router.represent(states), GATES_NGK)
        assert_close(other.logits(other.represent(states), GATES_NGK), logits_BN[:, order], 1e-3)

    def test_the_order_of_a_passages_texts_does_not_matter(self, encoder):
        straight, mixed = measure_keys(encoder, TEXTS_N), measure_keys(encoder, [own[::-1] for own in TEXTS_N])
        assert_close(mixed.keys_ND, straight.keys_ND, 1e-4)

    def test_one_passage_and_states_without_variance_do_no_harm(self, embeddings):
        measured = measure_keys(embeddings, [["Who?"]])
        for name in (field.name for field in dataclasses.fields(KeyStatistics)):
            assert getattr(measured, name).isfinite().all(), name
        assert measured.keys_ND.shape == (1, embeddings.size)


class TestRepresentation:
    @pytest.mark.parametrize("design", DESIGNS)
    def test_it_has_length_one(self, encoder, design):
        router = disturbed(router_for(encoder, design))
        assert_close(router.represent(encoder.encode(QUESTIONS)).norm(dim=-1), torch.ones(len(QUESTIONS)))

    def test_it_is_the_weighted_mean_direction_of_whitened_tokens(self, encoder):
        router = disturbed(router_for(encoder))
        questions_BD = router.represent(encoder.encode(QUESTIONS))
        for question, ours_D in zip(QUESTIONS, questions_BD, strict=True):
            ids, states_TD = tokens_of(encoder, question)
            white_TD = (states_TD - router.mean_D.double().numpy()) @ router.whitening_DD.double().numpy()
            weights_T = np.exp(router.log_weights_V.detach().double().numpy()[ids])
            expected_D = (weights_T / np.linalg.norm(white_TD, axis=1)) @ white_TD
            assert_close(ours_D, expected_D / np.linalg.norm(expected_D), 1e-4)

    def test_neither_padding_nor_batch_size_nor_row_order_changes_it(self, encoder):
        router = disturbed(router_for(encoder))
        together = router.represent(encoder.encode(QUESTIONS))
        alone = torch.cat([router.represent(encoder.encode([question])) for question in QUESTIONS])
        assert_close(together, alone)
        assert_close(router.represent(encoder.encode(QUESTIONS[::-1])), together.flip(0))

    def test_what_stands_where_there_is_no_token_is_not_read(self, embeddings):
        router = disturbed(router_for(embeddings))
        states = embeddings.encode(QUESTIONS)
        other = TokenStates(
            torch.where(states.mask_BT, states.ids_BT, 7),
            torch.where(states.mask_BT[:, :, None], states.states_BTD, 1e3),
            states.mask_BT,
        )
        assert torch.equal(router.represent(other), router.represent(states))

    def test_dropped_tokens_are_as_good_as_absent(self, embeddings):
        router = disturbed(router_for(embeddings))
        states = embeddings.encode(QUESTIONS)
        torch.manual_seed(3)
        dropped = router.represent(states, dropout=0.4)
        torch.manual_seed(3)
        kept_BT = torch.rand(states.mask_BT.shape) >= 0.4
        assert 0 < int((~kept_BT & states.mask_BT).sum()) < int(states.mask_BT.sum())
        absent = dataclasses.replace(states, mask_BT=states.mask_BT & kept_BT)
        assert_close(dropped, router.represent(absent))

    def test_a_question_that_loses_all_tokens_breaks_nothing(self, embeddings):
        router = router_for(embeddings)
        states = embeddings.encode(QUESTIONS)
        nothing = dataclasses.replace(states, mask_BT=torch.zeros_like(states.mask_BT))
        questions_BD = router.represent(nothing)
        assert not questions_BD.any()
        router.distillation_loss(questions_BD, torch.zeros(len(QUESTIONS), dtype=torch.long), GATES_NGK, 0.1).backward()
        assert all(parameter.grad.isfinite().all() for parameter in router.parameters())


class TestLogits:
    def test_before_training_they_are_scaled_cosines_with_the_keys(self, encoder):
        router = router_for(encoder)
        questions_BD = router.represent(encoder.encode(QUESTIONS))
        q_BD, k_ND = questions_BD.detach().double(), router.keys.keys_ND.double()
        cosine_BN = F.cosine_similarity(q_BD[:, None], k_ND[None], dim=-1)
        assert_close(router.logits(questions_BD, GATES_NGK), INITIAL_SCALE * cosine_BN, 1e-4)

    def test_words_of_a_passage_point_to_it(self, embeddings):
        router = router_for(embeddings)
        questions = [f"What do you know of {name} of {town}?" for name, town in PEOPLE.items()]
        logits_BN = router.logits(router.represent(embeddings.encode(questions)), GATES_NGK)
        assert logits_BN.argmax(-1).tolist() == list(range(5))

    def test_a_projection_is_added_to_the_question(self, embeddings):
        router = disturbed(router_for(embeddings))
        questions_BD = router.represent(embeddings.encode(QUESTIONS))
        q_BD, p_DD = questions_BD.detach().double(), router.projection_DD.detach().double()
        expected_BN = math.exp(router.log_scale.detach()) * (q_BD + q_BD @ p_DD) @ router.keys.keys_ND.double().T
        assert_close(router.logits(questions_BD, GATES_NGK), expected_BN, 1e-4)

    def test_of_an_mlp_they_are_scaled_cosines_between_its_gates_and_the_rows(self, embeddings):
        router = router_for(embeddings, RouterDesign.MLP)
        questions_BD = router.represent(embeddings.encode(QUESTIONS))
        own_BX = router.mlp_gates(questions_BD).detach().double().flatten(1)
        expected_BN = F.cosine_similarity(own_BX[:, None], GATES_NGK.double().flatten(1)[None], dim=-1)
        assert_close(router.logits(questions_BD, GATES_NGK), INITIAL_SCALE * expected_BN, 1e-4)


class TestGates:
    def test_of_one_passage_they_are_its_row(self, encoder):
        router = disturbed(router_for(encoder))
        questions_BD = router.represent(encoder.encode(QUESTIONS))
        first_B = router.logits(questions_BD, GATES_NGK).argmax(-1)
        assert torch.equal(router.gates(questions_BD, GATES_NGK, 1), GATES_NGK[first_B])

    @pytest.mark.parametrize("passages", [2, 3, 5, 8])
    def test_of_several_they_are_the_attended_rows_weighted(self, embeddings, passages):
        router = disturbed(router_for(embeddings))
        questions_BD = router.represent(embeddings.encode(QUESTIONS))
        logits_BN = router.logits(questions_BD, GATES_NGK).detach().double().numpy()
        gates_BGK = router.gates(questions_BD, GATES_NGK, passages)
        for logits_N, ours_GK in zip(logits_BN, gates_BGK, strict=True):
            best = np.argsort(-logits_N)[:passages]
            weights_P = np.exp(logits_N[best] - logits_N.max())
            rows_PGK = GATES_NGK.double().numpy()[best]
            assert_close(ours_GK, np.einsum("p,pgk->gk", weights_P / weights_P.sum(), rows_PGK))

    @pytest.mark.parametrize("normalisation", list(Normalisation))
    @pytest.mark.parametrize("top_k", [0, 1, 2])
    def test_of_an_mlp_they_are_normalised_and_few(self, embeddings, normalisation, top_k):
        router = disturbed(router_for(embeddings, RouterDesign.MLP, normalisation=normalisation, top_k=top_k))
        questions_BD = router.represent(embeddings.encode(QUESTIONS))
        gates_BGK = router.gates(questions_BD, GATES_NGK, 3)
        assert gates_BGK.shape == (len(QUESTIONS), GROUPS, EXPERTS)
        assert (gates_BGK >= 0).all()
        assert_close(gates_BGK.sum(-1), torch.ones(len(QUESTIONS), GROUPS))
        assert ((gates_BGK > 0).sum(-1) == (top_k or EXPERTS)).all()
        logits_BGK = router.mlp(questions_BD).view_as(gates_BGK).double()
        soft = normalisation is Normalisation.SOFTMAX
        weights_BGK = logits_BGK.exp() if soft else 1 / (1 + (-logits_BGK).exp())
        weights_BGK = weights_BGK * (weights_BGK >= weights_BGK.topk(top_k or EXPERTS).values[..., -1:])
        assert_close(gates_BGK, weights_BGK / weights_BGK.sum(-1, keepdim=True))


class TestLearning:
    tasks_B = torch.tensor([0, 0, 1, 2, 3, 4])

    @pytest.mark.parametrize("identity", [0.0, 0.5])
    def test_the_loss_of_attention_is_the_cross_entropy_of_the_own_passage(self, embeddings, identity):
        router = disturbed(router_for(embeddings))
        questions_BD = router.represent(embeddings.encode(QUESTIONS))
        logits_BN = router.logits(questions_BD, GATES_NGK).detach().double().numpy()
        own_B = logits_BN[np.arange(len(QUESTIONS)), self.tasks_B.numpy()]
        expected = (np.log(np.exp(logits_BN).sum(1)) - own_B).mean()
        expected += identity * np.square(router.projection_DD.detach().double().numpy()).sum()
        assert_close(router.distillation_loss(questions_BD, self.tasks_B, GATES_NGK, identity), np.float64(expected))

    def test_the_loss_of_an_mlp_is_the_cross_entropy_of_the_own_gates(self, embeddings):
        router = disturbed(router_for(embeddings, RouterDesign.MLP))
        questions_BD = router.represent(embeddings.encode(QUESTIONS))
        found_BGK = router.mlp_gates(questions_BD).detach().double().numpy()
        own_BGK = GATES_NGK[self.tasks_B].double().numpy()
        expected = -(own_BGK * np.log(found_BGK + 1e-6)).sum(-1).mean()
        assert_close(router.distillation_loss(questions_BD, self.tasks_B, GATES_NGK, 0.5), np.float64(expected))

    @pytest.mark.parametrize("design", DESIGNS)
    @pytest.mark.parametrize("through", ["distillation", "gates"])
    def test_gradients_reach_what_learns_and_neither_keys_nor_rows(self, embeddings, design, through):
        router = disturbed(router_for(embeddings, design))
        states = embeddings.encode(QUESTIONS)
        questions_BD = router.represent(states)
        if through == "distillation":
            router.distillation_loss(questions_BD, self.tasks_B, GATES_NGK, 0.1).backward()
        else:
            router.gates(questions_BD, GATES_NGK, 3)[:, 0, 0].square().sum().backward()
        reached = {name for name, parameter in router.named_parameters() if parameter.grad is not None}
        own = {"projection_DD", "log_scale"} if design is RouterDesign.ATTENTION else set()
        assert reached == {"log_weights_V", *own} | {name for name, _ in router.named_parameters() if "mlp" in name}
        assert all(parameter.grad.any() for parameter in router.parameters() if parameter.grad is not None)
        assert not any(buffer.requires_grad for buffer in router.buffers())
        assert GATES_NGK.grad is None
        asked = torch.zeros(embeddings.vocabulary, dtype=torch.bool)
        asked[states.ids_BT[states.mask_BT]] = True
        assert not router.log_weights_V.grad[~asked].any()

    @pytest.mark.parametrize("design", DESIGNS)
    def test_a_few_steps_lower_the_loss(self, encoder, design):
        router = router_for(encoder, design)
        optimizer = torch.optim.Adam(router.parameters(), lr=0.01)
        states, losses = encoder.encode(QUESTIONS), []
        for _ in range(12):
            optimizer.zero_grad()
            loss = router.distillation_loss(router.represent(states), self.tasks_B, GATES_NGK, 0.1)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.9 * losses[0]
