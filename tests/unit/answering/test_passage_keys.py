"""Shapes: B questions, N passages, M passages that a question meets, D size of a key."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from polyprag.answering import passage_keys
from polyprag.answering.passage_keys import AllKeys, CodedKeys, Met, code_distances, sign_codes
from polyprag.experts.routing import BLOCK

PASSAGES, SIZE = 20_000, 100


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def keys_ND() -> Tensor:
    return F.normalize(random(PASSAGES, SIZE), dim=-1).bfloat16()


@pytest.fixture(scope="module")
def queries_BD(keys_ND) -> Tensor:
    """Questions, each near to the key of a passage."""
    near_BD = keys_ND[::500].float() + 0.15 * random(40, SIZE, seed=1)
    return 30 * F.normalize(near_BD, dim=-1)


def products(queries_BD: Tensor, keys_ND: Tensor) -> Tensor:
    return queries_BD.double() @ keys_ND.double().T


class TestAllKeys:
    @pytest.mark.parametrize("passages", [1, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
    def test_every_product_is_there_once(self, keys_ND, queries_BD, passages):
        keys = AllKeys(keys_ND[:passages])
        expected_BN = products(queries_BD, keys_ND[:passages])
        torch.testing.assert_close(keys.logits(queries_BD).double(), expected_BN, rtol=1e-5, atol=1e-5)
        for met, expected_N in zip(keys.meet(queries_BD), expected_BN, strict=True):
            assert met.positions_M.tolist() == list(range(passages))
            torch.testing.assert_close(met.logits_M.double(), expected_N, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(met.attention_M.double(), expected_N.softmax(-1), rtol=1e-4, atol=1e-6)

    def test_gradients_reach_the_question(self):
        queries_BD = random(2, SIZE).requires_grad_()
        AllKeys(random(30, SIZE, seed=1)).logits(queries_BD).sum().backward()
        assert queries_BD.grad.any()

    def test_keys_are_no_weights(self):
        keys = AllKeys(random(3, 2))
        assert not list(keys.parameters())
        assert not keys.state_dict()


class TestCodes:
    @pytest.mark.parametrize("size", [1, 63, 64, 65, 100])
    def test_a_distance_is_the_product_with_the_rounded_question(self, size):
        keys_ND, query_D = random(50, size), random(size, seed=1)
        rounded_D = query_D.sign() * torch.where(query_D.abs() > query_D.square().mean().sqrt(), 3, 1)
        signs_ND = torch.where(keys_ND > 0, 1.0, -1.0)
        expected_N = (rounded_D.abs().sum() - signs_ND @ rounded_D) / 2
        distances_N = code_distances(query_D, sign_codes(keys_ND).numpy().view(np.uint64))
        assert distances_N.tolist() == expected_N.round().int().tolist()

    def test_parts_make_the_same_whole(self, keys_ND, queries_BD, monkeypatch):
        codes_WN = sign_codes(keys_ND).numpy().view(np.uint64)
        whole_N = code_distances(queries_BD[0], codes_WN)
        monkeypatch.setattr(passage_keys, "_SCANNED_AT_ONCE", 999)
        assert np.array_equal(code_distances(queries_BD[0], codes_WN), whole_N)

    def test_what_is_met_is_weighed_exactly_and_hardly_anything_is_missed(self, keys_ND, queries_BD):
        keys = CodedKeys(keys_ND, sign_codes(keys_ND), share=0.1)
        expected_BN = products(queries_BD, keys_ND)
        found = 0
        for met, expected_N in zip(keys.meet(queries_BD), expected_BN, strict=True):
            assert keys.wanted <= len(met.positions_M) < 2 * keys.wanted
            assert len(met.positions_M) + met.others == PASSAGES
            exact_M = expected_N[met.positions_M]
            torch.testing.assert_close(met.logits_M.double(), exact_M, rtol=1e-4, atol=1e-4)
            found += len({*expected_N.topk(10).indices.tolist()} & {*met.positions_M.tolist()})
        assert found / (10 * len(queries_BD)) > 0.95

    def test_shares_are_about_what_all_keys_give(self, keys_ND, queries_BD):
        keys = CodedKeys(keys_ND, sign_codes(keys_ND), share=0.05)
        for coded, whole in zip(keys.meet(queries_BD / 3), AllKeys(keys_ND).meet(queries_BD / 3), strict=True):
            first = int(whole.attention_M.argmax())
            (place,) = (coded.positions_M == first).nonzero()
            assert float(coded.attention_M[place]) == pytest.approx(float(whole.attention_M[first]), rel=0.1)
            assert coded.relative_entropy() == pytest.approx(whole.relative_entropy(), abs=0.05)

    @pytest.mark.parametrize(("passages", "share"), [(900, 0.01), (3000, 1.0)])
    def test_few_passages_and_all_of_them_are_met_by_every_question(self, keys_ND, queries_BD, passages, share):
        few_ND = keys_ND[:passages]
        coded = CodedKeys(few_ND, sign_codes(few_ND), share)
        for ours, theirs in zip(coded.meet(queries_BD), AllKeys(few_ND).meet(queries_BD), strict=True):
            assert torch.equal(ours.positions_M, theirs.positions_M)
            assert torch.equal(ours.logits_M, theirs.logits_M)
        assert torch.equal(coded.logits(queries_BD), AllKeys(few_ND).logits(queries_BD))

    def test_one_question_is_as_in_a_batch(self, keys_ND, queries_BD):
        keys = CodedKeys(keys_ND, sign_codes(keys_ND))
        for alone, together in zip((keys.meet(one[None])[0] for one in queries_BD), keys.meet(queries_BD), strict=True):
            assert torch.equal(alone.positions_M, together.positions_M)
            assert torch.equal(alone.logits_M, together.logits_M)


class TestMet:
    def test_entropy_of_even_shares_is_one(self):
        assert Met(torch.arange(8), torch.zeros(8)).relative_entropy() == pytest.approx(1.0)
        assert Met(torch.arange(2), torch.zeros(2), 6, math.log(6)).relative_entropy() == pytest.approx(1.0)

    def test_entropy_of_one_passage_is_zero(self):
        assert Met(torch.arange(1), torch.zeros(1)).relative_entropy() == 0.0
        assert Met(torch.arange(3), torch.tensor([0.0, 200.0, 0.0])).relative_entropy() == pytest.approx(0.0, abs=1e-6)

    def test_others_take_their_share(self):
        met = Met(torch.arange(2), torch.zeros(2), others=5, others_weight=math.log(2))
        assert met.attention_M.tolist() == pytest.approx([0.25, 0.25])
