"""DyPRAG's parameter translator: a hypernetwork from a passage's hidden state to its LoRA (arXiv 2503.23895).

Shapes: P passages, E hidden size of the base model, H hidden units, D inputs, O outputs, R rank.

Confirmed by the official code (github.com/Trae1ounG/DyPRAG): a passage stands as the base model's last hidden state at
its last token. Each of the two matrices of each target layer has a network of its own without biases, which sees that
state and the index of the layer's block as one more number:

    A = W₂ relu(W₁ [state ; index])        W₁ [H, E + 1], W₂ [R·D, H], seen as [R, D]; B likewise, seen as [O, R]

All weights start at N(0, 1e-7), H is 32, and a passage is cut after 3000 tokens. Inferred: the passage's text carries
its title, as in prompts; and other target layers than the three of the feed-forward block get networks likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import block_of

LONGEST_PASSAGE = 3000

Adapters = dict[str, tuple[Tensor, Tensor]]
"""A [P, R, D] and B [P, O, R] of each layer, by the layer's name in the base model."""


@final
class ParameterTranslator(nn.Module):
    """From hidden states of passages to their adapters.

    Args:
        shapes: inputs D and outputs O of each target layer, by its name in the base model.
        size: hidden size of the base model, E.
        rank: rank of the adapters, R.
        hidden: hidden units of each network, H.
        init: standard deviation of the first weights.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], size: int, rank: int, hidden: int, init: float = 1e-7
    ) -> None:
        super().__init__()
        self.shapes = dict(sorted(shapes.items()))  # a file that gives them in another order means the same networks
        sides = [(block_of(name), inputs, outputs) for name, (inputs, outputs) in self.shapes.items()]
        self.to_A = nn.ModuleList(_MatrixNetwork(size, hidden, (rank, inputs), block) for block, inputs, _ in sides)
        self.to_B = nn.ModuleList(_MatrixNetwork(size, hidden, (outputs, rank), block) for block, _, outputs in sides)
        for weight in self.parameters():
            nn.init.normal_(weight, std=init)

    def forward(self, states_PE: Tensor) -> Adapters:
        """The adapters of passages; a passage's adapter does not depend on the others.

        Args:
            states_PE: as `last_states` gives them.
        """
        parts = zip(self.shapes, self.to_A, self.to_B, strict=True)
        return {name: (to_A(states_PE), to_B(states_PE)) for name, to_A, to_B in parts}


@final
class _MatrixNetwork(nn.Module):
    """The network of one matrix of one layer.

    Args:
        size: of a state, E.
        hidden: units, H.
        shape: of the matrix.
        index: of the layer's block.
    """

    def __init__(self, size: int, hidden: int, shape: tuple[int, int], index: int) -> None:
        super().__init__()
        self.shape, self.index = shape, index
        self.first = nn.Parameter(torch.empty(hidden, size + 1))
        self.second = nn.Parameter(torch.empty(shape[0] * shape[1], hidden))

    def forward(self, states_PE: Tensor) -> Tensor:
        """The matrix for each passage, [P, *shape]."""
        seen_PE = F.pad(states_PE, (0, 1), value=float(self.index))
        flat = F.linear(F.relu(F.linear(seen_PE, self.first)), self.second)
        return flat.view(len(states_PE), *self.shape)


@torch.no_grad()
def last_states(base: BaseModel, texts: Sequence[str]) -> Tensor:
    """What stands for passages: the base model's last hidden state at their last token, [P, E] in float32.

    Args:
        base: the base model, without adapters or gates in force.
        texts: the passages as prompts show them; one batch.
    """
    tokenizer = base.tokenizer
    rows = [tokenizer.encode(text)[:LONGEST_PASSAGE] or [tokenizer.pad_token_id] for text in texts]
    width = max(map(len, rows))
    pad, device = tokenizer.pad_token_id, base.device
    tokens_PT = torch.tensor([ids + [pad] * (width - len(ids)) for ids in rows], device=device)
    mask_PT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in rows], device=device)
    hidden_PTE = base.model.get_decoder()(
        input_ids=tokens_PT, attention_mask=mask_PT, use_cache=False
    ).last_hidden_state
    last_P = torch.tensor([len(ids) - 1 for ids in rows], device=device)
    states_PE: Tensor = hidden_PTE[torch.arange(len(rows), device=device), last_P]
    return states_PE.float()
