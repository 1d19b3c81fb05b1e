"""What skipping inactive experts saves, as ratios within one run: the dense products against what a layer really does.

Run as: python benchmarks/sparse_experts.py [--rounds N]

Times the pooled layers of one block of SmolLM2-135M (hidden size 576, feed-forward size 1536) in NF4 with random
experts, in processor time of one thread. Each row has gates on a quarter of the experts (top-k), or on all of them.
Gates are put in force once and met by a prefill and by one-token passes; `answer` is the whole of it: gates put in
force, a prefill of 54 tokens, 8 tokens decoded. Every ratio is dense / sparse: `experts` of what the layers take beyond
their 4-bit base, `layer` of all they take. Forms alternate in rounds, medians are compared.

Shapes: B rows, T positions, D inputs, O outputs, G routed groups, K experts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bitsandbytes as bnb
import torch
from torch import Tensor

from polyprag.config import Composition
from polyprag.experts.base_model import keep_differentiable
from polyprag.experts.gate_context import GateContext
from polyprag.experts.layer import PooledLinear

PROMPT, DECODED = 54, 8
BLOCK = ((576, 1536), (576, 1536), (1536, 576))
"""Inputs and outputs of gate_proj, up_proj and down_proj."""
POOLS = ((16, 4), (8, 8))
ROWS = (1, 16)


@dataclass(frozen=True)
class Case:
    """One setting: experts, rows of a batch, gates, number type of the stored experts."""

    composition: Composition
    count: int
    rank: int
    rows: int
    active: int
    stored: torch.dtype

    def __str__(self) -> str:
        stored = str(self.stored).removeprefix("torch.")
        return (
            f"{self.composition:6} K={self.count:<2} R={self.rank} rows={self.rows:<2} "
            f"active={self.active:<2} stored={stored:8}"
        )


def main(rounds: int) -> None:
    """Time all cases and print their ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'dense / sparse':58}  prefill         decode          answer")
    print(f"{'':58}" + "  experts  layer" * 3)
    for composition in Composition:
        for stored in (torch.bfloat16, torch.float32):
            for count, rank in POOLS:
                for rows in ROWS:
                    for active in (count // 4, count):
                        case = Case(composition, count, rank, rows, active, stored)
                        print(f"{case!s:58}" + "".join(f"  {a:7.2f}  {b:5.2f}" for a, b in ratios(case, rounds)))


@torch.no_grad()
def ratios(case: Case, rounds: int) -> list[tuple[float, float]]:
    """Dense over sparse of prefill, decode and answer, for the experts and for the layers."""
    seconds = medians(case, rounds)
    found = []
    for part in ("prefill", "decode", "answer"):
        dense, sparse, base = (seconds[form, part] for form in ("dense", "sparse", "base"))
        found.append(((dense - base) / (sparse - base), dense / sparse))
    return found


def medians(case: Case, rounds: int) -> dict[tuple[str, str], float]:
    """Median seconds of base layers, layers with all experts, and layers as they are, by part of an answer."""
    context = GateContext()
    layers = [build(case, group, context) for group in range(len(BLOCK))]
    gates_BGK = random_gates(case)
    prompts, tokens = (
        [torch.randn(case.rows, length, layer.A.shape[1], dtype=torch.bfloat16) for layer in layers]
        for length in (PROMPT, 1)
    )
    forms: dict[str, Callable[[PooledLinear, Tensor], Tensor]] = {
        "base": lambda layer, x_BTD: layer.base(x_BTD),
        "dense": lambda layer, x_BTD: layer.base(x_BTD) + layer.update_by_expert(x_BTD, gates_BGK[:, layer.group]),
        "sparse": lambda layer, x_BTD: layer(x_BTD),
    }

    def block(form: Callable[[PooledLinear, Tensor], Tensor], inputs: list[Tensor]) -> None:
        for layer, x_BTD in zip(layers, inputs, strict=True):
            form(layer, x_BTD)

    def answer(form: Callable[[PooledLinear, Tensor], Tensor]) -> None:
        """Read the prompts, then decode some tokens, all under new gates."""
        context.activate(gates_BGK)
        block(form, prompts)
        for _ in range(DECODED):
            block(form, tokens)

    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, form in forms.items():  # what the layers prepare for an answer is there for the parts after it
            seconds.setdefault((name, "answer"), []).append(timed(answer, form))
            seconds.setdefault((name, "prefill"), []).append(timed(block, form, prompts))
            seconds.setdefault((name, "decode"), []).append(timed(block, form, tokens))
    return {name: statistics.median(times) for name, times in seconds.items()}


def timed(call: Callable[..., object], *arguments: object) -> float:
    """Processor seconds of one call in this thread, the only one; other programs do not count."""
    started = time.thread_time()
    call(*arguments)
    return time.thread_time() - started


def build(case: Case, group: int, context: GateContext) -> PooledLinear:
    """A pooled 4-bit layer whose experts are random."""
    inputs, outputs = BLOCK[group]
    base = bnb.nn.Linear4bit(inputs, outputs, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    base = base.requires_grad_(False).to("cpu").eval()
    keep_differentiable(base)
    layer = PooledLinear(base, group, case.count, case.rank, 2.0, case.composition, context)
    layer.A.data = layer.A.data.to(case.stored)
    layer.B.data = torch.randn_like(layer.B).to(case.stored)
    return layer


def random_gates(case: Case) -> Tensor:
    """Gates [B, G, K] on so many experts of each row and group."""
    shape = (case.rows, len(BLOCK), case.count)
    chosen_BGK = torch.rand(shape).topk(case.active).indices
    return torch.zeros(shape).scatter(-1, chosen_BGK, 1 / case.active)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds whose median is taken")
    main(parser.parse_args(sys.argv[1:]).rounds)
