"""What every method is: a name, options to choose among, and answers to a batch of questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product

from polyprag.answering.generation import Generator
from polyprag.config import Combine, MethodName, PromptStyle
from polyprag.knowledge.prompts import with_title
from polyprag.methods.control_lora import ControlLora
from polyprag.methods.workbench import Answered, Clock, Setting, Workbench
from polyprag.records import Passage, Question
from polyprag.training.controls import FORMAT_SUFFIX

PASSAGE_CHOICES = (1, 2, 3)
COMBINE_CHOICES = (Combine.SUM, Combine.MEAN, Combine.SCORE)
SHOT_CHOICES = (0, 2, 4)


class Method(ABC):
    """A way of answering questions.

    Args:
        name: which of the family's methods this is.
        bench: what the methods share.
    """

    def __init__(self, name: MethodName, bench: Workbench) -> None:
        self.name, self.bench = name, bench

    @abstractmethod
    def options(self) -> list[Setting]:
        """The settings among which validation questions choose; the first is taken where there are none."""

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse, before any method answers, a run or questions that this method cannot do with."""
        return

    @abstractmethod
    def prepare(
        self, questions: Sequence[Question], settings: Sequence[Setting], own: Sequence[Question] | None = None
    ) -> None:
        """Do once, untimed, what answering questions under any of these settings needs.

        Args:
            questions: all questions of their kind, those that are answered elsewhere included.
            settings: under which they may be answered.
            own: those of them that are to be answered here; None means all.
        """

    def lost(self, questions: Sequence[Question], settings: Sequence[Setting]) -> str:
        """What these questions were answered with and is not on disk, with the remedy; empty if all is there.

        Args:
            questions: that have been answered, here or elsewhere.
            settings: under which.
        """
        return ""

    @abstractmethod
    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """Answer a batch of questions."""

    @property
    def identity(self) -> str:
        """What of the run, beyond base model and questions, the answers depend on."""
        return ""

    @property
    def bytes_per_passage(self) -> float:
        """Bytes on disk, per passage, of all that answering needs beyond the base model."""
        return 0.0

    @property
    def train_seconds(self) -> float:
        """Seconds of training behind the answers."""
        return 0.0

    @property
    def trained_passages(self) -> int:
        """Passages over which the seconds of training are to be spread."""
        return len(self.bench.passages)

    @property
    def expanded_by(self) -> str:
        """A hash of the rewrites and pairs by which passages are found; empty where they are found by their texts."""
        if not (self.retrieves and self.bench.config.answering.expand_index):
            return ""
        return self.bench.knowledge.augmentation_digest

    @property
    def needs_augmentation(self) -> bool:
        """Whether the passages' rewrites and pairs are needed before the first question."""
        return self.retrieves and self.bench.config.answering.expand_index

    @property
    def retrieves(self) -> bool:
        """Whether an index is needed before the first question."""
        return True

    def passage_options(
        self, combine: Sequence[Combine] = (Combine.SUM,), shots: Sequence[int] = (0,)
    ) -> list[Setting]:
        """Settings over the choices that the configuration leaves open.

        Args:
            combine: ways to combine gates that matter to the method; with one passage they are all the same.
            shots: numbers of examples to try.
        """
        answering = self.bench.config.answering
        passages = (answering.passages,) if answering.passages else PASSAGE_CHOICES
        if len(combine) > 1 and answering.combine is not Combine.AUTO:
            combine = (answering.combine,)
        return [
            Setting(count, how, examples)
            for count, how, examples in product(passages, combine, shots)
            if count > 1 or how is combine[0]
        ]


class AdapterMethod(Method):
    """Answers from the merged adapters of retrieved passages; by a name that ends in `_combine`, with these shown."""

    @property
    def shows_passages(self) -> bool:
        """Whether prompts show the passages."""
        return self.name.endswith("_combine")

    @property
    def strength(self) -> float:
        """Factor on the merged adapters: 1 where they answer alone."""
        return self.bench.config.answering.combine_scale if self.shows_passages else 1.0

    def options(self) -> list[Setting]:
        """How many passages are retrieved, and their adapters merged."""
        return self.passage_options()


class InContextMethod(Method):
    """Methods that know what stands in the prompt: of the base model alone, or, by names in `_format`, in good form.

    The latter answer under `format_lora`, which has learned the form of answers from outside passages and nothing of
    the corpus. So they are to the trained methods what these would be without the corpus's knowledge in their weights.
    """

    @property
    def format(self) -> ControlLora | None:
        """The LoRA of the answers' form; None for methods of the base model alone."""
        return self.bench.control(MethodName.FORMAT_LORA) if self.name.endswith(FORMAT_SUFFIX) else None

    @property
    def generator(self) -> Generator:
        """What answers: the base model, or the base model under that LoRA."""
        return self.format.generator if self.format else self.bench.plain_generator

    def check(self, questions: Sequence[Question]) -> None:
        """Open the store of that LoRA where it is wanted.

        Raises:
            ConfigError: it was not trained, or for other prompts.
            StoreError: it is damaged or belongs to another base model.
        """
        if self.format:
            self.format.check(self.name)

    def shot_choices(self) -> tuple[int, ...]:
        """Numbers of short-answer examples to try; chains of thought have examples of their own."""
        answering = self.bench.config.answering
        if answering.prompt is PromptStyle.COT:
            return (0,)
        return (answering.shots,) if answering.shots >= 0 else SHOT_CHOICES

    @property
    def identity(self) -> str:
        """The store of that LoRA, if there is one, and what the index holds beside the texts."""
        return (self.format.store.manifest.digest if self.format else "") + self.expanded_by

    @property
    def bytes_per_passage(self) -> float:
        """That LoRA over the passages of the corpus."""
        return self.format.bytes / len(self.bench.passages) if self.format else 0.0

    @property
    def train_seconds(self) -> float:
        """Seconds of that LoRA's training."""
        return self.format.train_seconds if self.format else 0.0


class PromptMethod(InContextMethod):
    """A single prompt: `vanilla` answers from its own memory, `standard_rag` from retrieved passages."""

    @property
    def retrieves(self) -> bool:
        """Whether prompts show passages."""
        return self.name is not MethodName.VANILLA

    def shown(self, passage: Passage) -> str:
        """A passage as prompts show it."""
        return with_title(passage)

    def options(self) -> list[Setting]:
        """Passages and examples in the prompt."""
        if self.retrieves:
            return self.passage_options(shots=self.shot_choices())
        return [Setting(shots=examples) for examples in self.shot_choices()]

    def prepare(
        self, questions: Sequence[Question], settings: Sequence[Setting], own: Sequence[Question] | None = None
    ) -> None:
        """Open model and index."""
        _ = self.generator, self.bench.retriever

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """Retrieve if the setting says so, write the prompts, generate."""
        clock = Clock()
        with clock.step("retrieve"):
            found = self.bench.retrieve(questions, setting.passages) if setting.passages else [[] for _ in questions]
        passages = self.bench.passages
        contexts = [[passages[hit.position] for hit in hits] for hits in found]
        with clock.step("generate"):
            prompts = [
                self.bench.writer.question(question.text, [self.shown(passage) for passage in context], setting.shots)
                for question, context in zip(questions, contexts, strict=True)
            ]
            texts = self.generator.answer(prompts)
        seconds = clock.shared_by(len(questions))
        return [
            Answered(
                text,
                tuple(passage.id for passage in context),
                (),
                len(prompt),
                seconds,
                retrievals=int(self.retrieves),
                first_token_seconds=clock.until(text.first_token_at),
            )
            for text, context, prompt in zip(texts, contexts, prompts, strict=True)
        ]

    @property
    def bytes_per_passage(self) -> float:
        """Texts and index for standard RAG, nothing for the base model alone."""
        if not self.retrieves:
            return 0.0
        return super().bytes_per_passage + self.bench.text_bytes_per_passage + self.bench.index_bytes_per_passage
