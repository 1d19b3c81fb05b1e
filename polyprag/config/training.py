"""Keys of what is trained: base model, pool, task router, query router, warm-up and controls."""
# ruff: noqa: RUF009 - key() and section() return dataclass fields

from __future__ import annotations

from dataclasses import dataclass

from polyprag.config.choices import (
    Composition,
    Dtype,
    Granularity,
    KeySearch,
    Loss,
    Normalisation,
    Quantisation,
    Recipe,
    RouterDesign,
)
from polyprag.config.fields import NOT_NEGATIVE, ONE_OR_MORE, POSITIVE, SHARE, Range, key


@dataclass
class BaseConfig:
    """The frozen base model."""

    model: str = key("smollm2-135m", "local folder, hub id, or the built-in smollm2-135m")
    quantisation: Quantisation = key(Quantisation.NF4, "nf4 (4-bit, bitsandbytes) or none")
    dtype: Dtype = key(Dtype.BFLOAT16, "number type of computation: bfloat16, float16 or float32")
    revision: str = key("", "revision of a hub model; empty means its default")
    unpacked: bool = key(
        False,
        "hold nf4 weights unpacked, in dtype: the same numbers, faster on a CPU, in four times the memory",
        in_repr=False,
    )


@dataclass
class ExpertsConfig:
    """The pool of latent LoRA experts."""

    count: int = key(8, "experts in the pool, K", ONE_OR_MORE)
    rank: int = key(8, "rank of each expert, R", ONE_OR_MORE)
    scale: float = key(2.0, "factor on the experts' output (alpha / r of a LoRA)", POSITIVE)
    composition: Composition = key(Composition.SUM, "sum: gated sum of B A; factor: (gated sum of B)(gated sum of A)")
    targets: list[str] = key(["gate_proj", "up_proj", "down_proj"], "names of the linear layers that carry experts")
    first_layer: int = key(0, "first transformer block that carries experts, counted from 0", NOT_NEGATIVE)
    shared: int = key(0, "rank of an expert beside the pool that speaks under all gates; 0 means none", NOT_NEGATIVE)
    orthogonality: float = key(
        0.0, "weight of the penalty on experts that are not orthogonal to the shared one", NOT_NEGATIVE
    )


@dataclass
class RoutingConfig:
    """The task router: from a passage's task id to its gates."""

    granularity: Granularity = key(Granularity.MODULE, "layers that share gates: shared (all), block, or module (none)")
    normalisation: Normalisation = key(Normalisation.SIGMOID, "sigmoid (normalised to sum 1) or softmax")
    top_k: int = key(0, "keep only the k largest gates, renormalised; 0 keeps all", NOT_NEGATIVE)
    gumbel: bool = key(False, "sample relaxed Bernoulli gates in training")
    temperature: float = key(1.0, "temperature of that sampling", POSITIVE)
    init: float = key(
        4.0, "task logits start uniform in [-init, init]; wide, so that passages differ from the start", NOT_NEGATIVE
    )
    merge_in_training: float = key(
        0.0, "share of training rows whose gates are merged with those of similar passages", SHARE
    )
    merge_passages: int = key(3, "passages merged in such a row, its own included", ONE_OR_MORE)
    load_balance: float = key(0.0, "weight of the loss that spreads a batch's gates over all experts", NOT_NEGATIVE)
    entropy: float = key(0.0, "weight of the loss that makes each passage's gates concentrate", NOT_NEGATIVE)
    z_loss: float = key(0.0, "weight of the loss that keeps task logits small", NOT_NEGATIVE)
    reseed_below: float = key(
        0.0,
        "share of balanced use below which an expert is dead and seeded anew (with top_k: if no passage chooses it); "
        "0 turns that off",
        SHARE,
    )
    reseed_every: int = key(100, "optimiser steps between two looks for dead experts", ONE_OR_MORE)


@dataclass
class TasksConfig:
    """Training sequences of a passage."""

    recipe: Recipe = key(
        Recipe.DEFAULT, "default: each pair alone, with the passage, with each rewrite; prag: its five"
    )
    alone_repeats: int = key(1, "times each pair alone occurs in a pass of the default recipe", Range(1))
    loss: Loss = key(Loss.ANSWERS, "label answers only, or all tokens as PRAG does")
    passage_text: bool = key(False, "also train the passage and its rewrites as plain text, given the title")
    max_tokens: int = key(1024, "longest training sequence; a longer one loses the front of its prompt", Range(16))
    pack_examples: int = key(6, "most sequences of a passage packed behind one common beginning", ONE_OR_MORE)


@dataclass
class WarmUpConfig:
    """Warm-up: initial weights from outside questions, as in PRAG's second table."""

    pool: bool = key(False, "start the pool's experts from a training on outside passages")
    prag: bool = key(False, "start PRAG's adapters from one adapter trained on outside pairs")
    pairs: int = key(600, "most outside question-answer pairs to train on; about 600 in PRAG's paper", Range(20))
    epochs: int = key(1, "passes over them", ONE_OR_MORE)


@dataclass
class TrainingConfig:
    """The joint training of pool and task router."""

    epochs: int = key(10, "passes over all training sequences", ONE_OR_MORE)
    max_steps: int = key(-1, "stop after this many optimiser steps; -1 means no limit", Range(-1))
    batch_tokens: int = key(512, "tokens of a batch, padding included", Range(16))
    learning_rate: float = key(3e-3, "learning rate of the experts", POSITIVE)
    router_learning_rate: float = key(
        0.1, "learning rate of the task router, about a hundred times the experts'", POSITIVE
    )
    warmup: float = key(0.06, "share of all steps in which the learning rates rise", Range(0, 1, open_high=True))
    weight_decay: float = key(0.0, "weight decay of the experts; the task router has none", NOT_NEGATIVE)
    clip: float = key(1.0, "largest norm of the experts' gradient; 0 turns clipping off", NOT_NEGATIVE)
    accumulate: int = key(1, "batches whose gradients are added up for one optimiser step", ONE_OR_MORE)
    gradient_checkpointing: bool = key(False, "recompute activations in the backward pass, to save memory")
    validate_every: int = key(1, "epochs between validations; 0 turns validation off", NOT_NEGATIVE)
    validation_questions: int = key(24, "validation questions answered closed-book at each validation", NOT_NEGATIVE)
    checkpoint_minutes: float = key(
        5.0, "minutes between checkpoints; one is also written at the end, and on SIGINT or SIGTERM", POSITIVE
    )
    accelerator: str = key("auto", "auto: a CUDA GPU where there is one; cpu; gpu or cuda: a GPU or nothing")
    devices: int = key(1, "devices of a machine that train together, each with a process of its own", ONE_OR_MORE)
    nodes: int = key(1, "machines that train together; srun or torchrun starts the processes then", ONE_OR_MORE)
    strategy: str = key(
        "auto", "auto or ddp: every process holds the base model; fsdp: its blocks are spread over the processes"
    )


@dataclass
class RouterConfig:
    """The query router: from a question to gates, without retrieval."""

    after_pool: bool = key(True, "train the query router right after the pool, in the same call")
    design: RouterDesign = key(
        RouterDesign.ATTENTION, "attention over passage keys, or mlp from the question straight to gates"
    )
    encoder: str = key("", "sentence-transformers model that represents questions; empty: the frozen base model")
    layers: int = key(
        0, "first transformer blocks of the base that represent a question; 0: its token embeddings, -1: all", Range(-1)
    )
    steps: int = key(150, "steps that distil the task rows from questions", ONE_OR_MORE)
    batch_size: int = key(256, "questions of such a step", ONE_OR_MORE)
    learning_rate: float = key(1e-3, "learning rate of the projection, or of the mlp", POSITIVE)
    token_learning_rate: float = key(0.03, "learning rate of the token weights", NOT_NEGATIVE)
    token_dropout: float = key(0.2, "share of a question's tokens left out in training", Range(0, 1, open_high=True))
    identity: float = key(0.1, "weight of the projection's squared distance from the identity", NOT_NEGATIVE)
    sentences: bool = key(True, "also learn from the sentences of passages and rewrites, as if they were questions")
    hidden: int = key(512, "hidden units of the mlp", ONE_OR_MORE)
    search: KeySearch = key(
        KeySearch.AUTO,
        "how a question finds the passage keys that it attends to; exact: among all; codes: among those whose signs "
        "are nearest; auto: codes from 50,000 passages on",
    )
    lm_steps: int = key(0, "steps of fine-tuning through the language-model loss, with the pool frozen", NOT_NEGATIVE)
    lm_batch_size: int = key(16, "training questions of such a step", ONE_OR_MORE)
    lm_learning_rate: float = key(3e-4, "learning rate of everything in these steps", POSITIVE)
    validate_every: int = key(25, "steps between looks at held-back questions; the best state is kept", ONE_OR_MORE)
    held_back: float = key(
        0.1, "share of training questions held back where no validation question names its passage", SHARE
    )


@dataclass
class TranslatorConfig:
    """DyPRAG's parameter translator: from a passage's hidden state to its adapter, trained on outside adapters."""

    passages: int = key(
        200,
        "most outside passages whose adapters (prag.*) it learns from; of a benchmark, questions; the official code "
        "takes three passages for each of 200 questions a sub-set",
        ONE_OR_MORE,
    )
    hidden: int = key(32, "hidden units of each of its networks; 32 in the official code", ONE_OR_MORE)
    init: float = key(1e-7, "standard deviation of its first weights; 1e-7 in the official code", POSITIVE)
    scale: float = key(
        0.0,
        "factor on a translated update; 0: alpha / rank, as PRAG's adapters have; 1 in the official code",
        NOT_NEGATIVE,
    )
    epochs: int = key(1, "passes over the outside passages; 1 in the official code", ONE_OR_MORE)
    batch_size: int = key(1, "passages of a step; 1 in the official code", ONE_OR_MORE)
    sequences: int = key(
        1,
        "sequences of a passage (prag.recipe) in a step, the first ones; 0: all; 1 in the official code",
        NOT_NEGATIVE,
    )
    learning_rate: float = key(1e-5, "learning rate; 1e-5 in the official code", POSITIVE)
    mse: float = key(
        100.0, "weight of the squared distance from PRAG's weights; 100 in the official code", NOT_NEGATIVE
    )
    kl: float = key(
        0.01, "weight of the divergence from the answers under PRAG's weights; 0.01 in the official code", NOT_NEGATIVE
    )
    composition: Composition = key(
        Composition.SUM,
        "sum: passages' updates add up, as in PRAG; factor: (mean B)(mean A), as in the official code",
    )


@dataclass
class ControlsConfig:
    """Controls without routing, trained by `python train.py controls`."""

    passages: int = key(20, "most outside passages (data.outside) that format_lora is trained on", ONE_OR_MORE)
