"""Keys of what a run knows: passages, questions, augmentation."""
# ruff: noqa: RUF009 - key() and section() return dataclass fields

from __future__ import annotations

from dataclasses import dataclass

from polyprag.config.choices import AugmentBy, DataName, DataPart, Fill, Grounding, OnBadRow, SplitUnit, Structured
from polyprag.config.fields import NOT_NEGATIVE, ONE_OR_MORE, POSITIVE, SEED, Range, key, section


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
class SplittingConfig:
    """Documents to passages."""

    unit: SplitUnit = key(
        SplitUnit.WORDS, "length of a passage in words, or in the base model's tokens; off: no splitting"
    )
    size: int = key(100, "most words or tokens of a passage; 100 words as in DPR", Range(8))
    sentences: bool = key(True, "end passages at sentence ends where one lies in the second half of a passage")
    rows: bool = key(False, "also split the rows of JSON lines, CSV, TSV and datasets; those with pairs never are")


@dataclass
class DataConfig:
    """Passages, augmentation and questions."""

    name: DataName = key(
        DataName.DEMO,
        "demo: the generated world of data.world; jsonl: files of your own, of any kind that data.path takes; or a "
        "benchmark in its published files",
    )
    path: str = key(
        "",
        "jsonl: the corpus, a file of JSON lines, CSV, TSV, plain text or Markdown, a folder of these, or "
        "hf:NAME_OR_FOLDER for a dataset, or a file or folder in PRAG's released layout; empty: the passages that come "
        "with the questions. Benchmarks: the published file or its folder, or hf:NAME",
    )
    subset: str = key("", "configuration (subset) of a hf: dataset; empty means its default")
    split: str = key("", "split of a hf: dataset; empty means its only one, or the one that the benchmark's papers use")
    text_column: str = key("text", "column of the passages' text in CSV, TSV and datasets")
    title_column: str = key("title", "column of their title; rows may lack it")
    id_column: str = key("id", "column of their id; rows may lack it")
    on_bad_row: OnBadRow = key(
        OnBadRow.FAIL, "fail: a row that cannot be used ends the run; skip: it is counted and left out"
    )
    augmentation: str = key(
        "",
        "augmentation: JSON lines, or a file or folder in PRAG's released layout; empty: what `train.py augment` has "
        "made for this run, and the pairs (`qas`) that come with the passages",
    )
    questions: str = key("", "questions as JSON lines; empty: the pairs of each passage beyond data.train_qas")
    collection: str = key(
        "",
        "passages from which a benchmark's corpus is retrieved by BM25: DPR's psgs_w100.tsv, or any form of data.path; "
        "empty: the passages that come with the questions",
    )
    collection_index: str = key(
        "", "folder of that collection's index, made when missing; empty: beside the cached models"
    )
    retrieved: int = key(
        0,
        "keep only the passages among the first so many that BM25 finds for a test or validation question, as PRAG "
        "encodes them; 0 keeps all",
        NOT_NEGATIVE,
    )
    train_qas: int = key(
        3, "pairs of each passage that are trained on, where passages carry their own pairs", NOT_NEGATIVE
    )
    max_pairs: int = key(
        0, "train on the first so many pairs of each passage, whoever wrote them; 0 means all", NOT_NEGATIVE
    )
    max_rewrites: int = key(-1, "train on the first so many rewrites of each passage; -1 means all", Range(-1))
    skip_passages: int = key(0, "passages to leave out at the beginning of the corpus (jsonl only)", NOT_NEGATIVE)
    max_passages: int = key(0, "use only the first passages of the corpus; 0 means all", NOT_NEGATIVE)
    per_type: int = key(
        300,
        "benchmarks: the first questions of each type (popqa, complexwebquestions: of all) are the test set, as in the "
        "papers; 0 means all",
        NOT_NEGATIVE,
    )
    limit: int = key(0, "number of test questions, drawn stratified over question types; 0 means all", NOT_NEGATIVE)
    limit_seed: int = key(0, "seed of that draw and of the validation split", SEED)
    types: list[str] = key([], "question types to keep; empty means all")
    validation_questions: int = key(
        40, "questions set apart for choices, never scored as test questions (not for demo)", NOT_NEGATIVE
    )
    part: DataPart = key(
        DataPart.TEST,
        "benchmarks: answer the test set, or train on data.limit of the questions outside of it (warm-up, format_lora)",
    )
    outside: str = key(
        "",
        "passages with pairs that are not in the corpus, for warm-up and format_lora, in any form of data.path; empty: "
        "another demo world, a benchmark's questions outside the test set, or what data.max_passages leaves over",
    )
    splitting: SplittingConfig = section(SplittingConfig, "documents to passages")
    world: WorldConfig = section(WorldConfig, "the demo world")


@dataclass
class AugmentationConfig:
    """Document augmentation: rewrites and question-answer pairs of every passage."""

    by: AugmentBy = key(
        AugmentBy.NONE,
        "server: an OpenAI-compatible one; local: a transformers model; file: one made elsewhere; extractive: cloze "
        "and slot questions without a model; none",
    )
    rewrites: int = key(1, "rewrites of each passage", NOT_NEGATIVE)
    pairs: int = key(3, "question-answer pairs asked for each passage", NOT_NEGATIVE)
    file: str = key("", "by=file: JSON lines, or a file or folder in PRAG's released layout")
    model: str = key("", "name of the server's model, or local folder or hub id; empty: base.model (local only)")
    url: str = key("http://localhost:8000/v1", "base URL of the server")
    key_env: str = key("OPENAI_API_KEY", "environment variable that holds the server's key; may be unset")
    structured: Structured = key(
        Structured.AUTO, "how JSON is asked of a server; auto: by schema, or less where the server refuses that"
    )
    temperature: float = key(0.7, "sampling temperature; 0 is greedy", NOT_NEGATIVE)
    max_tokens: int = key(512, "longest reply, in tokens", ONE_OR_MORE)
    concurrency: int = key(8, "requests under way at once", ONE_OR_MORE)
    requests_per_minute: int = key(0, "most requests a minute; 0 means no limit", NOT_NEGATIVE)
    retries: int = key(
        6, "further tries of a request that fails, is malformed or rate-limited, with back-off", NOT_NEGATIVE
    )
    timeout: float = key(120.0, "seconds that a request may take", POSITIVE)
    on_failure: OnBadRow = key(
        OnBadRow.FAIL, "what a passage leads to that stays without an answer after all tries; what is done stays done"
    )
    fill: Fill = key(
        Fill.EXTRACTIVE,
        "pairs of a passage of whose pairs none is left: extractive ones, or none, with which it can be trained only "
        "by tasks.passage_text",
    )
    price_in: float = key(0.0, "price of a million prompt tokens, for the report", NOT_NEGATIVE)
    price_out: float = key(0.0, "price of a million reply tokens, for the report", NOT_NEGATIVE)
    batch_size: int = key(16, "local: prompts generated at once", ONE_OR_MORE)
    answer_first: bool = key(
        True,
        "local: choose answers by patterns and ask only for their questions, one by one, which suits small models; "
        "false: ask for whole pairs, as of a server",
    )
    prompts: str = key("", "folder of prompt files of your own; empty: those that come with polyprag")
    cache: str = key("", "folder where replies are kept for all runs; empty: beside the cached models")
    grounding: Grounding = key(
        Grounding.EXPLAINED,
        "strict: an answer must stand in its passage; explained: or its full answer must rest on it; off: no check",
    )
    max_answer_words: int = key(16, "longest short answer, in words", ONE_OR_MORE)
