"""The pool against a written-out float64 einsum, against PEFT's LoRA and against PEFT's Poly.

Shapes: B rows, T positions, D inputs, O outputs, K experts, R rank, G routed groups, N tasks.
"""

import pytest
import torch
from peft import LoraConfig, PolyConfig, get_peft_model
from torch import Tensor, nn

from polyprag.config import Composition, ExpertsConfig, Granularity, Normalisation, RoutingConfig
from polyprag.experts.base_model import load_base
from polyprag.experts.pool import ExpertPool, GateContext, PooledLinear
from polyprag.experts.routing import TaskRouter, gates_from_logits

# PEFT 0.21 still asks for the old name of a property of transformers 5
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TARGETS = ["gate_proj", "up_proj", "down_proj"]
TOKENS_BT = torch.arange(5, 5 + 3 * 7).reshape(3, 7)


def pooled_layer(composition: Composition, experts: int, rank: int, dtype: torch.dtype) -> PooledLinear:
    torch.manual_seed(experts * 10 + rank)
    layer = PooledLinear(nn.Linear(12, 9), 0, experts, rank, 1.7, composition, GateContext())
    nn.init.normal_(layer.B)
    return layer.to(dtype)


def explicit_output(layer: PooledLinear, x_BTD: Tensor, w_BK: Tensor) -> Tensor:
    """The formulas of the module's docstring: a whole weight update for each row."""
    A_KRD = layer.A.double().reshape(layer.count, layer.rank, -1)
    B_OKR = layer.B.double().reshape(-1, layer.count, layer.rank)
    w_BK, x_BTD = w_BK.double(), x_BTD.double()
    if layer.composition is Composition.SUM:
        update_BOD = torch.einsum("bk,okr,krd->bod", w_BK, B_OKR, A_KRD)
    else:
        mixed_B_BOR = torch.einsum("bk,okr->bor", w_BK, B_OKR)
        mixed_A_BRD = torch.einsum("bk,krd->brd", w_BK, A_KRD)
        update_BOD = torch.einsum("bor,brd->bod", mixed_B_BOR, mixed_A_BRD)
    weight_BOD = layer.base.weight.double() + layer.scale * update_BOD
    return torch.einsum("bod,btd->bto", weight_BOD, x_BTD) + layer.base.bias.double()


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize(("experts", "rank"), [(1, 1), (1, 4), (3, 1), (5, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_outputs_and_gradients_equal_an_explicit_weight_update(composition, experts, rank, dtype, tolerance):
    layer = pooled_layer(composition, experts, rank, dtype)
    x_BTD = torch.randn(4, 6, 12, dtype=dtype, requires_grad=True)
    w_BK = torch.rand(4, experts, dtype=dtype, requires_grad=True)
    toward_BTO = torch.randn(4, 6, 9, dtype=torch.float64)
    layer.context.activate(w_BK[:, None])
    inputs = (layer.A, layer.B, x_BTD, w_BK)

    results = []
    for y_BTO in (layer(x_BTD).double(), explicit_output(layer, x_BTD, w_BK)):
        results.append((y_BTO, *torch.autograd.grad((y_BTO * toward_BTO).sum(), inputs)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def test_one_expert_with_gate_one_is_the_lora_of_peft(tiny_base, tiny_config):
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, init_lora_weights=False, task_type="CAUSAL_LM")
    theirs = get_peft_model(load_base(tiny_config).model, lora).eval()
    pool = ExpertPool(tiny_base.model, ExpertsConfig(count=1, rank=4, scale=6 / 4, targets=TARGETS), Granularity.SHARED)
    for name, layer in pool.layers.items():
        original = theirs.base_model.model.get_submodule(name)
        layer.A.data = original.lora_A["default"].weight.detach().clone()
        layer.B.data = original.lora_B["default"].weight.detach().clone()
    with torch.no_grad():
        without = tiny_base.model(TOKENS_BT).logits
        with pool.gated(torch.ones(3, 1, 1)):
            ours = tiny_base.model(TOKENS_BT).logits
        expected = theirs(TOKENS_BT).logits
    assert (ours - without).abs().max() > 0.1
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_factor_composition_is_the_poly_of_peft(tiny_base, tiny_config):
    experts, rank, tasks = 4, 2, 5
    torch.manual_seed(0)
    poly = PolyConfig(
        r=rank, n_skills=experts, n_tasks=tasks, target_modules=TARGETS, init_weights=False, task_type="CAUSAL_LM"
    )
    theirs = get_peft_model(load_base(tiny_config).model, poly).eval()
    config = ExpertsConfig(experts, rank, 1 / rank, Composition.FACTOR, TARGETS)
    pool = ExpertPool(tiny_base.model, config, Granularity.MODULE)
    router = TaskRouter(tasks, pool.groups, experts, RoutingConfig()).eval()
    for group, (name, layer) in enumerate(pool.layers.items()):
        original = theirs.base_model.model.get_submodule(name)
        nn.init.normal_(original.poly_router["default"].module_logits, std=2)
        router.rows.weight.data.view(tasks, pool.groups, experts)[:, group] = original.poly_router[
            "default"
        ].module_logits.detach()
        nn.init.normal_(original.poly_lora_B["default"])
        layer.A.data = original.poly_lora_A["default"].detach()[0].transpose(1, 2).reshape(experts * rank, -1)
        layer.B.data = original.poly_lora_B["default"].detach()[0].permute(2, 0, 1).reshape(-1, experts * rank)
    tasks_B = torch.tensor([3, 0, 3])
    with torch.no_grad():
        without = tiny_base.model(TOKENS_BT).logits
        with pool.gated(router(tasks_B)):
            ours = tiny_base.model(TOKENS_BT).logits
        expected = theirs(input_ids=TOKENS_BT, task_ids=tasks_B).logits
    assert (ours - without).abs().max() > 0.1
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)  # our ε in the gates is 1e-6, theirs 1e-12


def test_gates_are_the_normalised_sigmoid_of_poly():
    poly = PolyConfig(r=2, n_skills=6, n_tasks=3, target_modules=["0"])
    model = get_peft_model(nn.Sequential(nn.Linear(4, 4)), poly).eval()
    router = model.base_model.model[0].poly_router["default"]
    nn.init.normal_(router.module_logits)
    expected_BGK = router(task_ids=torch.tensor([2, 0]), input_ids=None)
    ours_BGK = gates_from_logits(router.module_logits[[2, 0]][:, None], Normalisation.SIGMOID)
    torch.testing.assert_close(ours_BGK, expected_BGK, rtol=1e-5, atol=1e-6)
