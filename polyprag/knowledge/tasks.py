"""Training sequences: what each passage, as one task, teaches.

Sequences of a task that begin alike (the same system turn, the same passage) are packed behind one copy of that
beginning. A mask keeps the branches apart and positions start again at the fork, so the loss of a pack is exactly
that of its sequences one by one, at a fraction of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polyprag.config import Loss, Recipe, TasksConfig
from polyprag.errors import DataError
from polyprag.knowledge.prompts import PromptWriter, with_title
from polyprag.records import Augmentation, Knowledge, Passage


@dataclass(frozen=True)
class Example:
    """One training sequence.

    Attributes:
        prompt: token ids before the answer.
        answer: token ids of the answer, end of turn included unless the recipe leaves it out.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole sequence."""
        return self.prompt + self.answer


@dataclass(frozen=True)
class Pack:
    """Several examples of one task behind a common beginning.

    Attributes:
        task: index of the passage.
        tokens: the common beginning, then the rest of each example.
        positions: position of each token in its own example.
        branches: 0 for the common beginning, then 1, 2, … for the examples' own tokens.
        sources: indices of tokens whose next token is labelled; an index may occur for several branches.
        targets: the labels, as many as `sources`.
    """

    task: int
    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    branches: tuple[int, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)


def examples_of(
    passage: Passage, augmentation: Augmentation, config: TasksConfig, writer: PromptWriter
) -> list[list[Example]]:
    """The training sequences of one passage by the configured recipe, grouped by what can share a beginning.

    `default` trains every pair alone (`tasks.alone_repeats` times), with the passage, and with each rewrite. `prag`
    gives the sequences of the official PRAG code (arXiv 2501.15915): the first half of the pairs, rounded up, once
    with the passage and once with the first rewrite; the other pairs alone; in that order; the end of the turn is
    not trained.

    Raises:
        DataError: the augmentation has no pairs, or too few for the recipe.
    """
    pairs = augmentation.qa
    if not pairs and not config.passage_text:
        raise DataError(f"passage {passage.id!r} has no question-answer pairs to train on; give `qas` or augmentation")
    contexts = [with_title(passage), *(with_title(Passage("", passage.title, text)) for text in augmentation.rewrites)]
    if config.recipe is Recipe.PRAG:
        half = (len(pairs) + 1) // 2
        groups = [([pair], [context]) for pair in pairs[:half] for context in contexts[:2]]
        groups += [([pair], []) for pair in pairs[half:]]
    else:
        shown_with = [*([[]] * config.alone_repeats), *([context] for context in contexts)]
        groups = [(list(pairs), shown) for shown in shown_with if pairs]
    ending = -1 if config.recipe is Recipe.PRAG else None
    sequences = [
        [Example(tuple(writer.question(p.question, shown)), tuple(writer.target(p)[:ending])) for p in chosen]
        for chosen, shown in groups
    ]
    if config.passage_text:
        texts = [passage.text, *augmentation.rewrites]
        sequences.append([Example(*map(tuple, writer.text(passage, text))) for text in texts])
    return sequences


def pack(task: int, examples: Sequence[Example], config: TasksConfig) -> list[Pack]:
    """Pack examples of one task behind their longest common beginning.

    Args:
        task: index of the passage.
        examples: sequences of that passage.
        config: `loss` labels the answers only, or every token but the first; `pack_examples` and `max_tokens` limit
            a pack, and more examples start another. A single example that is longer than `max_tokens` loses tokens
            from the front of its prompt.

    Returns:
        As few packs as the examples fit into, in order.
    """
    packs: list[Pack] = []
    waiting: list[Example] = []
    for example in (_shortened(example, config.max_tokens) for example in examples):
        full = len(waiting) == config.pack_examples
        if waiting and (full or _packed_length([*waiting, example]) > config.max_tokens):
            packs.append(_pack_all(task, waiting, config.loss))
            waiting = []
        waiting.append(example)
    return [*packs, _pack_all(task, waiting, config.loss)] if waiting else packs


def build_tasks(knowledge: Knowledge, config: TasksConfig, writer: PromptWriter) -> list[Pack]:
    """All packs of all passages; the task of a pack is the index of its passage.

    Raises:
        DataError: a passage has nothing to train on.
    """
    packs = []
    for task, passage in enumerate(knowledge.passages):
        augmentation = knowledge.augmentations.get(passage.id, Augmentation(passage.id))
        for group in examples_of(passage, augmentation, config, writer):
            packs.extend(pack(task, group, config))
    return packs


def _shortened(example: Example, max_tokens: int) -> Example:
    excess = len(example.tokens) - max_tokens
    if excess <= 0:
        return example
    if excess < len(example.prompt):
        return Example(example.prompt[excess:], example.answer)
    return Example(example.prompt[-1:], example.answer[: max_tokens - 1])


def _common_beginning(examples: Sequence[Example]) -> int:
    """Length of the longest beginning that all prompts share."""
    shortest = min(len(example.prompt) for example in examples)
    if len(examples) == 1:
        return shortest
    columns = zip(*(example.prompt for example in examples), strict=False)
    return next((at for at, column in enumerate(columns) if len(set(column)) > 1), shortest)


def _packed_length(examples: Sequence[Example]) -> int:
    shared = _common_beginning(examples)
    return shared + sum(len(example.tokens) - shared for example in examples)


def _labelled(example: Example, loss: Loss) -> Iterable[int]:
    """Positions in an example whose next token is labelled."""
    first = 0 if loss is Loss.ALL_TOKENS else len(example.prompt) - 1
    return range(first, len(example.tokens) - 1)


def _pack_all(task: int, examples: Sequence[Example], loss: Loss) -> Pack:
    shared = _common_beginning(examples)
    tokens = list(examples[0].tokens[:shared])
    positions, branches = list(range(shared)), [0] * shared
    sources: list[int] = []
    targets: list[int] = []
    for branch, example in enumerate(examples, 1):
        shift = len(tokens) - shared
        tokens.extend(example.tokens[shared:])
        positions.extend(range(shared, len(example.tokens)))
        branches.extend([branch] * (len(example.tokens) - shared))
        for at in _labelled(example, loss):
            sources.append(at if at < shared else at + shift)
            targets.append(example.tokens[at + 1])
    return Pack(task, *map(tuple, (tokens, positions, branches, sources, targets)))
