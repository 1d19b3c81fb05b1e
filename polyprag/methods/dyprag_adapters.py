"""Adapters that the parameter translator makes of passages while questions wait.

Shapes: B rows, P passages, E hidden size of the base model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polyprag.answering.decoding import left_padded
from polyprag.config import Composition
from polyprag.errors import AdapterError
from polyprag.experts.adapter_pool import AdapterPool
from polyprag.experts.base_model import BaseModel
from polyprag.experts.translator import last_states
from polyprag.knowledge.prompts import PromptWriter, with_title
from polyprag.records import Passage
from polyprag.translator_store import StoredTranslator

AT_ONCE = 8
"""Passages that are translated in one batch."""


class TranslatedAdapters:
    """A base model beside whose layers stand the adapters of a few passages at a time.

    Args:
        stored: the translator, with the shape and scale of its adapters.
        base: a base model of its own; pooled layers take the place of the target layers.
        composition: how a question's adapters are merged; see `AdapterPool`.
    """

    def __init__(self, stored: StoredTranslator, base: BaseModel, composition: Composition) -> None:
        facts = stored.facts
        self.base, self.translator = base, stored.translator.to(base.device)
        self.pool = AdapterPool(base.model, facts.targets, facts.rank, facts.scale, composition)

    @torch.no_grad()
    def put(self, passages: Sequence[Passage]) -> None:
        """Translate passages and put their adapters in the place of those that were; gates are by their order."""
        starts = range(0, len(passages), AT_ONCE)
        states = [
            last_states(self.base, [with_title(passage) for passage in passages[at : at + AT_ONCE]]) for at in starts
        ]
        adapters = self.translator(torch.cat(states))
        dtype = self.base.model.dtype
        self.pool.put({name: (A.to(dtype), B.to(dtype)) for name, (A, B) in adapters.items()})

    @torch.no_grad()
    def check_effect(self, passages: Sequence[Passage]) -> None:
        """Translate passages, and see that each adapter speaks up.

        Raises:
            AdapterError: an adapter changes no logit.
        """
        writer = PromptWriter(self.base.tokenizer)
        for at in range(0, len(passages), AT_ONCE):
            own = passages[at : at + AT_ONCE]
            self.put(own)
            prompts = [writer.question(f"What is {passage.title or 'this'}?") for passage in own]
            before_BV = self._logits(prompts, [()] * len(own))
            after_BV = self._logits(prompts, [(number,) for number in range(len(own))])
            for passage, before_V, after_V in zip(own, before_BV, after_BV, strict=True):
                if torch.equal(before_V, after_V):
                    raise AdapterError(
                        f"the translated adapter of passage {passage.id!r} changes no logit of the base model; "
                        "train the translator longer: raise translator.epochs or translator.learning_rate"
                    )

    def _logits(self, prompts: Sequence[Sequence[int]], chosen: Sequence[Sequence[int]]) -> Tensor:
        """The last logits [B, V] of prompts, each under the adapters chosen for it."""
        tokens_BT, mask_BT = left_padded(prompts, self.base)
        gates_BGK = self.pool.gates(chosen, len(prompts)).to(self.base.device)
        with self.pool.pool.gated(gates_BGK):
            logits_BTV = self.base.model(tokens_BT, attention_mask=mask_BT, logits_to_keep=1).logits
        logits_BV: Tensor = logits_BTV[:, -1]
        return logits_BV
