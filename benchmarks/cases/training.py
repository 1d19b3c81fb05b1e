"""Speed of training: our step against PEFT's in a plain loop, and a pass with all options against one with none."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Bar, Case, Measured, alternate, ratio

if TYPE_CHECKING:
    from polyprag.config import Config
    from polyprag.knowledge.tasks import Pack
    from polyprag.records import Knowledge
    from polyprag.training.batches import Batch

ROUNDS, BATCHES = 7, 6
PASS_ROUNDS, PASSAGES = 3, 5
WORDS, PAIRS = 100, 5
LOOP = "in a plain loop, same data and batches"


def against_lora() -> Measured:
    """Our step against LoRA of the pool's total rank."""
    return _against_peft(_lora(), "experts.composition=sum")


def against_lora_labelled() -> Measured:
    """The same, where the plain loop computes logits at labelled positions only."""
    return _against_peft(_lora(), "experts.composition=sum", labelled_only=True)


def against_poly() -> Measured:
    """Our step with `factor`, which is what PEFT's Poly computes, against Poly."""
    from peft import PolyConfig

    from benchmarks.loops import pool_config

    config = pool_config()
    poly = PolyConfig(
        task_type="CAUSAL_LM",
        r=config.experts.rank,
        n_skills=config.experts.count,
        n_tasks=config.data.world.passages,
        n_splits=1,
        target_modules=list(config.experts.targets),
    )
    return _against_peft(poly, "experts.composition=factor", tasks=True)


def against_unpacked() -> Measured:
    """A pass over passages of 100 words with everything on, against the same sequences one by one with nothing on."""
    from benchmarks.loops import PoolLoop, pool_config, tokens_in
    from polyprag.knowledge.loading import load_knowledge
    from polyprag.training.batches import collate

    config = pool_config("tasks.alone_repeats=1", "training.epochs=1")
    knowledge = long_passages(load_knowledge(config.data), PASSAGES)
    loop = PoolLoop(config, knowledge)
    ours = loop.batches(len(loop.data.sampler()))
    alone = _unpacked(config, knowledge, loop.base.tokenizer)
    rows = -(-len(alone) // len(ours))  # as many steps and labels a step as ours
    theirs = [collate(alone[at : at + rows], loop.data.pad) for at in range(0, len(alone), rows)]
    seconds = alternate(
        {"ours": _pass(loop.step, ours), "theirs": _pass(loop.step_with_all_logits, theirs)}, PASS_ROUNDS
    )
    return ratio(
        seconds["theirs"],
        seconds["ours"],
        passages=PASSAGES,
        sequences=len(alone),
        tokens={"ours": tokens_in(ours), "theirs": tokens_in(theirs)},
        positions={"ours": _positions(ours), "theirs": _positions(theirs)},
        steps={"ours": len(ours), "theirs": len(theirs)},
        median_seconds={name: statistics.median(times) for name, times in seconds.items()},
    )


def long_passages(knowledge: Knowledge, count: int) -> Knowledge:
    """Passages of 100 words with a rewrite and five pairs each, put together from those of a corpus.

    Args:
        knowledge: short passages with augmentation.
        count: passages wanted; those at hand are used over and over.
    """
    import dataclasses
    from itertools import cycle

    from polyprag.records import Augmentation, Passage

    source, passages, augmentations = cycle(knowledge.passages), [], {}
    for number in range(count):
        texts, rewrites, pairs, words = [], [], [], 0
        while words < WORDS or len(pairs) < PAIRS:
            passage = next(source)
            own = knowledge.augmentations[passage.id]
            texts, words = [*texts, passage.text], words + len(passage.text.split())
            rewrites, pairs = [*rewrites, own.rewrites[0]], [*pairs, *own.qa[:PAIRS]]
        text, rewrite = (" ".join(" ".join(parts).split()[:WORDS]) for parts in (texts, rewrites))
        passages.append(Passage(f"long-{number}", f"Passage {number}", text))
        augmentations[passages[-1].id] = Augmentation(passages[-1].id, (rewrite,), tuple(pairs[:PAIRS]))
    return dataclasses.replace(knowledge, passages=tuple(passages), augmentations=augmentations, validation=(), test=())


def _lora() -> Any:
    """LoRA on the pool's layers with the pool's total rank."""
    from peft import LoraConfig

    from benchmarks.loops import pool_config

    experts = pool_config().experts
    rank = experts.count * experts.rank
    return LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=experts.scale * rank, target_modules=list(experts.targets)
    )


def _against_peft(adapter: Any, *overrides: str, labelled_only: bool = False, tasks: bool = False) -> Measured:
    """Tokens per second of our step over those of PEFT's under autocast: both multiply in the same number type."""
    from benchmarks.loops import PeftLoop, PoolLoop, pool_config, tokens_in
    from polyprag.knowledge.loading import load_knowledge

    config = pool_config(*overrides)
    ours = PoolLoop(config, load_knowledge(config.data))
    theirs = PeftLoop(config, adapter, labelled_only, tasks, autocast=True)
    usual = PeftLoop(config, adapter, labelled_only, tasks)
    batches = ours.batches(BATCHES)
    forms = {"ours": ours.step, "theirs": theirs.step, "theirs_float32": usual.step, "limit": ours.step_of_base}
    seconds = alternate({name: _pass(step, batches) for name, step in forms.items()}, ROUNDS)
    tokens = tokens_in(batches)
    return ratio(
        seconds["theirs"],
        seconds["ours"],
        tokens=tokens,
        against_float32=ratio(seconds["theirs_float32"], seconds["ours"]).value,
        limit="forward and backward of the frozen base model alone, labelled-only logits",
        share_of_limit=ratio(seconds["limit"], seconds["ours"]).value,
        tokens_per_second={name: tokens / statistics.median(times) for name, times in seconds.items()},
        trained_weights={
            "ours": sum(weight.numel() for weight in [*ours.module.experts, *ours.router.parameters()]),
            "theirs": theirs.trained,
        },
    )


def _pass(step: Callable[[Batch], None], batches: Sequence[Batch]) -> Callable[[], None]:
    """All batches, one step each."""

    def run() -> None:
        for batch in batches:
            step(batch)

    return run


def _unpacked(config: Config, knowledge: Knowledge, tokenizer: Any) -> list[Pack]:
    """Every sequence as a row of its own, shuffled."""
    import dataclasses
    import random

    from polyprag.knowledge.prompts import PromptWriter
    from polyprag.knowledge.tasks import build_tasks

    tasks = dataclasses.replace(config.tasks, pack_examples=1)
    rows = build_tasks(knowledge, tasks, PromptWriter(tokenizer))
    random.Random(config.run.seed).shuffle(rows)
    return rows


def _positions(batches: Sequence[Batch]) -> int:
    """Positions that some batches compute, padding included."""
    return sum(batch.tokens_BT.numel() for batch in batches)


CASES = (
    Case(
        "training_against_lora",
        "training tokens/s, sum",
        f"PEFT LoRA of rank 64 {LOOP}",
        Bar.at_least(1.2),
        against_lora,
    ),
    Case(
        "training_against_lora_labelled",
        "training tokens/s, sum",
        "that loop given labelled-only logits as well",
        Bar.at_least(1.0),
        against_lora_labelled,
    ),
    Case(
        "training_factor_against_poly",
        "training tokens/s, factor",
        f"PEFT Poly (16 skills, rank 4) {LOOP}",
        Bar.at_least(1.1),
        against_poly,
    ),
    Case(
        "training_pass_against_unpacked",
        "one pass over passages of 100 words, 5 pairs, with passage, with rewrite and alone, all options on",
        "the same sequences unpacked, shuffled without buckets, all logits",
        Bar.at_least(2.5),
        against_unpacked,
    ),
)
