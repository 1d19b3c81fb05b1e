"""The words that configuration keys accept."""

from __future__ import annotations

from enum import StrEnum


class DataName(StrEnum):
    """Where passages and questions come from."""

    DEMO = "demo"
    JSONL = "jsonl"
    WIKI2 = "2wikimultihopqa"
    HOTPOTQA = "hotpotqa"
    POPQA = "popqa"
    CWQ = "complexwebquestions"


BENCHMARKS = frozenset({DataName.WIKI2, DataName.HOTPOTQA, DataName.POPQA, DataName.CWQ})
"""Data sets that are read from their published files."""


class DataPart(StrEnum):
    """Which questions of a benchmark are used."""

    TEST = "test"
    OUTSIDE = "outside"


class OnBadRow(StrEnum):
    """What a row that cannot be used leads to."""

    FAIL = "fail"
    SKIP = "skip"


class SplitUnit(StrEnum):
    """What the length of a passage is counted in."""

    WORDS = "words"
    TOKENS = "tokens"
    OFF = "off"


class AugmentBy(StrEnum):
    """Who writes rewrites and question-answer pairs."""

    NONE = "none"
    SERVER = "server"
    LOCAL = "local"
    FILE = "file"
    EXTRACTIVE = "extractive"


class Fill(StrEnum):
    """What takes the place of pairs of which none is left."""

    EXTRACTIVE = "extractive"
    NONE = "none"


class Structured(StrEnum):
    """How a server is asked for JSON."""

    AUTO = "auto"
    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    OFF = "off"


class Grounding(StrEnum):
    """What ties an answer to its passage."""

    EXPLAINED = "explained"
    STRICT = "strict"
    OFF = "off"


class KeySearch(StrEnum):
    """How a question finds the passage keys that it attends to."""

    AUTO = "auto"
    EXACT = "exact"
    CODES = "codes"


class RetrievalBackend(StrEnum):
    """What finds passages."""

    BM25 = "bm25"
    ELASTICSEARCH = "elasticsearch"
    DENSE = "dense"


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


class PromptStyle(StrEnum):
    """How prompts ask, and so what is trained to follow them."""

    DIRECT = "direct"
    COT = "cot"


class AdapterPer(StrEnum):
    """What has a one-to-one adapter of its own."""

    PASSAGE = "passage"
    QUESTION_PASSAGE = "question_passage"


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
    DA_RAG = "da_rag"
    FLARE = "flare"
    DRAGIN = "dragin"
    STANDARD_RAG_FORMAT = "standard_rag_format"
    DA_RAG_FORMAT = "da_rag_format"
    FLARE_FORMAT = "flare_format"
    DRAGIN_FORMAT = "dragin_format"
    PRAG = "prag"
    PRAG_COMBINE = "prag_combine"
    DYPRAG = "dyprag"
    DYPRAG_COMBINE = "dyprag_combine"
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
