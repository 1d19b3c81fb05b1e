"""Several one-to-one adapters trained at once: each is an expert of the pool's own layer, under one-hot gates.

Shapes: B rows, L labels, K adapters, R rank, D inputs, O outputs, V vocabulary.

A row of adapter k has gate 1 for expert k and 0 for the others: it meets that adapter alone, and its loss reaches no
other. The loss of a step is the sum of the adapters' own mean losses, and AdamW works number by number, so every
adapter takes the very steps that it would take alone. Only rounding differs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from polyprag.config import Composition
from polyprag.errors import AdapterError
from polyprag.experts.gate_context import GateContext
from polyprag.experts.layer import PooledLinear
from polyprag.knowledge.tasks import Pack
from polyprag.training.batches import Batch, collate
from polyprag.training.module import label_logits

Steps = Sequence[Sequence[Pack]]
"""The packs of each optimiser step of one adapter."""


class AdapterBatch:
    """K adapters side by side, in pooled layers around what PEFT's layers wrap.

    Args:
        layers: PEFT's layers, by name.
        adapter: the adapter in them whose rank and scale all take over.
        count: adapters, K.
    """

    def __init__(self, layers: Mapping[str, LoraLayer], adapter: str, count: int) -> None:
        self.count = count
        self.context = GateContext()
        self.layers = {
            name: PooledLinear(
                layer.get_base_layer(),
                group=0,
                count=count,
                rank=layer.r[adapter],
                scale=layer.scaling[adapter],
                composition=Composition.SUM,
                context=self.context,
            )
            for name, layer in layers.items()
        }

    def parameters(self) -> list[nn.Parameter]:
        """The weights of all adapters, layer by layer."""
        return [weight for layer in self.layers.values() for weight in (layer.A, layer.B)]

    @torch.no_grad()
    def start_from(self, start: Mapping[str, Tensor]) -> None:
        """Put the same weights into every adapter.

        Args:
            start: lora_A [R, D] and lora_B [O, R] of each layer, by PEFT's names.
        """
        for name, layer in self.layers.items():
            layer.A.copy_(start[f"{name}.lora_A.weight"].repeat(self.count, 1))
            layer.B.copy_(start[f"{name}.lora_B.weight"].repeat(1, self.count))

    def adapter(self, index: int) -> dict[str, Tensor]:
        """A copy of one adapter's weights as they are now, by PEFT's names."""
        weights = {}
        for name, layer in self.layers.items():
            own = slice(index * layer.rank, (index + 1) * layer.rank)
            weights[f"{name}.lora_A.weight"] = layer.A.detach()[own].clone()
            weights[f"{name}.lora_B.weight"] = layer.B.detach()[:, own].clone()
        return weights

    def losses(self, model: Any, batch: Batch) -> Tensor:
        """Each adapter's mean loss over its own labels, [K]; 0 for one without rows. Its gates stay in force.

        Args:
            model: the causal LM that the layers are in.
            batch: rows whose task is the index of their adapter.
        """
        self.context.activate(F.one_hot(batch.tasks_B, self.count).float()[:, None])
        losses_L = F.cross_entropy(label_logits(model, batch), batch.targets_L, reduction="none")
        owners_L = batch.tasks_B[batch.rows_L]
        labels_K = torch.bincount(owners_L, minlength=self.count)
        return losses_L.new_zeros(self.count).index_add(0, owners_L, losses_L / labels_K[owners_L])


def train_together(
    model: Any, adapter: str, start: Mapping[str, Tensor], steps: Mapping[str, Steps], learning_rate: float, pad: int
) -> dict[str, dict[str, Tensor]]:
    """Train several adapters from one start; the model is afterwards as it was.

    Args:
        model: a model that PEFT wraps, not changed by merged weights.
        adapter: the adapter in it whose shape all have.
        start: its weights by PEFT's names, from which all start.
        steps: the packs of each step, by what errors call the adapter's subject; the counts of steps may differ.
        learning_rate: of AdamW, as for one adapter.
        pad: token id for padding.

    Returns:
        The weights of each adapter after its own last step, by subject and PEFT's names.

    Raises:
        AdapterError: the loss of an adapter is not finite.
    """
    finished: dict[str, dict[str, Tensor]] = {}
    with in_place_of_one(model, adapter, len(steps)) as batch_of:
        batch_of.start_from(start)
        optimizer = torch.optim.AdamW(batch_of.parameters(), lr=learning_rate)
        for number, packs_K in enumerate(zip_longest(*steps.values(), fillvalue=()), start=1):
            rows = [dataclasses.replace(pack, task=index) for index, packs in enumerate(packs_K) for pack in packs]
            losses_K = batch_of.losses(model, collate(rows, pad).to(model.device))
            for name, loss in zip(steps, losses_K.tolist(), strict=True):
                check_loss(loss, number, f"the adapter of {name}")
            losses_K.sum().backward()  # type: ignore[no-untyped-call]
            batch_of.context.deactivate()
            optimizer.step()
            optimizer.zero_grad()
            for index, (name, own) in enumerate(steps.items()):
                if len(own) == number:  # momentum goes on moving it, so it is taken at once
                    finished[name] = batch_of.adapter(index)
    return finished


def check_loss(loss: float, step: int, which: str) -> None:
    """Refuse to go on from a loss that is not finite.

    Raises:
        AdapterError: it is not.
    """
    if not math.isfinite(loss):
        raise AdapterError(f"the loss of {which} is {loss} at step {step}; lower prag.learning_rate")


@contextmanager
def in_place_of_one(model: nn.Module, adapter: str, count: int) -> Iterator[AdapterBatch]:
    """Pooled layers where PEFT's are, inside the block, so that one base model in memory serves both.

    Args:
        model: a model that PEFT wraps.
        adapter: the adapter in it whose rank and scale all have.
        count: adapters, K.
    """
    lora = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    adapters = AdapterBatch(lora, adapter, count)
    try:
        _put(model, adapters.layers)
        yield adapters
    finally:
        _put(model, lora)


def _put(model: nn.Module, modules: Mapping[str, Any]) -> None:
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)
