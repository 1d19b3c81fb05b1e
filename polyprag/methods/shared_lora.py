"""Controls without routing: one LoRA for all passages, and one that has learned the answer format alone."""

from __future__ import annotations

from collections.abc import Sequence

from polyprag.config import MethodName
from polyprag.methods.control_lora import ControlLora
from polyprag.methods.method import Method
from polyprag.methods.workbench import Answered, Clock, Setting
from polyprag.records import Question


class SharedLora(Method):
    """`global_lora`: a LoRA of the pool's total rank, trained on all passages; `format_lora`: on outside passages only.

    Both are pools of a single expert, trained by `python train.py controls` like the pool that they are held against,
    on a base model of their own.
    """

    @property
    def lora(self) -> ControlLora:
        """The control."""
        return self.bench.control(MethodName(self.name))

    def options(self) -> list[Setting]:
        """Nothing to choose."""
        return [Setting()]

    def check(self, questions: Sequence[Question]) -> None:
        """Open the control's store.

        Raises:
            ConfigError: it was not trained, or for other prompts.
            StoreError: it is damaged or belongs to another base model.
        """
        self.lora.check(self.name)

    def prepare(
        self, questions: Sequence[Question], settings: Sequence[Setting], own: Sequence[Question] | None = None
    ) -> None:
        """Load the LoRA."""
        _ = self.lora.generator

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """All questions at once, under the one expert."""
        clock = Clock()
        with clock.step("generate"):
            prompts = [self.bench.writer.question(question.text) for question in questions]
            texts = self.lora.generator.answer(prompts)
        seconds = clock.shared_by(len(questions))
        return [
            Answered(text, (), (), len(prompt), seconds, first_token_seconds=clock.until(text.first_token_at))
            for text, prompt in zip(texts, prompts, strict=True)
        ]

    @property
    def identity(self) -> str:
        """The control's store."""
        return self.lora.store.manifest.digest

    @property
    def bytes_per_passage(self) -> float:
        """The LoRA over the passages of the corpus."""
        return self.lora.bytes / len(self.bench.passages)

    @property
    def retrieves(self) -> bool:
        """Whether an index is needed: never."""
        return False

    @property
    def needs_augmentation(self) -> bool:
        """The LoRA of all passages is trained on it; that of the answers' form learns from outside."""
        return self.name is MethodName.GLOBAL_LORA

    @property
    def train_seconds(self) -> float:
        """Seconds of its training."""
        return self.lora.train_seconds
