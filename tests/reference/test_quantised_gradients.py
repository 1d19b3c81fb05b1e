"""Gradients through the 4-bit base against those through a plain copy of its dequantised weights.

Shapes: B rows, T positions, D width, K experts.
"""

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, has_avx512bf16
from torch import Tensor, nn

from polyprag.answering.generation import Generator
from polyprag.config import BaseConfig, Composition, Dtype, ExpertsConfig, Granularity, Loss, Quantisation, TasksConfig
from polyprag.experts.base_model import keep_differentiable, load_base
from polyprag.experts.pool import ExpertPool, GateContext, PooledLinear
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import build_tasks
from polyprag.training.batches import collate
from polyprag.training.module import label_loss

EXPERTS, RANK = 3, 2
TOLERANCES = [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)]


def four_bit(inputs: int, outputs: int, dtype: torch.dtype) -> bnb.nn.Linear4bit:
    layer = bnb.nn.Linear4bit(
        inputs, outputs, bias=False, compute_dtype=dtype, quant_type="nf4", compress_statistics=False
    )
    return layer.to("cpu")  # quantises


def plain_copy(layer: bnb.nn.Linear4bit, dtype: torch.dtype) -> nn.Linear:
    copy = nn.Linear(layer.in_features, layer.out_features, bias=False)
    copy.weight = nn.Parameter(dequantised(layer).to(dtype), requires_grad=False)
    return copy


def dequantised(layer: bnb.nn.Linear4bit) -> Tensor:
    return dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def two_networks(dtype: torch.dtype) -> tuple[nn.Sequential, nn.Sequential, GateContext]:
    """A 4-bit network of two pooled layers and its dequantised copy, with equal experts under the same gates."""
    torch.manual_seed(0)
    context = GateContext()

    def pooled(base: nn.Linear) -> PooledLinear:
        return PooledLinear(base, 0, EXPERTS, RANK, 2.0, Composition.SUM, context)

    layers = [four_bit(64, 128, dtype), four_bit(128, 64, dtype)]
    quantised = nn.Sequential(pooled(layers[0]), nn.SiLU(), pooled(layers[1]))
    plain = nn.Sequential(pooled(plain_copy(layers[0], dtype)), nn.SiLU(), pooled(plain_copy(layers[1], dtype)))
    for index in (0, 2):
        nn.init.normal_(quantised[index].B, std=0.1)
        plain[index].A.data = quantised[index].A.data.clone()
        plain[index].B.data = quantised[index].B.data.clone()
    keep_differentiable(quantised)
    return quantised, plain, context


def gradients(network: nn.Sequential, x_BTD: Tensor, w_BK: Tensor) -> list[Tensor]:
    """Of the input, the gates and the experts."""
    inputs = [x_BTD.clone().requires_grad_(), w_BK.clone().requires_grad_()]
    network[0].context.activate(inputs[1][:, None])
    experts = [parameter for layer in (network[0], network[2]) for parameter in (layer.A, layer.B)]
    loss = network(inputs[0]).float().square().mean()
    return list(torch.autograd.grad(loss, [*inputs, *experts]))


def relative_error(ours: Tensor, expected: Tensor) -> float:
    expected = expected.double()
    assert expected.norm() > 0
    return float((ours.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize(("rows", "positions"), [(4, 7), (4, 1), (1, 7), (1, 1)])
def test_gradients_of_input_gates_and_experts(dtype, tolerance, rows, positions):
    quantised, plain, _ = two_networks(dtype)
    x_BTD = torch.randn(rows, positions, 64).to(dtype)
    w_BK = torch.rand(rows, EXPERTS)
    for ours, expected in zip(gradients(quantised, x_BTD, w_BK), gradients(plain, x_BTD, w_BK), strict=True):
        assert relative_error(ours, expected) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_gradients_stay_right_after_inference_between_training_steps(dtype, tolerance):
    quantised, plain, _ = two_networks(dtype)
    x_BTD = torch.randn(2, 5, 64).to(dtype)
    w_BK = torch.rand(2, EXPERTS)
    with torch.no_grad():
        quantised.eval()(x_BTD)
    quantised.train()
    for ours, expected in zip(gradients(quantised, x_BTD, w_BK), gradients(plain, x_BTD, w_BK), strict=True):
        assert relative_error(ours, expected) < tolerance


@pytest.mark.skipif(not has_avx512bf16(), reason="needs a CPU with AVX512-BF16")
@pytest.mark.parametrize("kept", [False, True])
def test_inference_repacks_weights_unless_told_not_to(kept):
    layer = four_bit(64, 128, torch.bfloat16).eval()
    if kept:
        keep_differentiable(layer)
    with torch.no_grad():
        layer(torch.randn(2, 64, dtype=torch.bfloat16))
    assert bool(getattr(layer.weight.quant_state, "packing_format_for_cpu", False)) is not kept


@pytest.mark.parametrize(("dtype", "tolerance"), [(Dtype.FLOAT32, 1e-4), (Dtype.BFLOAT16, 5e-2)])
def test_expert_gradients_of_a_whole_model_before_and_after_generation(
    tiny_model_folder, tiny_knowledge, dtype, tolerance
):
    quantised, plain = (load_base(BaseConfig(str(tiny_model_folder), how, dtype)) for how in Quantisation)
    for name, module in quantised.model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            plain.model.get_submodule(name).weight.data = dequantised(module).to(plain.model.dtype)
    writer = PromptWriter(quantised.tokenizer)
    batch = collate(build_tasks(tiny_knowledge, TasksConfig(loss=Loss.ANSWERS), writer)[:3], 0)
    gates_BGK = torch.rand(3, 9, EXPERTS)

    def expert_gradients(base, pool):
        pool.context.activate(gates_BGK)
        return torch.autograd.grad(label_loss(base.model, batch), pool.parameters())

    pools = []
    for base in (quantised, plain):
        torch.manual_seed(1)
        pools.append(ExpertPool(base.model, ExpertsConfig(EXPERTS, RANK), Granularity.MODULE))
        for parameter in pools[-1].parameters():
            nn.init.normal_(parameter, std=0.1)
    expected = expert_gradients(plain, pools[1])
    before = expert_gradients(quantised, pools[0])
    Generator(quantised, 4, pools[0]).answer([[7, 8, 9], [7]], gates_BGK[:2])
    after = expert_gradients(quantised, pools[0])
    for at_first, later, right in zip(before, after, expected, strict=True):
        assert relative_error(at_first, right) < tolerance
        assert torch.equal(at_first, later)
