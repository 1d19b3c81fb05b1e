"""Token states of questions and passages, from the frozen base model or from a sentence encoder.

Shapes: B texts, T tokens, D size of a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, final

import torch
from torch import Tensor

from polyprag.config import RouterConfig
from polyprag.errors import ConfigError, ModelError
from polyprag.experts.base_model import BaseModel

T = TypeVar("T")

LONGEST_TEXT = 512
BATCH = 32


@dataclass(frozen=True)
class TokenStates:
    """The tokens of some texts and what stands for each.

    Attributes:
        ids_BT: token ids, padded on the right.
        states_BTD: a vector for each token, float32; without meaning where padded.
        mask_BT: true where there is a token.
    """

    ids_BT: Tensor
    states_BTD: Tensor
    mask_BT: Tensor


class QuestionEncoder(Protocol):
    """Turns texts into token states; frozen."""

    @property
    def size(self) -> int:
        """Size of a state, D."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""

    def encode(self, texts: Sequence[str]) -> TokenStates:
        """The token states of one batch of texts."""


class _Reached(Exception):  # noqa: N818 - no mistake: it ends a forward pass where nothing above is wanted
    """The last wanted block of the base model has spoken."""


@final
class BaseEncoder:
    """The first blocks of the frozen base model, without experts.

    Args:
        base: the base model; no gates may be in force while it encodes.
        layers: transformer blocks to run; 0 takes the token embeddings as they are, -1 runs all blocks.

    Raises:
        ConfigError: the model has fewer blocks.
        ModelError: the model's blocks cannot be found.
    """

    def __init__(self, base: BaseModel, layers: int) -> None:
        self.base = base
        self.last_block: Any = _last_block(base, layers) if layers else None

    @property
    def size(self) -> int:
        """Hidden size of the base model."""
        return int(self.base.model.config.hidden_size)

    @property
    def vocabulary(self) -> int:
        """Rows of the base model's embedding table."""
        return int(self.base.model.get_input_embeddings().weight.shape[0])

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TokenStates:
        """States after the last wanted block; a text is cut after 512 tokens."""
        tokenizer, device = self.base.tokenizer, self.base.device
        rows = [tokenizer.encode(f" {text.strip()}", add_special_tokens=False)[:LONGEST_TEXT] for text in texts]
        rows = [ids or [tokenizer.pad_token_id] for ids in rows]
        width = max(map(len, rows))
        pad = tokenizer.pad_token_id
        ids_BT = torch.tensor([ids + [pad] * (width - len(ids)) for ids in rows], device=device)
        mask_BT = torch.tensor([[True] * len(ids) + [False] * (width - len(ids)) for ids in rows], device=device)
        return TokenStates(ids_BT, self._states(ids_BT, mask_BT).float(), mask_BT)

    def _states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        if self.last_block is None:
            embedded: Tensor = self.base.model.get_input_embeddings()(ids_BT)
            return embedded
        found: list[Tensor] = []

        def stop(_module: Any, _inputs: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)
            raise _Reached

        hook = self.last_block.register_forward_hook(stop)
        try:
            self.base.model.get_decoder()(input_ids=ids_BT, attention_mask=mask_BT.long(), use_cache=False)
        except _Reached:
            pass
        finally:
            hook.remove()
        return found[0]


def _last_block(base: BaseModel, layers: int) -> Any:
    """The transformer block after which states are taken."""
    blocks = getattr(base.model.get_decoder(), "layers", None)
    if blocks is None:
        raise ModelError(f"base.model={base.name}: its transformer blocks cannot be found; set router.layers=0")
    if layers > len(blocks):
        raise ConfigError(
            f"router.layers is {layers}, but the base model has {len(blocks)} blocks; use 0 to {len(blocks)}, or -1"
        )
    return blocks[layers - 1] if layers > 0 else blocks[-1]


@final
class SentenceEncoder:
    """A sentence-transformers model: one vector for each text, as if the text were a single token.

    Args:
        name: a local folder or a hub id.
        device: a torch device.

    Raises:
        ConfigError: sentence-transformers is not installed.
        ModelError: the model cannot be loaded.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        try:
            from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise ConfigError(
                f"router.encoder is {name!r}, which needs sentence-transformers: pip install sentence-transformers, "
                "or leave router.encoder empty to represent questions by the base model"
            ) from None
        try:
            self.model = SentenceTransformer(name, device=str(device))
        except (OSError, ValueError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ModelError(f"router.encoder={name}: cannot be loaded ({reason})") from None

    @property
    def size(self) -> int:
        """Size of an embedding."""
        return int(self.model.get_embedding_dimension())

    @property
    def vocabulary(self) -> int:
        """One: a text is a single token."""
        return 1

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TokenStates:
        """One state for each text."""
        states_BD = self.model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False).float()
        shape = (len(texts), 1)
        return TokenStates(
            torch.zeros(shape, dtype=torch.long, device=states_BD.device),
            states_BD[:, None],
            torch.ones(shape, dtype=torch.bool, device=states_BD.device),
        )


def build_encoder(config: RouterConfig, base: BaseModel) -> QuestionEncoder:
    """The encoder that a configuration names.

    Raises:
        ConfigError: it cannot be had with this base model or this installation.
        ModelError: a sentence encoder cannot be loaded.
    """
    if config.encoder:
        return SentenceEncoder(config.encoder, base.device)
    return BaseEncoder(base, config.layers)


def batches_of(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Texts, or what carries them, in batches of 32."""
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))
