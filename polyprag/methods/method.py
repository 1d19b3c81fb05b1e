"""What every method is: a name, options to choose among, and answers to a batch of questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product

from polyprag.config import Combine, MethodName
from polyprag.knowledge.prompts import with_title
from polyprag.methods.workbench import Answered, Clock, Setting, Workbench
from polyprag.records import Passage, Question

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
    def prepare(self, questions: Sequence[Question], settings: Sequence[Setting]) -> None:
        """Do once, untimed, what answering these questions under any of these settings needs."""

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

    def passage_options(
        self, combine: Sequence[Combine] = (Combine.SUM,), shots: Sequence[int] = (0,)
    ) -> list[Setting]:
        """Settings over the choices that the configuration leaves open.

        Args:
            combine: ways to combine gates that matter to the method; with one passage they are all the same.
            shots: numbers of examples that matter to the method.
        """
        answering = self.bench.config.answering
        passages = (answering.passages,) if answering.passages else PASSAGE_CHOICES
        if len(combine) > 1 and answering.combine is not Combine.AUTO:
            combine = (answering.combine,)
        if len(shots) > 1 and answering.shots >= 0:
            shots = (answering.shots,)
        return [
            Setting(count, how, examples)
            for count, how, examples in product(passages, combine, shots)
            if count > 1 or how is combine[0]
        ]


class PromptMethod(Method):
    """Methods of the bare base model: `vanilla` answers from its own memory, `standard_rag` from retrieved passages."""

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
            return self.passage_options(shots=SHOT_CHOICES)
        shots = self.bench.config.answering.shots
        return [Setting(shots=examples) for examples in ((shots,) if shots >= 0 else SHOT_CHOICES)]

    def prepare(self, questions: Sequence[Question], settings: Sequence[Setting]) -> None:
        """Open model and index."""
        _ = self.bench.base, self.bench.retriever

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
            texts = self.bench.plain_generator.answer(prompts)
        seconds = clock.shared_by(len(questions))
        return [
            Answered(
                text,
                tuple(passage.id for passage in context),
                (),
                len(prompt),
                seconds,
                retrievals=int(self.retrieves),
            )
            for text, context, prompt in zip(texts, contexts, prompts, strict=True)
        ]

    @property
    def bytes_per_passage(self) -> float:
        """Texts and index for standard RAG, nothing for the base model alone."""
        if not self.retrieves:
            return 0.0
        return self.bench.text_bytes_per_passage + self.bench.index_bytes_per_passage
