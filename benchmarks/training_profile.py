"""Where the time of a training step goes, and what this machine could do at best.

Run as: python benchmarks/training_profile.py [--batches N] [--threads N] [key=value …]

The pool of the suite (K = 16, R = 4, all feed-forward layers) takes steps on the demo world under PyTorch's profiler;
operators are added up by kind, in processor time of their own. Beside it stand the rate of matrix products in the
shapes of such a step and of copying memory, the fastest of many tries, and the share of that rate which a whole step
reaches with the products that it cannot do without: forward and input gradient of the frozen base model, forward, input
and weight gradient of the pool, and the head at labelled positions. With one thread only its own processor time counts,
so that other programs disturb little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.loops import PoolLoop, pool_config, tokens_in
from polyprag.cli import guarded
from polyprag.knowledge.loading import load_knowledge
from polyprag.markdown import markdown_table
from polyprag.training.batches import Batch

TRIES = 40
COPIED = 2**29
KINDS = {
    "loss": ("log_softmax", "nll_loss"),
    "attention": ("bmm", "softmax", "scaled_dot_product"),
    "unpacking of 4-bit weights": ("dequantize_4bit",),
    "copies and casts": ("copy_", "fill_", "zero_", "aten::cat"),
    "element by element": ("mul", "add", "div", "silu", "pow", "rsqrt", "mean", "sum", "neg", "sqrt", "lerp", "norm"),
}
"""Kinds of operators by parts of their names; the first that fits counts, matrix products before all."""


def main(argv: Sequence[str]) -> None:
    """Profile some steps and print two tables."""
    arguments = _parsed(argv)
    torch.set_num_threads(arguments.threads)
    config = pool_config(*arguments.overrides)
    loop = PoolLoop(config, load_knowledge(config.data))
    batches = loop.batches(arguments.batches)
    for batch in batches:
        loop.step(batch)
    rows = [[kind, f"{share:.1%}"] for kind, share in shares(loop, batches).items()]
    print(markdown_table(("kind", "share of a step"), rows))
    print()
    print(markdown_table(("rate", "this machine"), [[name, value] for name, value in limits(loop, batches)]))


def shares(loop: PoolLoop, batches: Sequence[Batch]) -> dict[str, float]:
    """The share of each kind of operator in the time of some steps, largest first."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        for batch in batches:
            loop.step(batch)
    experts = loop.config.experts
    taken: dict[str, float] = {}
    for event in profiled.key_averages(group_by_input_shape=True):
        kind = _kind(event, experts.count * experts.rank, experts.rank)
        taken[kind] = taken.get(kind, 0.0) + event.self_cpu_time_total
    whole = sum(taken.values())
    return {kind: taken[kind] / whole for kind in sorted(taken, key=lambda kind: -taken[kind])}


def _kind(event: Any, width: int, rank: int) -> str:
    """What an operator belongs to; products of the pool have a side of all experts, or of one row's mixture."""
    sides = {side for shape in event.input_shapes for side in shape[-2:]}
    if event.key == "aten::bmm" and rank in sides:
        return "matrix products of the pool"
    if event.key in ("aten::mm", "aten::addmm"):
        return "matrix products of the pool" if width in sides else "matrix products of the base model and the head"
    found = (kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
    return next(found, "everything else: Python, autograd, bitsandbytes, views")


def limits(loop: PoolLoop, batches: Sequence[Batch]) -> list[tuple[str, str]]:
    """Rates of the machine, and what a step makes of them."""
    rates = {dtype: products(dtype) for dtype in (torch.bfloat16, torch.float32)}
    copied = torch.ones(COPIED // 4), torch.zeros(COPIED // 4)
    seconds = fastest(lambda: copied[1].copy_(copied[0]))
    step = min(_seconds(loop.step, batches) for _ in range(3))
    base = min(_seconds(loop.step_of_base, batches) for _ in range(3))
    done = sum(needed(loop, batch) for batch in batches) / step
    return [
        *(
            (f"{str(dtype).removeprefix('torch.')} products, GFLOP/s", f"{rate / 1e9:.0f}")
            for dtype, rate in rates.items()
        ),
        ("memory, read and written, GB/s", f"{2 * COPIED / seconds / 1e9:.0f}"),
        ("training, tokens/s", f"{tokens_in(batches) / step:.0f}"),
        ("forward and backward of the base model alone, tokens/s", f"{tokens_in(batches) / base:.0f}"),
        ("products needed in a step, GFLOP/s", f"{done / 1e9:.0f}"),
        (f"share of {loop.config.base.dtype.value} products", f"{done / rates[loop.base.model.dtype]:.2f}"),
    ]


def needed(loop: PoolLoop, batch: Batch) -> float:
    """Floating-point operations of a batch's matrix products, attention left out; padding is not needed."""
    base = sum(
        layer.in_features * layer.out_features
        for name, layer in loop.base.model.named_modules()
        if isinstance(layer, torch.nn.Linear) and "head" not in name
    )
    pool = sum(weight.numel() for weight in loop.module.experts)
    head = loop.base.model.get_output_embeddings().weight.numel()
    return 2 * (batch.real_tokens * (2 * base + 3 * pool) + 2 * len(batch.targets_L) * head)


def products(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a feed-forward layer of the base model on 512 tokens."""
    x_ND, w_OD = torch.randn(512, 576).to(dtype), torch.randn(1536, 576).to(dtype)
    return 2 * 512 * 576 * 1536 / fastest(lambda: F.linear(x_ND, w_OD))


def fastest(call: Callable[[], object]) -> float:
    """Seconds of the fastest of many calls."""
    return min(_seconds(lambda _: call(), [None]) for _ in range(TRIES))


def _seconds(call: Callable[[Any], object], given: Sequence[Any]) -> float:
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    for one in given:
        call(one)
    return clock() - started


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("training_profile.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=6, help="batches of a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of a product")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys, as for train.py")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(guarded(main))
