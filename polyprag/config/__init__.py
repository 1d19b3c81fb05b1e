"""The configuration: a dataclass tree of every key, its default, its allowed values and its explanation.

`polyprag.config.keys` walks the tree, `loading` reads it from YAML and `key=value`, `checks` refuses what cannot be
right.
"""
# ruff: noqa: RUF009 - key() and section() return dataclass fields

from __future__ import annotations

from dataclasses import dataclass

from polyprag.config.answering import (
    AnsweringConfig,
    DraginConfig,
    EvaluationConfig,
    FlareConfig,
    LoggingConfig,
    PragConfig,
    RetrievalConfig,
    RunConfig,
)
from polyprag.config.choices import (
    BENCHMARKS,
    DEFAULT_METHODS,
    AbstainTo,
    AdapterPer,
    AugmentBy,
    Combine,
    Composition,
    DataName,
    DataPart,
    Dtype,
    Fill,
    Granularity,
    Grounding,
    KeySearch,
    Loss,
    MethodName,
    Normalisation,
    OnBadRow,
    PromptStyle,
    Quantisation,
    Recipe,
    RetrievalBackend,
    RouterDesign,
    SplitUnit,
    Structured,
    WandbMode,
)
from polyprag.config.fields import Range, section
from polyprag.config.knowledge import AugmentationConfig, DataConfig, SplittingConfig, WorldConfig
from polyprag.config.training import (
    BaseConfig,
    ControlsConfig,
    ExpertsConfig,
    RouterConfig,
    RoutingConfig,
    TasksConfig,
    TrainingConfig,
    TranslatorConfig,
    WarmUpConfig,
)

__all__ = [
    "BENCHMARKS",
    "DEFAULT_METHODS",
    "AbstainTo",
    "AdapterPer",
    "AnsweringConfig",
    "AugmentBy",
    "AugmentationConfig",
    "BaseConfig",
    "Combine",
    "Composition",
    "Config",
    "ControlsConfig",
    "DataConfig",
    "DataName",
    "DataPart",
    "DraginConfig",
    "Dtype",
    "EvaluationConfig",
    "ExpertsConfig",
    "Fill",
    "FlareConfig",
    "Granularity",
    "Grounding",
    "KeySearch",
    "LoggingConfig",
    "Loss",
    "MethodName",
    "Normalisation",
    "OnBadRow",
    "PragConfig",
    "PromptStyle",
    "Quantisation",
    "Range",
    "Recipe",
    "RetrievalBackend",
    "RetrievalConfig",
    "RouterConfig",
    "RouterDesign",
    "RoutingConfig",
    "RunConfig",
    "SplitUnit",
    "SplittingConfig",
    "Structured",
    "TasksConfig",
    "TrainingConfig",
    "TranslatorConfig",
    "WandbMode",
    "WarmUpConfig",
    "WorldConfig",
]


@dataclass
class Config:
    """All of it."""

    run: RunConfig = section(RunConfig, "the run as a whole")
    data: DataConfig = section(DataConfig, "passages, augmentation and questions")
    augmentation: AugmentationConfig = section(AugmentationConfig, "rewrites and pairs, by `train.py augment`")
    base: BaseConfig = section(BaseConfig, "the frozen base model")
    experts: ExpertsConfig = section(ExpertsConfig, "the pool of LoRA experts")
    routing: RoutingConfig = section(RoutingConfig, "the task router")
    tasks: TasksConfig = section(TasksConfig, "training sequences")
    training: TrainingConfig = section(TrainingConfig, "the joint training")
    warm_up: WarmUpConfig = section(WarmUpConfig, "initial weights from outside questions")
    router: RouterConfig = section(RouterConfig, "the query router, trained after the pool")
    retrieval: RetrievalConfig = section(RetrievalConfig, "finding passages")
    answering: AnsweringConfig = section(AnsweringConfig, "from question to answer")
    flare: FlareConfig = section(FlareConfig, "the baseline that looks ahead")
    dragin: DraginConfig = section(DraginConfig, "the baseline that retrieves where a word needs it")
    prag: PragConfig = section(PragConfig, "the one-to-one baseline")
    translator: TranslatorConfig = section(TranslatorConfig, "DyPRAG's parameter translator")
    controls: ControlsConfig = section(ControlsConfig, "controls without routing")
    evaluation: EvaluationConfig = section(EvaluationConfig, "comparison and judgement")
    logging: LoggingConfig = section(LoggingConfig, "training curves")
