"""DyPRAG: retrieved passages become LoRAs by a translator, with nothing trained for them (arXiv 2503.23895)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from polyprag.answering.generation import Generator
from polyprag.config import MethodName
from polyprag.errors import ConfigError, StoreError
from polyprag.knowledge.prompts import with_title
from polyprag.methods.dyprag_adapters import TranslatedAdapters
from polyprag.methods.method import AdapterMethod
from polyprag.methods.workbench import Answered, Clock, Setting, Workbench
from polyprag.records import Question
from polyprag.retrieval.retriever import Hit


class DyPrag(AdapterMethod):
    """`dyprag` answers from translated adapters alone; `dyprag_combine` has the passages in the prompt as well.

    The translator is trained by `python train.py translator` on PRAG's adapters of passages outside the corpus. Reading
    and translating the retrieved passages counts as `load_merge`, since it stands in the place of PRAG's.
    """

    def __init__(self, name: MethodName, bench: Workbench) -> None:
        super().__init__(name, bench)
        self.checked: set[int] = set()

    def check(self, questions: Sequence[Question]) -> None:
        """Open the translator.

        Raises:
            ConfigError: it was trained for other prompts.
            StoreError: it is missing, damaged, of another base model, or has learned from passages of the corpus.
        """
        stored, prompt = self.bench.stored_translator, self.bench.config.answering.prompt
        if stored.facts.prompt != prompt:
            raise ConfigError(
                f"{self.name}: answering.prompt is {prompt}, but {stored.path} was trained for {stored.facts.prompt}; "
                f"use that, or run python train.py translator run.dir={self.bench.folder} with the other"
            )
        shared = stored.learned_from & {passage.content_hash for passage in self.bench.passages}
        if shared:
            raise StoreError(
                f"{stored.path}: {len(shared)} of the {len(stored.learned_from)} passages that the translator has "
                "learned from are in the corpus; run python train.py translator "
                f"run.dir={self.bench.folder} with this corpus"
            )

    def prepare(
        self, questions: Sequence[Question], settings: Sequence[Setting], own: Sequence[Question] | None = None
    ) -> None:
        """Load the translator, and see that the adapters of all passages that the own questions retrieve speak up.

        Raises:
            AdapterError: an adapter changes no logit.
        """
        self.check(questions)
        _ = self.generator
        asked, most = questions if own is None else own, max(setting.passages for setting in settings)
        wanted = {hit.position for hits in self.bench.retrieve(asked, most) for hit in hits}
        new = sorted(wanted - self.checked)
        self.adapters.check_effect([self.bench.passages[position] for position in new])
        self.checked.update(new)

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """Retrieve, translate each passage of the batch once, and answer each question under the sum of its own."""
        bench, clock = self.bench, Clock()
        with clock.step("retrieve"):
            found = bench.retrieve(questions, setting.passages)
        with clock.step("load_merge"):
            gates_BGK = self._translated(found)
        with clock.step("generate"):
            contexts = [[bench.passages[hit.position] for hit in hits] for hits in found]
            shown = [
                [with_title(passage) for passage in context] if self.shows_passages else [] for context in contexts
            ]
            prompts = [
                bench.writer.question(question.text, own) for question, own in zip(questions, shown, strict=True)
            ]
            with self.adapters.pool.pool.at_strength(self.strength):
                texts = self.generator.answer(prompts, gates_BGK)
        seconds = clock.shared_by(len(questions))
        return [
            Answered(
                text,
                tuple(passage.id for passage in context),
                (),
                len(prompt),
                seconds,
                retrievals=1,
                first_token_seconds=clock.until(text.first_token_at),
            )
            for text, context, prompt in zip(texts, contexts, prompts, strict=True)
        ]

    @property
    def identity(self) -> str:
        """The translator, how its adapters are merged, what the index holds beside the texts, and their strength."""
        merged = f"{self.bench.stored_translator.digest} {self.bench.config.translator.composition}{self.expanded_by}"
        return merged if self.strength == 1 else f"{merged} strength {self.strength}"

    @property
    def bytes_per_passage(self) -> float:
        """The texts, which are translated anew for every question, the index, and the translator over the passages."""
        bench = self.bench
        shared = bench.stored_translator.bytes / len(bench.passages)
        return shared + bench.text_bytes_per_passage + bench.index_bytes_per_passage

    @property
    def train_seconds(self) -> float:
        """Seconds of training of the translator and of the outside adapters that it has learned from."""
        return float(self.bench.stored_translator.facts.training["seconds"])

    def _translated(self, found: Sequence[Sequence[Hit]]) -> Tensor | None:
        """Put the adapters of all retrieved passages in, and give the questions' gates [B, 1, K]; None without any."""
        positions = list(dict.fromkeys(hit.position for hits in found for hit in hits))
        if not positions:
            return None
        self.adapters.put([self.bench.passages[position] for position in positions])
        chosen = [[positions.index(hit.position) for hit in hits] for hits in found]
        return self.adapters.pool.gates(chosen, len(positions))

    @cached_property
    def adapters(self) -> TranslatedAdapters:
        """The translated adapters of this run; `dyprag` and `dyprag_combine` share translator and base model."""
        return self.bench.translated

    @cached_property
    def generator(self) -> Generator:
        """Decoding with the translated adapters."""
        answering, base = self.bench.config.answering, self.adapters.base
        pool, rows = self.adapters.pool.pool, answering.batch_size
        return Generator(base, answering.max_new_tokens, pool, answering.prompt, rows=rows)
