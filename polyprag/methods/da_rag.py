"""DA-RAG: standard RAG whose passages carry their augmentation in the prompt (a baseline of arXiv 2501.15915)."""

from __future__ import annotations

from collections.abc import Sequence

from polyprag.errors import ConfigError
from polyprag.methods.method import PromptMethod
from polyprag.records import Augmentation, Passage, Question


class DaRag(PromptMethod):
    """`da_rag`: what PRAG trains an adapter on, shown instead."""

    def check(self, questions: Sequence[Question]) -> None:
        """Look for augmentation, and for the LoRA of the answers' form where it is wanted.

        Raises:
            ConfigError: no passage has any, so that this would be standard RAG; or there is no such LoRA.
            StoreError: the LoRA is damaged or belongs to another base model.
        """
        super().check(questions)
        if not any(kept.rewrites or kept.qa for kept in self.bench.knowledge.augmentations.values()):
            raise ConfigError(
                f"{self.name}: no passage has rewrites or question-answer pairs; write them with python train.py "
                "augment, or leave it out of evaluation.methods"
            )

    def shown(self, passage: Passage) -> str:
        """The passage, its rewrites and its pairs, a line each."""
        return "\n".join([super().shown(passage), *self._added(passage)])

    @property
    def identity(self) -> str:
        """What the passages are augmented with."""
        return self.bench.knowledge.augmentation_digest + super().identity

    @property
    def needs_augmentation(self) -> bool:
        """It is what the prompts show."""
        return True

    @property
    def bytes_per_passage(self) -> float:
        """Texts, rewrites, pairs and index."""
        passages = self.bench.passages
        added = sum(len("".join(self._added(passage)).encode()) for passage in passages)
        return super().bytes_per_passage + added / len(passages)

    def _added(self, passage: Passage) -> list[str]:
        kept = self.bench.knowledge.augmentations.get(passage.id, Augmentation(passage.id))
        return [*kept.rewrites, *(f"Question: {pair.question} Answer: {pair.answer}" for pair in kept.qa)]
