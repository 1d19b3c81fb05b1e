"""What processes that train together tell each other in a step; a process that is alone keeps all to itself.

Shapes: R rows with a gradient, D numbers of a row, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def together() -> int:
    """How many processes exchange; 1 for a process that is alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def from_all(value: T) -> list[T]:
    """A picklable value of each process, in the order of their ranks; all processes must call this."""
    values: list[Any] = [value] * together()
    if together() > 1:
        dist.all_gather_object(values, value)
    return values


def largest(values: Sequence[float], device: torch.device) -> list[float]:
    """The largest of each value over the processes."""
    if together() == 1:
        return list(values)
    told = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return list(told.tolist())


def average_gradient(gradient_ND: Tensor) -> Tensor:
    """The mean of a parameter's gradients over the processes, each of which may hold other rows of it.

    Sparse gradients are put together from the rows that processes hold, by plain gathers of equal shapes: NCCL has no
    sparse reduction, and the cost does not depend on N. All processes get the same rows in the same order, and so the
    same sums to the last bit.

    Args:
        gradient_ND: dense, or sparse over its first dimension.
    """
    world = together()
    if world == 1:
        return gradient_ND
    if not gradient_ND.is_sparse:
        dist.all_reduce(gradient_ND)
        return gradient_ND / world
    own = gradient_ND.coalesce()
    rows_R, values_RD = own.indices()[0], own.values()
    counts = _gathered(torch.tensor([len(rows_R)], device=rows_R.device))
    lengths = [int(count) for count in torch.cat(counts).tolist()]
    longest = max(lengths)
    all_rows = _gathered(_lengthened(rows_R, longest))
    all_values = _gathered(_lengthened(values_RD, longest))
    rows = torch.cat([rows_R[:length] for rows_R, length in zip(all_rows, lengths, strict=True)])
    values = torch.cat([values_RD[:length] for values_RD, length in zip(all_values, lengths, strict=True)])
    return torch.sparse_coo_tensor(rows[None], values / world, gradient_ND.shape, check_invariants=False).coalesce()


@dataclass
class StepMeans:
    """Means over the batches of an optimiser step, those of all processes included.

    So curves do not depend on how a step's batches are spread over processes and accumulation.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    batches: float = 0.0

    def add(self, values: Mapping[str, Tensor], counts: bool) -> None:
        """Take in a batch.

        Args:
            values: scalars by name, the same names in each batch.
            counts: whether the batch counts; one that only fills up a step does not.
        """
        for name, value in values.items():
            added = value.detach().float() if counts else torch.zeros_like(value, dtype=torch.float32)
            self.sums[name] = self.sums[name] + added if name in self.sums else added
        self.batches += counts

    def take(self) -> dict[str, Tensor]:
        """The means, at the end of a step; the next step begins anew. All processes must call this."""
        sums = torch.stack([*self.sums.values(), torch.full_like(next(iter(self.sums.values())), self.batches)])
        if together() > 1:
            dist.all_reduce(sums)
        means = dict(zip(self.sums, sums[:-1] / sums[-1], strict=True))
        self.sums, self.batches = {}, 0.0
        return means


def _gathered(own: Tensor) -> list[Tensor]:
    """A tensor of the same shape from each process, in the order of their ranks."""
    all_of_them = [torch.empty_like(own) for _ in range(together())]
    dist.all_gather(all_of_them, own.contiguous())
    return all_of_them


def _lengthened(tensor: Tensor, length: int) -> Tensor:
    """Zeros behind a tensor, up to a length of its first dimension."""
    missing = tensor.new_zeros(length - len(tensor), *tensor.shape[1:])
    return torch.cat([tensor, missing])
