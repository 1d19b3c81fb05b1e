"""One-to-one PRAG on PEFT: adapters of passages, loaded and merged for every question (arXiv 2501.15915)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter

from polyprag.answering.generation import Generator
from polyprag.knowledge.prompts import with_title
from polyprag.methods.adapter_files import AdapterCosts
from polyprag.methods.adapters import AdapterEncoder
from polyprag.methods.method import AdapterMethod
from polyprag.methods.workbench import Answered, Clock, Setting
from polyprag.records import Passage, Question
from polyprag.runs import with_prag_passes


class Prag(AdapterMethod):
    """`prag` answers from merged adapters alone; `prag_combine` has the passages in the prompt as well."""

    def check(self, questions: Sequence[Question]) -> None:
        """Look for the pool's passes, read the outside pairs of a warm-up, and what was written for single questions.

        Raises:
            ConfigError: nothing says how many passes adapters take, or which passages are outside.
            StoreError: the store, which would say the passes, is damaged.
            DataError: outside pairs cannot be used, or none is left; or what was written cannot be read.
        """
        with_prag_passes(self.bench.config, self.bench.folder)
        _ = self.bench.warm_up_pairs, self.bench.question_augmentations

    def prepare(
        self, questions: Sequence[Question], settings: Sequence[Setting], own: Sequence[Question] | None = None
    ) -> None:
        """Train the adapters that the own questions retrieve, but for those that are there already."""
        self.encoder.encode(*self._retrieved(questions if own is None else own, settings))
        _ = self.generator

    def lost(self, questions: Sequence[Question], settings: Sequence[Setting]) -> str:
        """Which adapters that these questions retrieve are not on disk; without them costs would be too small."""
        return self.encoder.lost(*self._retrieved(questions, settings))

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """One question after the other, since each needs weights of its own."""
        return [self._answer_one(question, setting) for question in questions]

    def _answer_one(self, question: Question, setting: Setting) -> Answered:
        bench, clock = self.bench, Clock()
        with clock.step("retrieve"):
            (hits,) = bench.retrieve([question], setting.passages)
        passages = [bench.passages[hit.position] for hit in hits]
        with clock.step("load_merge"):
            self.encoder.load_and_merge(passages, question, self.strength)
        with clock.step("generate"):
            shown = [with_title(p) for p in passages] if self.shows_passages else []
            prompt = self.encoder.writer.question(question.text, shown)
            (text,) = self.generator.answer([prompt])
        with clock.step("load_merge"):
            self.encoder.unload()
        return Answered(
            text,
            tuple(p.id for p in passages),
            (),
            len(prompt),
            clock.seconds,
            retrievals=1,
            first_token_seconds=clock.until(text.first_token_at),
        )

    @property
    def identity(self) -> str:
        """The adapters' recipe and what they are trained on, and their strength."""
        return self.encoder.identity if self.strength == 1 else f"{self.encoder.identity} strength {self.strength}"

    @property
    def bytes_per_passage(self) -> float:
        """The folders of a passage's adapters on average, and the index; the texts too where prompts show them."""
        texts = self.bench.text_bytes_per_passage if self.shows_passages else 0.0
        return self.costs.bytes + self.bench.index_bytes_per_passage + texts

    @property
    def train_seconds(self) -> float:
        """Seconds of training of all adapters that the run's questions retrieve."""
        return self.costs.seconds

    @property
    def trained_passages(self) -> int:
        """Only the passages that a question has retrieved have an adapter."""
        return max(1, self.costs.passages)

    @property
    def needs_augmentation(self) -> bool:
        """It is what adapters are trained on."""
        return True

    @property
    def costs(self) -> AdapterCosts:
        """What the adapters cost that the run's questions retrieve, under any setting."""
        return self.encoder.costs(*self._wanted)

    @cached_property
    def _wanted(self) -> tuple[list[Passage], list[Question]]:
        knowledge = self.bench.knowledge
        return self._retrieved([*knowledge.test, *knowledge.validation], self.options())

    def _retrieved(
        self, questions: Sequence[Question], settings: Sequence[Setting]
    ) -> tuple[list[Passage], list[Question]]:
        """Each passage that a question retrieves under any of these settings, and that question; in corpus order."""
        most = max(setting.passages for setting in settings)
        found = zip(questions, self.bench.retrieve(questions, most), strict=True)
        wanted = sorted(((hit.position, question) for question, hits in found for hit in hits), key=itemgetter(0))
        return [self.bench.passages[position] for position, _ in wanted], [question for _, question in wanted]

    @cached_property
    def encoder(self) -> AdapterEncoder:
        """The adapters of this run; `prag` and `prag_combine` share them, on disk and in memory."""
        return self.bench.adapters

    @cached_property
    def generator(self) -> Generator:
        """Decoding with the merged adapters."""
        answering = self.bench.config.answering
        return Generator(self.encoder.base, answering.max_new_tokens, style=answering.prompt)
