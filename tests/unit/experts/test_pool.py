"""Shapes: B rows, T positions, G routed groups, K experts."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from polyprag.config import Composition, ExpertsConfig, Granularity
from polyprag.errors import ConfigError, StoreError
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.experts.pool import ExpertPool, GateContext

EXPERTS = 4
PROMPTS = [[7, 40, 41, 90, 12], [60, 61], [33, 200, 150, 9]]


def build(base: BaseModel, granularity: Granularity = Granularity.MODULE, **changes) -> ExpertPool:
    """A pool whose experts do something."""
    torch.manual_seed(0)
    pool = ExpertPool(base.model, ExpertsConfig(**{"count": EXPERTS, "rank": 2, **changes}), granularity)
    for layer in pool.layers.values():
        nn.init.normal_(layer.B, std=0.3)
    return pool


def random_gates(rows: int, groups: int) -> Tensor:
    weights_BGK = torch.rand(rows, groups, EXPERTS, generator=torch.Generator().manual_seed(1)).square()
    return weights_BGK / weights_BGK.sum(-1, keepdim=True)


def padded(prompts: Sequence[Sequence[int]], left: bool) -> tuple[Tensor, Tensor]:
    """Tokens and mask, [B, T] each."""
    width = max(map(len, prompts))

    def row(ids: Sequence[int], fill: int) -> list[int]:
        padding = [fill] * (width - len(ids))
        return [*padding, *ids] if left else [*ids, *padding]

    tokens_BT = torch.tensor([row(ids, 0) for ids in prompts])
    return tokens_BT, torch.tensor([row([1] * len(ids), 0) for ids in prompts])


@torch.no_grad()
def logits(base: BaseModel, tokens_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    return base.model(tokens_BT, attention_mask=mask_BT).logits


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize("base_fixture", ["tiny_base", "tiny_nf4_base"])
def test_zero_initialised_experts_leave_the_logits_bit_equal(request, base_fixture, composition):
    base = request.getfixturevalue(base_fixture)
    tokens_BT = torch.tensor([PROMPTS[0], PROMPTS[0][::-1]])
    before = logits(base, tokens_BT)
    pool = ExpertPool(base.model, ExpertsConfig(EXPERTS, 2, composition=composition), Granularity.MODULE)
    with pool.gated(random_gates(2, pool.groups)):
        assert torch.equal(logits(base, tokens_BT), before)


def test_experts_matter_inside_the_block_only_even_when_it_fails(tiny_base):
    tokens_BT = torch.tensor(PROMPTS[:1])
    before = logits(tiny_base, tokens_BT)
    pool = build(tiny_base)
    assert torch.equal(logits(tiny_base, tokens_BT), before)
    with pool.gated(random_gates(1, pool.groups)):
        assert (logits(tiny_base, tokens_BT) - before).abs().max() > 0.1
        with pytest.raises(IndexError), pool.gated(random_gates(1, pool.groups)):
            logits(tiny_base, torch.tensor([[10_000]]))
    assert torch.equal(logits(tiny_base, tokens_BT), before)


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize("granularity", Granularity)
def test_a_mixed_batch_equals_its_rows_one_by_one(tiny_base, composition, granularity):
    pool = build(tiny_base, granularity, composition=composition)
    tokens_BT = torch.tensor([PROMPTS[0]] * 3)  # the same tokens: only gates tell the rows apart
    gates_BGK = random_gates(3, pool.groups)
    with pool.gated(gates_BGK):
        together = logits(tiny_base, tokens_BT)
    assert (together[0] - together[1]).abs().max() > 0.1
    for row in range(3):
        with pool.gated(gates_BGK[row : row + 1]):
            alone = logits(tiny_base, tokens_BT[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)


def test_left_and_right_padding_agree_at_real_positions(tiny_base):
    pool = build(tiny_base)
    with pool.gated(random_gates(3, pool.groups)):
        left = logits(tiny_base, *padded(PROMPTS, left=True))
        right = logits(tiny_base, *padded(PROMPTS, left=False))
    width = left.shape[1]
    for row, prompt in enumerate(PROMPTS):
        at_left, at_right = left[row, width - len(prompt) :], right[row, : len(prompt)]
        torch.testing.assert_close(at_left, at_right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("returned", [1, 2])
def test_beams_and_returned_sequences_keep_each_rows_gates(tiny_base, returned):
    pool = build(tiny_base)
    gates_BGK = random_gates(3, pool.groups)
    settings = {
        "num_beams": 2, "num_return_sequences": returned, "max_new_tokens": 5, "do_sample": False, "eos_token_id": 376
    }  # fmt: skip
    tokens_BT = torch.tensor([PROMPTS[0]] * 3)
    with pool.gated(gates_BGK):
        together = tiny_base.model.generate(tokens_BT, attention_mask=torch.ones_like(tokens_BT), **settings)
    assert len(together) == 3 * returned
    assert not torch.equal(together[0], together[returned])
    for row in range(3):
        one = tokens_BT[row : row + 1]
        with pool.gated(gates_BGK[row : row + 1]):
            alone = tiny_base.model.generate(one, attention_mask=torch.ones_like(one), **settings)
        assert torch.equal(together[row * returned : (row + 1) * returned], alone)


def test_sampled_sequences_keep_each_rows_gates(tiny_base):
    """Gates so strong that sampling nearly always takes the largest logit: each row's samples agree with greedy."""
    pool = build(tiny_base)
    gates_BGK = random_gates(2, pool.groups)
    tokens_BT = torch.tensor([PROMPTS[0]] * 2)
    settings = {"attention_mask": torch.ones_like(tokens_BT), "max_new_tokens": 4, "eos_token_id": 376}
    with pool.gated(gates_BGK):
        greedy = tiny_base.model.generate(tokens_BT, do_sample=False, **settings)
        sampled = tiny_base.model.generate(
            tokens_BT, do_sample=True, temperature=1e-4, num_return_sequences=2, **settings
        )
    assert not torch.equal(greedy[0], greedy[1])
    assert torch.equal(sampled, greedy.repeat_interleave(2, dim=0))


def test_gates_repeat_row_by_row_and_refuse_other_batches():
    context = GateContext()
    assert context.of(0, 3) is None
    gates_BGK = random_gates(2, 3)
    context.activate(gates_BGK)
    assert torch.equal(context.of(1, 2), gates_BGK[:, 1])
    assert torch.equal(context.of(1, 6), gates_BGK[[0, 0, 0, 1, 1, 1], 1])
    with pytest.raises(ValueError, match="a batch of 3 rows met gates for 2 rows"):
        context.of(0, 3)


# the name that all of transformers 5 knows
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_gradient_checkpointing_recomputes_under_the_same_gates(tiny_base):
    pool = build(tiny_base)
    gates_BGK = random_gates(2, pool.groups).requires_grad_()
    tokens_BT = torch.tensor([PROMPTS[0], PROMPTS[0][::-1]])
    calls = []
    first = next(iter(pool.layers.values()))
    first.register_forward_hook(lambda *_: calls.append(1))

    def gradients() -> list[Tensor]:
        pool.context.activate(gates_BGK)
        loss = tiny_base.model(tokens_BT).logits.log_softmax(-1)[..., 5].sum()
        found = torch.autograd.grad(loss, [gates_BGK, *pool.parameters()])
        pool.context.deactivate()
        return list(found)

    without = gradients()
    assert len(calls) == 1
    tiny_base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    tiny_base.model.train()
    recomputed = gradients()
    assert len(calls) == 3  # forward, and again in the backward pass
    for ours, expected in zip(recomputed, without, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


def test_granularity_decides_which_layers_share_gates(tiny_base):
    pool = build(tiny_base, Granularity.SHARED, first_layer=1)
    assert pool.group_names == ["all"]
    assert {layer.group for layer in pool.layers.values()} == {0}


def test_block_granularity_makes_a_group_of_each_block(tiny_base):
    pool = build(tiny_base, Granularity.BLOCK)
    assert pool.group_names == ["block.0", "block.1", "block.2"]
    assert pool.groups == 3
    for name, layer in pool.layers.items():
        assert f"layers.{layer.group}." in name


def test_module_granularity_makes_a_group_of_each_layer(tiny_base):
    pool = build(tiny_base, Granularity.MODULE, targets=["q_proj", "down_proj"])
    blocks = range(3)
    expected = [f"model.layers.{i}.{name}" for i in blocks for name in ("self_attn.q_proj", "mlp.down_proj")]
    assert pool.group_names == list(pool.layers) == expected
    assert [layer.group for layer in pool.layers.values()] == list(range(6))


def test_experts_can_begin_at_a_later_block(tiny_base):
    pool = build(tiny_base, first_layer=2)
    assert list(pool.layers) == [f"model.layers.2.mlp.{name}_proj" for name in ("gate", "up", "down")]


def test_only_experts_can_be_trained(tiny_base):
    pool = build(tiny_base)
    trainable = {id(parameter) for parameter in tiny_base.model.parameters() if parameter.requires_grad}
    assert trainable == {id(parameter) for parameter in pool.parameters()}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets": ["gate_proj", "wi"]}, r"experts\.targets.*'wi'.*the model has .*gate_proj.*v_proj"),
        ({"first_layer": 3}, r"experts\.targets.*from block 3 on"),
    ],
)
def test_targets_that_the_model_lacks_are_refused(tiny_base, changes, said):
    with pytest.raises(ConfigError, match=said):
        build(tiny_base, **changes)
    assert type(tiny_base.model.model.layers[0].mlp.gate_proj) is nn.Linear


def test_stored_weights_come_back_with_their_number_type(tiny_base):
    pool = build(tiny_base)
    stored = {name: (tensor + 1).to(torch.bfloat16) for name, tensor in pool.state().items()}
    pool.load(stored)
    assert pool.state().keys() == stored.keys()
    for name, tensor in pool.state().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, stored[name])


def test_a_shared_expert_comes_back_with_the_pool(tiny_base, tiny_config):
    pool = build(tiny_base, shared=3)
    for layer in pool.layers.values():
        nn.init.normal_(layer.shared_B, std=0.3)
    first = next(iter(pool.layers))
    assert pool.state()[f"{first}.shared_A"].shape == (3, 32)
    assert pool.state()[f"{first}.shared_B"].shape == (64, 3)
    other_base = load_base(tiny_config)
    other = build(other_base, shared=3)
    other.load(pool.state())
    tokens_BT, gates_BGK = torch.tensor(PROMPTS[:1]), random_gates(1, pool.groups)
    with pool.gated(gates_BGK), other.gated(gates_BGK):
        assert torch.equal(logits(tiny_base, tokens_BT), logits(other_base, tokens_BT))
    assert len(pool.parameters()) == 4 * len(pool.layers)


@pytest.mark.parametrize(("own", "stored"), [(0, 3), (3, 0), (3, 2)])
def test_pools_with_another_shared_expert_are_refused(tiny_base, tiny_config, own, stored):
    state = build(load_base(tiny_config), shared=stored).state()
    with pytest.raises(StoreError, match=r"shared_[AB]"):
        build(tiny_base, shared=own).load(state)


def test_a_new_shared_expert_changes_nothing_and_zero_gates_leave_it_speaking(tiny_base):
    pool = build(tiny_base, shared=2)
    tokens_BT = torch.tensor(PROMPTS[:1])
    zeros_BGK = torch.zeros(1, pool.groups, EXPERTS)
    before = logits(tiny_base, tokens_BT)
    with pool.gated(zeros_BGK):
        assert torch.equal(logits(tiny_base, tokens_BT), before)
        for layer in pool.layers.values():
            nn.init.normal_(layer.shared_B, std=0.3)
    with pool.gated(zeros_BGK):
        assert (logits(tiny_base, tokens_BT) - before).abs().max() > 0.1
    assert torch.equal(logits(tiny_base, tokens_BT), before)


def test_experts_orthogonal_to_the_shared_one_cost_nothing(tiny_base):
    pool = build(tiny_base, shared=2)
    for layer in pool.layers.values():
        basis_DD = torch.linalg.qr(torch.randn(layer.A.shape[1], layer.A.shape[1])).Q
        layer.shared_A.data = 3 * basis_DD[:2]
        layer.A.data = basis_DD[2 : 2 + len(layer.A)].clone()
    assert float(pool.orthogonality().detach()) == pytest.approx(0, abs=1e-8)
    first = next(iter(pool.layers.values()))
    first.A.data[0] = -5 * first.shared_A.data[1]  # parallel to one row: a squared cosine of 1
    assert float(pool.orthogonality().detach()) == pytest.approx(1 / len(pool.layers), rel=1e-4)


def test_orthogonality_is_the_sum_of_squared_cosines_and_moves_the_experts_only(tiny_base):
    pool = build(tiny_base, shared=3)
    penalty = pool.orthogonality()
    expected = 0.0
    for layer in pool.layers.values():
        shared_SD, A_SD = layer.shared_A.detach().double(), layer.A.detach().double()
        expected += sum(float(torch.cosine_similarity(s, a, dim=0)) ** 2 for s in shared_SD for a in A_SD)
    assert float(penalty.detach()) == pytest.approx(expected / len(pool.layers), rel=1e-5)
    penalty.backward()
    for layer in pool.layers.values():
        assert layer.A.grad.abs().max() > 0
        assert layer.shared_A.grad is None
        assert layer.B.grad is None


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize("base_fixture", ["tiny_base", "tiny_nf4_base"])
def test_generation_with_few_experts_equals_the_differentiable_pass(request, base_fixture, composition):
    base = request.getfixturevalue(base_fixture)
    pool = build(base, composition=composition, shared=1)
    tokens_BT = torch.tensor([PROMPTS[0], PROMPTS[0][::-1]])
    gates_BGK = random_gates(2, pool.groups)
    gates_BGK[..., :3] = 0.0
    with pool.gated(gates_BGK):
        sparse = [logits(base, tokens_BT) for _ in range(2)]
        dense = base.model(tokens_BT).logits.detach()
    assert torch.equal(*sparse)
    torch.testing.assert_close(sparse[0], dense, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_stored_weights_that_do_not_fit_change_nothing(tiny_base, fault):
    pool = build(tiny_base)
    before = {name: tensor.clone() for name, tensor in pool.state().items()}
    stored = {name: tensor + 1 for name, tensor in before.items()}
    last = list(stored)[-1]
    if fault == "missing":
        del stored[last]
    elif fault == "unknown":
        stored["model.layers.9.mlp.up_proj.A"] = torch.zeros(1)
    else:
        stored[last] = stored[last][:, 1:]
    name = "model.layers.9.mlp.up_proj.A" if fault == "unknown" else last
    with pytest.raises(StoreError, match=name.replace(".", r"\.")):
        pool.load(stored)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pool.state().items())


def test_layers_of_the_same_inputs_know_each_other(tiny_base):
    targets = ["gate_proj", "up_proj", "down_proj", "q_proj", "v_proj"]
    pool = ExpertPool(tiny_base.model, ExpertsConfig(count=2, rank=2, targets=targets), Granularity.MODULE)
    names = {layer: name for name, layer in pool.layers.items()}
    for name, layer in pool.layers.items():
        parent, _, child = name.rpartition(".")
        together = next((group for group in (("gate_proj", "up_proj"), ("q_proj", "v_proj")) if child in group), ())
        assert [names[other] for other in layer.sharing_inputs] == [f"{parent}.{other}" for other in together]


@pytest.mark.parametrize("top_k", [0, 1])
def test_the_model_says_the_same_whether_layers_share_their_first_product(tiny_base, top_k):
    pool = ExpertPool(tiny_base.model, ExpertsConfig(count=4, rank=2), Granularity.MODULE)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in pool.layers.values():
            layer.B.normal_()
        gates_BGK = torch.rand(3, pool.groups, 4)
        gates_BGK = gates_BGK * (gates_BGK >= gates_BGK.topk(top_k or 4).values[..., -1:])
        tokens_BT = torch.randint(3, 100, (3, 5))
        with pool.gated(gates_BGK):
            together = tiny_base.model(tokens_BT).logits
        for layer in pool.layers.values():
            layer.sharing_inputs = ()
        with pool.gated(gates_BGK):
            torch.testing.assert_close(tiny_base.model(tokens_BT).logits, together, rtol=1e-4, atol=1e-4)
