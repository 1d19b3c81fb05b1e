"""What lies outside a run's corpus and questions: passages and pairs for warm-up and for `format_lora`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from polyprag.config import BENCHMARKS, Config, DataConfig, DataName, DataPart
from polyprag.errors import ConfigError, DataError
from polyprag.experts.tokenizer import tokenizer_of
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.records import Augmentation, Knowledge, Passage, QAPair

IN_CORPUS, COPIES, PAIRLESS = "passages of the corpus", "copies of its questions", "passages without pairs"


@dataclass(frozen=True)
class Outside:
    """What a run may learn the form of answers from without having seen what it is asked.

    Attributes:
        passages: none of them is in the run's corpus.
        augmentations: by passage id, each with at least one pair; no pair copies a test or validation question.
        left_out: passages and pairs that were left out, by reason.
    """

    passages: tuple[Passage, ...]
    augmentations: dict[str, Augmentation]
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def pairs(self) -> tuple[QAPair, ...]:
        """All pairs, in the order of the passages."""
        return tuple(pair for passage in self.passages for pair in self.augmentations[passage.id].qa)

    @property
    def knowledge(self) -> Knowledge:
        """Passages and pairs as a corpus of their own, without questions."""
        return Knowledge(self.passages, self.augmentations)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all that can be learned from."""
        return self.knowledge.fingerprint

    def first(self, pairs: int) -> Outside:
        """The first passages that together have at most so many pairs, one passage at least."""
        total, kept = 0, 0
        for passage in self.passages:
            total += len(self.augmentations[passage.id].qa)
            if kept and total > pairs:
                break
            kept += 1
        passages = self.passages[:kept]
        return Outside(passages, {p.id: self.augmentations[p.id] for p in passages}, self.left_out)

    def __str__(self) -> str:
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        kept = f"{len(self.passages)} outside passages with {len(self.pairs)} pairs"
        return f"{kept}; left out: {left_out}" if left_out else kept


def outside_data(config: Config, passages: int) -> DataConfig:
    """The data section that reads what is outside the corpus.

    That is `data.outside` if it is set; else another demo world, a benchmark's questions outside the test set, or what
    `data.max_passages` leaves over.

    Args:
        config: of the run.
        passages: most passages to read; of a benchmark, questions.

    Raises:
        ConfigError: nothing says which passages are outside.
    """
    data = config.data
    whole = dataclasses.replace(
        data, questions="", collection="", skip_passages=0, max_passages=0, limit=0, types=[], retrieved=0, outside=""
    )
    whole = dataclasses.replace(whole, max_pairs=0, max_rewrites=-1)  # how little the corpus has is no matter outside
    if data.outside:
        file = dataclasses.replace(whole, name=DataName.JSONL, path=data.outside, subset="", split="", augmentation="")
        return dataclasses.replace(file, part=DataPart.TEST, max_passages=passages)
    if data.name is DataName.DEMO:
        other = dataclasses.replace(data.world, seed=data.world.seed + 1, passages=passages)
        return dataclasses.replace(whole, world=dataclasses.replace(other, questions=1, validation_questions=0))
    if data.name in BENCHMARKS:
        return dataclasses.replace(whole, part=DataPart.OUTSIDE, max_passages=passages)
    if data.path and data.max_passages:
        return dataclasses.replace(whole, skip_passages=data.skip_passages + data.max_passages, max_passages=passages)
    raise ConfigError(
        "data.outside is empty, and data.max_passages leaves no passage over: warm-up and format_lora need passages "
        "outside the corpus; name a file of passages with pairs in data.outside"
    )


def outside_knowledge(config: Config, run: Knowledge) -> Outside:
    """Read outside passages, and leave out what the run's corpus holds or its questions ask.

    Args:
        config: whose data are as `outside_data` gives them.
        run: the corpus, and the test and validation questions that nothing may be learned of.

    Raises:
        DataError: a file cannot be used, or nothing is left to learn from.
    """
    data = config.data
    read = load_knowledge(data, tokenize=tokenizer_of(config.base))
    left_out: Counter[str] = Counter()
    kept = dict(_kept(read, run, left_out))
    found = {reason: left_out[reason] for reason in (IN_CORPUS, COPIES, PAIRLESS) if left_out[reason]}
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.items())
        raise DataError(
            f"{data.path or data.name.value}: nothing outside the corpus is left to learn from ({reasons}); "
            "name a file of other passages with pairs in data.outside"
        )
    passages = tuple(passage for passage in read.passages if passage.id in kept)
    return Outside(passages, kept, found)


def _kept(read: Knowledge, run: Knowledge, left_out: Counter[str]) -> Iterator[tuple[str, Augmentation]]:
    """The passages outside the corpus, with those of their pairs that copy no question of the run."""
    corpus = {passage.content_hash for passage in run.passages}
    asked = QuestionIndex((*run.test, *run.validation))
    for passage in read.passages:
        if passage.content_hash in corpus:
            left_out[IN_CORPUS] += 1
            continue
        augmentation = read.augmentations.get(passage.id, Augmentation(passage.id))
        own = tuple(
            pair for pair in augmentation.qa if not asked.exact(pair.question) and not asked.near(pair.question)
        )
        left_out[COPIES] += len(augmentation.qa) - len(own)
        if own:
            yield passage.id, dataclasses.replace(augmentation, qa=own)
        else:
            left_out[PAIRLESS] += 1
