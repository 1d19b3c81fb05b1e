"""One-to-one PRAG on PEFT: an adapter per passage, loaded and merged for every question (arXiv 2501.15915)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from polyprag.answering.generation import Generator
from polyprag.config import MethodName
from polyprag.knowledge.prompts import with_title
from polyprag.methods.adapters import AdapterEncoder
from polyprag.methods.method import Method
from polyprag.methods.workbench import Answered, Clock, Setting
from polyprag.records import Question


class Prag(Method):
    """`prag` answers from merged adapters alone; `prag_combine` has the passages in the prompt as well."""

    def options(self) -> list[Setting]:
        """How many passages are retrieved and merged."""
        return self.passage_options()

    def check(self, questions: Sequence[Question]) -> None:
        """Read the outside pairs of a warm-up.

        Raises:
            ConfigError: nothing says which passages are outside.
            DataError: they cannot be used, or none is left.
        """
        _ = self.bench.warm_up_pairs

    def prepare(self, questions: Sequence[Question], settings: Sequence[Setting]) -> None:
        """Train the adapters that these questions retrieve, but for those that are there already."""
        most = max(setting.passages for setting in settings)
        wanted = {hit.position for hits in self.bench.retrieve(questions, most) for hit in hits}
        passages = [self.bench.passages[position] for position in sorted(wanted)]
        self.encoder.encode(passages)
        _ = self.generator

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """One question after the other, since each needs weights of its own."""
        return [self._answer_one(question, setting) for question in questions]

    def _answer_one(self, question: Question, setting: Setting) -> Answered:
        bench, clock = self.bench, Clock()
        with clock.step("retrieve"):
            (hits,) = bench.retrieve([question], setting.passages)
        passages = [bench.passages[hit.position] for hit in hits]
        with clock.step("load_merge"):
            self.encoder.load_and_merge(passages)
        with clock.step("generate"):
            shown = [with_title(p) for p in passages] if self.name is MethodName.PRAG_COMBINE else []
            prompt = self.encoder.writer.question(question.text, shown)
            (text,) = self.generator.answer([prompt])
        with clock.step("load_merge"):
            self.encoder.unload()
        return Answered(text, tuple(p.id for p in passages), (), len(prompt), clock.seconds, retrievals=1)

    @property
    def identity(self) -> str:
        """The adapters' recipe and what they are trained on."""
        return self.encoder.identity

    @property
    def bytes_per_passage(self) -> float:
        """An adapter's folder on average, and the index; the texts too where prompts show them."""
        texts = self.bench.text_bytes_per_passage if self.name is MethodName.PRAG_COMBINE else 0.0
        return self.encoder.mean_bytes() + self.bench.index_bytes_per_passage + texts

    @property
    def train_seconds(self) -> float:
        """Seconds of training of all adapters at hand."""
        return self.encoder.train_seconds()

    @cached_property
    def encoder(self) -> AdapterEncoder:
        """The adapters of this run; `prag` and `prag_combine` share them, on disk and in memory."""
        return self.bench.adapters

    @cached_property
    def generator(self) -> Generator:
        """Decoding with the merged adapters."""
        return Generator(self.encoder.base, self.bench.config.answering.max_new_tokens)
