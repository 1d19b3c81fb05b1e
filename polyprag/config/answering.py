"""Keys of how questions are answered and answers judged, and of the run as a whole."""
# ruff: noqa: RUF009 - key() and section() return dataclass fields

from __future__ import annotations

from dataclasses import dataclass

from polyprag.config.choices import (
    DEFAULT_METHODS,
    AbstainTo,
    AdapterPer,
    Combine,
    Loss,
    MethodName,
    OnBadRow,
    PromptStyle,
    Recipe,
    RetrievalBackend,
    WandbMode,
)
from polyprag.config.fields import NOT_NEGATIVE, ONE_OR_MORE, POSITIVE, SEED, SHARE, Range, key


@dataclass
class RunConfig:
    """The run as a whole."""

    dir: str = key("", "folder of this run; empty means runs/ and the name of the config file")
    seed: int = key(0, "seed of everything random: initial weights, order of batches, Gumbel samples", SEED)
    threads: int = key(0, "CPU threads; 0 keeps torch's own choice", NOT_NEGATIVE)
    shard: str = key(
        "", "share of the questions, or of the passages to augment, that this call does, such as 0/4; empty: all"
    )


@dataclass
class RetrievalConfig:
    """What finds passages for a question."""

    backend: RetrievalBackend = key(RetrievalBackend.BM25, "bm25; elasticsearch and dense are optional installs")
    titles: bool = key(True, "search titles as if they stood before the text")
    url: str = key("http://localhost:9200", "elasticsearch: address of the server")
    index: str = key("polyprag", "elasticsearch: beginning of the index's name, which ends in the corpus's fingerprint")
    encoder: str = key(
        "sentence-transformers/all-MiniLM-L6-v2", "dense: sentence-transformers model, local folder or hub id"
    )


@dataclass
class AnsweringConfig:
    """From a question to an answer; shared by all methods."""

    prompt: PromptStyle = key(
        PromptStyle.DIRECT,
        "direct: the answer at once; cot: a chain of thought after examples, for training and for all methods",
    )
    passages: int = key(
        0, "retrieved passages per question; 0: chosen per method on validation questions", NOT_NEGATIVE
    )
    expand_index: bool = key(
        False, "search passages together with their rewrites and training questions (document expansion)"
    )
    key_share: float = key(
        0.01, "share of the passages whose keys a question is weighed against, where router.search is codes", SHARE
    )
    combine: Combine = key(Combine.AUTO, "how passages' gates are combined; auto: chosen on validation questions")
    combine_scale: float = key(
        1.0, "factor on the strength of adapters and experts where prompts show passages as well", NOT_NEGATIVE
    )
    abstain_below: float = key(
        0.0, "margin between the first two passages below which a routing is not trusted; 0 trusts all", SHARE
    )
    abstain_to: AbstainTo = key(
        AbstainTo.BASE, "what answers then: the base model alone, or standard_rag, without examples"
    )
    shots: int = key(
        -1,
        "short-answer examples in the direct prompts of untrained methods; -1: chosen on validation questions",
        Range(-1),
    )
    max_new_tokens: int = key(
        20, "longest answer, in tokens; 128 for chains of thought as in PRAG's paper, 64 at least", ONE_OR_MORE
    )
    batch_size: int = key(16, "answers in the making at once where a method allows it", ONE_OR_MORE)


@dataclass
class FlareConfig:
    """FLARE: looking ahead a sentence."""

    threshold: float = key(
        0.8, "probability of a token below which its sentence is looked up and written anew; 0 never does", SHARE
    )
    mask: float = key(0.4, "probability of a token below which the query leaves it out; 0 leaves none out", SHARE)
    with_question: bool = key(
        False, "put the question before the masked sentence in the query; the paper's queries do without"
    )


@dataclass
class DraginConfig:
    """DRAGIN: retrieving where a word needs it."""

    threshold: float = key(
        1.2,
        "a word's entropy times its relative attention above which the answer is cut there; 0.75 to 1.4 in "
        "the official configurations",
        NOT_NEGATIVE,
    )
    query_tokens: int = key(
        40,
        "words of a query, those that the last token attends to most; 25 to 40 in the official configurations",
        ONE_OR_MORE,
    )


@dataclass
class PragConfig:
    """One-to-one PRAG: an adapter per passage, on PEFT."""

    rank: int = key(2, "rank of each adapter", ONE_OR_MORE)
    alpha: float = key(32.0, "LoRA alpha", POSITIVE)
    learning_rate: float = key(3e-4, "learning rate of each adapter", POSITIVE)
    epochs: int = key(1, "passes over a passage's sequences; 0: as many as the pool has taken", NOT_NEGATIVE)
    batch_size: int = key(1, "sequences per step", ONE_OR_MORE)
    recipe: Recipe = key(Recipe.PRAG, "prag: its five sequences; default: the pool's sequences")
    loss: Loss = key(Loss.ALL_TOKENS, "all_tokens as in the official code, or answers")
    targets: list[str] = key(["gate_proj", "up_proj", "down_proj"], "names of the linear layers that carry adapters")
    per: AdapterPer = key(
        AdapterPer.PASSAGE,
        "passage: one adapter for all questions; question_passage: one for each question that retrieves the passage, "
        "as in the official code",
        in_repr=False,
    )
    parallel: int = key(
        8,
        "adapters trained at once, each by its own steps; decides speed and memory, and rounding",
        ONE_OR_MORE,
        in_repr=False,
    )


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
    judge: str = key(
        "",
        "language model that judges answers, by its name at an OpenAI-compatible server; empty: none",
    )
    judge_url: str = key("http://localhost:8000/v1", "base URL of that server")
    judge_key_env: str = key("OPENAI_API_KEY", "environment variable that holds that server's key; may be unset")
    judge_prompt: str = key("", "prompt file of your own for the judge; empty: the one that comes with polyprag")
    judge_max_tokens: int = key(512, "the judge's longest reply, in tokens, thoughts included", ONE_OR_MORE)
    judge_concurrency: int = key(8, "requests to the judge under way at once", ONE_OR_MORE)
    judge_requests_per_minute: int = key(0, "most requests to the judge a minute; 0 means no limit", NOT_NEGATIVE)
    judge_retries: int = key(6, "further tries of a verdict that fails or cannot be read, with back-off", NOT_NEGATIVE)
    judge_timeout: float = key(120.0, "seconds that a verdict may take", POSITIVE)
    judge_on_failure: OnBadRow = key(
        OnBadRow.FAIL, "what an answer leads to that stays without a verdict after all tries; skip: it is left out"
    )
    judge_cache: str = key("", "folder where verdicts are kept for all runs; empty: beside the cached models")


@dataclass
class LoggingConfig:
    """Where training curves go; CSV is always written."""

    wandb: WandbMode = key(
        WandbMode.AUTO, "auto: online when WANDB_API_KEY is set or under `wandb agent`, else offline; or disabled"
    )
    project: str = key("polyprag", "Weights & Biases project")
    group: str = key("", "Weights & Biases group; a sweep puts its own name here")
    every_steps: int = key(5, "steps between logged points", ONE_OR_MORE)
