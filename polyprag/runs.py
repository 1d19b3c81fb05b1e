"""What stages after the pool start from: the trained run's configuration with this call's wishes, and its corpus."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from polyprag.cli import run_directory
from polyprag.config import Config, DataName
from polyprag.config_checks import validate
from polyprag.config_keys import config_difference
from polyprag.config_loading import load_config
from polyprag.errors import ConfigError
from polyprag.files import current_folder
from polyprag.knowledge.corpus import load_knowledge
from polyprag.knowledge.records import Knowledge, Question
from polyprag.store import open_store

FIXED_KEYS = (
    "base.model",
    "experts.",
    "routing.granularity",
    "routing.normalisation",
    "routing.top_k",
    "answering.expand_index",
)
"""Keys that shape the store; later stages cannot change them."""
FREE_SECTIONS = ("data", "router", "answering", "prag", "evaluation", "logging")
"""Sections that a --config file may change for the later stages of a trained run."""


def run_config(config_path: Path | None, overrides: Sequence[str]) -> tuple[Config, Path]:
    """The configuration of a stage after the pool and the run's folder.

    A trained run's own `config.yaml` is the start; a --config file replaces its free sections, and overrides come
    last. Without a trained run, the --config file is all.

    Raises:
        ConfigError: a key that the training has fixed is given another value.
    """
    asked = load_config(config_path, overrides)
    folder = run_directory(asked, config_path)
    trained_path = folder / "config.yaml"
    if not trained_path.is_file():
        validate(asked)
        return asked, folder
    trained = load_config(trained_path)
    config = load_config(trained_path, overrides)
    if config_path is not None:
        config = dataclasses.replace(config, **{name: getattr(asked, name) for name in FREE_SECTIONS})
    validate(config)
    changed = [key for key in config_difference(trained, config) if key.startswith(FIXED_KEYS)]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)}: fixed by the training in {folder}; leave out, or train another run.dir"
        )
    return config, folder


def run_knowledge(config: Config, folder: Path) -> Knowledge:
    """The questions to answer and the corpus to answer from; a trained run's corpus is that of its store.

    Gold passages are matched to the store's by content, so questions may come from other files than in training.

    Raises:
        DataError: the questions cannot be used.
        StoreError: the store is damaged.
    """
    store_folder = folder / "store"
    if not current_folder(store_folder).exists():
        return load_knowledge(config.data)
    store = open_store(store_folder)
    data = config.data
    if data.name is DataName.JSONL and not data.path:
        data = dataclasses.replace(data, path=str(current_folder(store_folder) / "passages.jsonl"))
    knowledge = load_knowledge(data)
    own = {passage.content_hash: passage.id for passage in store.passages}
    ids = {p.id: own[p.content_hash] for p in knowledge.passages if p.content_hash in own}

    def matched(question: Question) -> Question:
        return dataclasses.replace(question, passage_ids=tuple(ids[p] for p in question.passage_ids if p in ids))

    return Knowledge(
        passages=tuple(store.passages),
        augmentations={
            ids[old]: dataclasses.replace(augmentation, passage_id=ids[old])
            for old, augmentation in knowledge.augmentations.items()
            if old in ids
        },
        test=tuple(map(matched, knowledge.test)),
        validation=tuple(map(matched, knowledge.validation)),
    )
