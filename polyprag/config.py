"""The configuration: a dataclass tree of every key, its default, its allowed values and its explanation.

`polyprag.config_keys` walks the tree, `polyprag.config_loading` reads it from YAML and `key=value`, and
`polyprag.config_checks` refuses what cannot be right.
"""
# ruff: noqa: RUF009 - key() and section() return dataclass fields

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers that a key accepts, from `low` to `high`; an end marked open is itself refused."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        if value == math.inf or not self.low <= value <= self.high:
            return False
        return not (self.open_low and value == self.low) and not (self.open_high and value == self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low}" if self.open_low else f"{self.low} or more"
        low = f"above {self.low}" if self.open_low else f"from {self.low}"
        return f"{low} to below {self.high}" if self.open_high else f"{low} to {self.high}"


POSITIVE = Range(0, open_low=True)
NOT_NEGATIVE = Range(0)
ONE_OR_MORE = Range(1)
SHARE = Range(0, 1)
SEED = Range(0, 2**32 - 1)


def key(default: Any, help: str, allowed: Range | None = None) -> Any:
    """A configuration key: its default, the sentence that explains it in YAML and docs, and a number's range."""
    metadata = {"help": help, "allowed": allowed}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(factory: type[T], help: str) -> T:
    """A nested section of the configuration."""
    return dataclasses.field(default_factory=factory, metadata={"help": help})


class DataName(StrEnum):
    """Where passages and questions come from."""

    DEMO = "demo"
    JSONL = "jsonl"


class Quantisation(StrEnum):
    """How the base model's linear layers are stored."""

    NF4 = "nf4"
    NONE = "none"


class Dtype(StrEnum):
    """The number type that the base model computes in."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Composition(StrEnum):
    """How gated experts add up; see `polyprag.experts.pool`."""

    SUM = "sum"
    FACTOR = "factor"


class Granularity(StrEnum):
    """Which layers share a set of gates."""

    SHARED = "shared"
    BLOCK = "block"
    MODULE = "module"


class Normalisation(StrEnum):
    """How task logits become gates."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


class Recipe(StrEnum):
    """Which training sequences a passage gives."""

    DEFAULT = "default"
    PRAG = "prag"


class Loss(StrEnum):
    """Which tokens are labelled."""

    ANSWERS = "answers"
    ALL_TOKENS = "all_tokens"


class Combine(StrEnum):
    """How the gates of several retrieved passages become one set of gates."""

    AUTO = "auto"
    SUM = "sum"
    MEAN = "mean"
    SCORE = "score"


class MethodName(StrEnum):
    """The systems that evaluation compares, in the order of its table."""

    VANILLA = "vanilla"
    STANDARD_RAG = "standard_rag"
    PRAG = "prag"
    PRAG_COMBINE = "prag_combine"
    POLY_PRAG = "poly_prag"
    POLY_PRAG_COMBINE = "poly_prag_combine"
    POLY_PRAG_QUERY = "poly_prag_query"
    POLY_PRAG_QUERY_COMBINE = "poly_prag_query_combine"
    POLY_PRAG_HYBRID = "poly_prag_hybrid"
    POLY_PRAG_HYBRID_COMBINE = "poly_prag_hybrid_combine"
    GLOBAL_LORA = "global_lora"
    FORMAT_LORA = "format_lora"
    POLY_PRAG_ORACLE = "poly_prag_oracle"
    POLY_PRAG_ORACLE_COMBINE = "poly_prag_oracle_combine"
    POLY_PRAG_UNIFORM = "poly_prag_uniform"
    POLY_PRAG_UNIFORM_COMBINE = "poly_prag_uniform_combine"
    POLY_PRAG_AVERAGE = "poly_prag_average"
    POLY_PRAG_AVERAGE_COMBINE = "poly_prag_average_combine"
    POLY_PRAG_SHUFFLED = "poly_prag_shuffled"
    POLY_PRAG_SHUFFLED_COMBINE = "poly_prag_shuffled_combine"
    POLY_PRAG_RANDOM = "poly_prag_random"
    POLY_PRAG_RANDOM_COMBINE = "poly_prag_random_combine"


DEFAULT_METHODS = (
    *(MethodName.VANILLA, MethodName.STANDARD_RAG, MethodName.PRAG, MethodName.PRAG_COMBINE),
    *(MethodName.POLY_PRAG, MethodName.POLY_PRAG_COMBINE, MethodName.POLY_PRAG_QUERY, MethodName.POLY_PRAG_HYBRID),
    *(MethodName.POLY_PRAG_ORACLE, MethodName.POLY_PRAG_UNIFORM, MethodName.POLY_PRAG_SHUFFLED),
    MethodName.POLY_PRAG_RANDOM,
)
"""What needs no training beyond `python train.py`."""


class RouterDesign(StrEnum):
    """How the query router turns a question into gates."""

    ATTENTION = "attention"
    MLP = "mlp"


class AbstainTo(StrEnum):
    """What answers a question whose routing is not trusted."""

    BASE = "base"
    STANDARD_RAG = "standard_rag"


class WandbMode(StrEnum):
    """Where Weights & Biases writes."""

    AUTO = "auto"
    ONLINE = "online"
    OFFLINE = "offline"
    DISABLED = "disabled"


@dataclass
class RunConfig:
    """The run as a whole."""

    dir: str = key("", "folder of this run; empty means runs/ and the name of the config file")
    seed: int = key(0, "seed of everything random: initial weights, order of batches, Gumbel samples", SEED)
    threads: int = key(0, "CPU threads; 0 keeps torch's own choice", NOT_NEGATIVE)


@dataclass
class WorldConfig:
    """The demo world, a made-up corpus generated from a seed."""

    passages: int = key(40, "number of passages", Range(20, 1_000_000))
    seed: int = key(0, "seed of the world: names, facts, phrasings and questions", SEED)
    phrasings: int = key(2, "phrasings of each passage: the text itself and phrasings-1 rewrites", Range(1, 4))
    qa_per_fact: int = key(2, "differently worded training pairs for each fact", Range(1, 4))
    questions: int = key(
        200, "test questions in all, spread over the question types; 0 means as many as there are", NOT_NEGATIVE
    )
    validation_questions: int = key(
        60, "validation questions in all, from templates and facts apart from the test's", NOT_NEGATIVE
    )


@dataclass
class DataConfig:
    """Passages, augmentation and questions."""

    name: DataName = key(DataName.DEMO, "demo: the generated world of data.world; jsonl: the files named below")
    path: str = key("", "corpus as JSON lines; empty: the passages that come with the questions")
    augmentation: str = key("", "augmentation as JSON lines; empty: the pairs (`qas`) that come with the passages")
    questions: str = key("", "questions as JSON lines; empty: the pairs of each passage beyond data.train_qas")
    train_qas: int = key(
        3, "pairs of each passage that are trained on, where passages carry their own pairs", NOT_NEGATIVE
    )
    skip_passages: int = key(0, "passages to leave out at the beginning of the corpus (jsonl only)", NOT_NEGATIVE)
    max_passages: int = key(0, "use only the first passages of the corpus; 0 means all", NOT_NEGATIVE)
    limit: int = key(0, "number of test questions, drawn stratified over question types; 0 means all", NOT_NEGATIVE)
    limit_seed: int = key(0, "seed of that draw and of the validation split", SEED)
    types: list[str] = key([], "question types to keep; empty means all")
    validation_questions: int = key(
        40, "questions set apart for choices, never scored as test questions (jsonl only)", NOT_NEGATIVE
    )
    world: WorldConfig = section(WorldConfig, "the demo world")


@dataclass
class BaseConfig:
    """The frozen base model."""

    model: str = key("smollm2-135m", "local folder, hub id, or the built-in smollm2-135m")
    quantisation: Quantisation = key(Quantisation.NF4, "nf4 (4-bit, bitsandbytes) or none")
    dtype: Dtype = key(Dtype.BFLOAT16, "number type of computation: bfloat16, float16 or float32")
    revision: str = key("", "revision of a hub model; empty means its default")


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
    accelerator: str = key("auto", "Lightning accelerator: auto, cpu, gpu")
    devices: int = key(1, "devices that train together", ONE_OR_MORE)
    strategy: str = key("auto", "Lightning strategy: auto, ddp, ...")


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
    lm_steps: int = key(0, "steps of fine-tuning through the language-model loss, with the pool frozen", NOT_NEGATIVE)
    lm_batch_size: int = key(16, "training questions of such a step", ONE_OR_MORE)
    lm_learning_rate: float = key(3e-4, "learning rate of everything in these steps", POSITIVE)
    validate_every: int = key(25, "steps between looks at held-back questions; the best state is kept", ONE_OR_MORE)
    held_back: float = key(
        0.1, "share of training questions held back where no validation question names its passage", SHARE
    )


@dataclass
class AnsweringConfig:
    """From a question to an answer; shared by all methods."""

    passages: int = key(
        0, "retrieved passages per question; 0: chosen per method on validation questions", NOT_NEGATIVE
    )
    expand_index: bool = key(
        False, "search passages together with their rewrites and training questions (document expansion)"
    )
    combine: Combine = key(Combine.AUTO, "how passages' gates are combined; auto: chosen on validation questions")
    abstain_below: float = key(
        0.0, "margin between the first two passages below which a routing is not trusted; 0 trusts all", SHARE
    )
    abstain_to: AbstainTo = key(
        AbstainTo.BASE, "what answers then: the base model alone, or standard_rag, without examples"
    )
    shots: int = key(
        -1, "short-answer examples in the prompts of untrained methods; -1: chosen on validation questions", Range(-1)
    )
    max_new_tokens: int = key(20, "longest answer, in tokens", ONE_OR_MORE)
    batch_size: int = key(16, "questions answered at once where a method allows it", ONE_OR_MORE)


@dataclass
class PragConfig:
    """One-to-one PRAG: an adapter per passage, on PEFT."""

    rank: int = key(2, "rank of each adapter", ONE_OR_MORE)
    alpha: float = key(32.0, "LoRA alpha", POSITIVE)
    learning_rate: float = key(3e-4, "learning rate of each adapter", POSITIVE)
    epochs: int = key(1, "passes over a passage's sequences", ONE_OR_MORE)
    batch_size: int = key(1, "sequences per step", ONE_OR_MORE)
    recipe: Recipe = key(Recipe.PRAG, "prag: its five sequences; default: the pool's sequences")
    loss: Loss = key(Loss.ALL_TOKENS, "all_tokens as in the official code, or answers")
    targets: list[str] = key(["gate_proj", "up_proj", "down_proj"], "names of the linear layers that carry adapters")


@dataclass
class ControlsConfig:
    """Controls without routing, trained by `python train.py controls`."""

    outside: str = key(
        "", "JSON lines of passages with pairs that are not in the corpus, for format_lora; empty: what is left over"
    )
    passages: int = key(20, "most of these passages that format_lora is trained on", ONE_OR_MORE)


@dataclass
class EvaluationConfig:
    """What is compared, and how it is judged."""

    methods: list[MethodName] = key(list(DEFAULT_METHODS), "methods to run, in the order of the table")
    dir: str = key("evaluation", "folder within the run for answers and results; another one for other questions")
    bootstrap: int = key(10000, "resamples behind each 95 % interval", Range(100))
    seed: int = key(0, "seed of the bootstrap and of the shuffled and random gates", SEED)
    choose_questions: int = key(
        40, "validation questions on which choices left open are made; 0 takes defaults", NOT_NEGATIVE
    )
    question: str = key("", "the question that `evaluate.py inspect` looks into; `question=` for short")


@dataclass
class LoggingConfig:
    """Where training curves go; CSV is always written."""

    wandb: WandbMode = key(
        WandbMode.AUTO, "auto: online when WANDB_API_KEY is set or under `wandb agent`, else offline; or disabled"
    )
    project: str = key("polyprag", "Weights & Biases project")
    group: str = key("", "Weights & Biases group; a sweep puts its own name here")
    every_steps: int = key(5, "steps between logged points", ONE_OR_MORE)


@dataclass
class Config:
    """All of it."""

    run: RunConfig = section(RunConfig, "the run as a whole")
    data: DataConfig = section(DataConfig, "passages, augmentation and questions")
    base: BaseConfig = section(BaseConfig, "the frozen base model")
    experts: ExpertsConfig = section(ExpertsConfig, "the pool of LoRA experts")
    routing: RoutingConfig = section(RoutingConfig, "the task router")
    tasks: TasksConfig = section(TasksConfig, "training sequences")
    training: TrainingConfig = section(TrainingConfig, "the joint training")
    router: RouterConfig = section(RouterConfig, "the query router, trained after the pool")
    answering: AnsweringConfig = section(AnsweringConfig, "from question to answer")
    prag: PragConfig = section(PragConfig, "the one-to-one baseline")
    controls: ControlsConfig = section(ControlsConfig, "controls without routing")
    evaluation: EvaluationConfig = section(EvaluationConfig, "comparison and judgement")
    logging: LoggingConfig = section(LoggingConfig, "training curves")
