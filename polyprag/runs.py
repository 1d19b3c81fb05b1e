"""What stages after the pool start from: the trained run's configuration with this call's wishes, and its corpus."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from polyprag.cli import run_directory
from polyprag.config import AugmentBy, Config, DataConfig, DataName
from polyprag.config.checks import validate
from polyprag.config.keys import config_difference
from polyprag.config.loading import load_config
from polyprag.config.weights import MAY_DIFFER, changed_keys
from polyprag.errors import ConfigError
from polyprag.experts.tokenizer import tokenizer_of
from polyprag.files import current_folder
from polyprag.knowledge.corpus import stored_corpus
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.selection import warn_without_test
from polyprag.passages import StoredPassages, positions_of
from polyprag.records import Knowledge, Question
from polyprag.store import Store, open_store

FIXED_KEYS = (
    "base.model",
    "experts.",
    "routing.granularity",
    "routing.normalisation",
    "routing.top_k",
    "retrieval.backend",
    "retrieval.encoder",
    "retrieval.titles",
    "answering.expand_index",
    "answering.prompt",
)
"""Keys that shape the store or its index; later stages cannot change them."""
AUGMENTATION = "augmentation.jsonl"
"""What `train.py augment` leaves in a run's folder."""
FREE_SECTIONS = (
    *("data", "router", "translator", "retrieval", "answering", "flare", "dragin", "prag", "controls"),
    *("evaluation", "logging"),
)
"""Sections that a --config file may change for the later stages of a trained run."""


def with_prag_passes(config: Config, folder: Path) -> Config:
    """The configuration with the passes of the run's pool, rounded, in place of `prag.epochs=0`.

    Args:
        config: of a stage after the pool.
        folder: the run's folder.

    Raises:
        ConfigError: there is no store, or one that does not tell its passes.
        StoreError: the store is damaged.
    """
    if config.prag.epochs:
        return config
    store = folder / "store"
    passes = open_store(store).manifest.training.get("passes") if current_folder(store).exists() else None
    if passes is None:
        raise ConfigError(f"prag.epochs is 0, the passes of the pool, but {store} tells none; give a number")
    return dataclasses.replace(config, prag=dataclasses.replace(config.prag, epochs=max(1, round(passes))))


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
        config = dataclasses.replace(config, warm_up=dataclasses.replace(asked.warm_up, pool=trained.warm_up.pool))
    validate(config)
    changed = [key for key in config_difference(trained, config) if key.startswith(FIXED_KEYS)]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)}: fixed by the training in {folder}; leave out, or train another run.dir"
        )
    return config, folder


def run_data(config: Config, folder: Path) -> DataConfig:
    """The data section of a run, which trains on the run's own augmentation where it names no other."""
    own = folder / AUGMENTATION
    if config.data.augmentation or not own.is_file():
        return config.data
    return dataclasses.replace(config.data, augmentation=str(own))


def training_knowledge(config: Config, folder: Path) -> Knowledge:
    """What a run is trained on: its corpus with the augmentation that it names or has made, and its questions.

    Raises:
        ConfigError: the configuration names no data, or data that do not fit together.
        DataError: the data cannot be used.
    """
    return load_knowledge(run_data(config, folder), tokenize=tokenizer_of(config.base))


def pool_knowledge(config: Config, folder: Path) -> Knowledge:
    """What a run's pool is trained on, see `training_knowledge`; a corpus that nothing is asked of is warned of.

    Where the run writes its own augmentation, that has been said before anyone was asked for pairs.
    """
    knowledge = training_knowledge(config, folder)
    if config.augmentation.by is AugmentBy.NONE:
        warn_without_test(knowledge)
    return knowledge


def run_knowledge(config: Config, folder: Path) -> Knowledge:
    """The questions to answer and the corpus to answer from; a trained run's corpus is that of its store.

    Gold passages are matched to the store's by content, so questions may come from other files than in training.

    Raises:
        ConfigError: the store is that of an earlier training; see `check_store`.
        DataError: the questions cannot be used.
        StoreError: the store is damaged.
    """
    store_folder = folder / "store"
    if not current_folder(store_folder).exists():
        return training_knowledge(config, folder)
    store = open_store(store_folder)
    check_store(store, folder)
    data, passages = run_data(config, folder), store.passages
    if not data.collection:
        data = dataclasses.replace(data, retrieved=0)  # the store has the passages that were chosen for training
    corpus = stored_corpus(passages) if data.name is DataName.JSONL and not (data.path or data.collection) else None
    knowledge = load_knowledge(data, tokenize=tokenizer_of(config.base), corpus=corpus)
    ids = _stored_ids(knowledge, passages)

    def matched(question: Question) -> Question:
        return dataclasses.replace(question, passage_ids=tuple(ids[p] for p in question.passage_ids if p in ids))

    return Knowledge(
        passages=passages,
        augmentations={
            ids[old]: dataclasses.replace(augmentation, passage_id=ids[old])
            for old, augmentation in knowledge.augmentations.items()
            if old in ids
        },
        test=tuple(map(matched, knowledge.test)),
        validation=tuple(map(matched, knowledge.validation)),
        counts=knowledge.counts,
    )


def check_store(store: Store, folder: Path) -> None:
    """Refuse a store that an earlier training has left in a run in which a later one has begun.

    Args:
        store: of the run.
        folder: the run's folder.

    Raises:
        ConfigError: keys that decide what is trained are others in the run's `config.yaml` than in the store's.
    """
    begun = folder / "config.yaml"
    told_apart = (*MAY_DIFFER, "base.model")  # a model that lies elsewhere now is known by its fingerprint
    changed = changed_keys(store.config_yaml, load_config(begun), told_apart) if begun.is_file() else []
    if changed:
        raise ConfigError(
            f"{folder}: its store was trained with another {', '.join(changed)} than {begun.name} says, so a later "
            "training has not come to its end; end it by --resume auto, or train anew"
        )


def _stored_ids(knowledge: Knowledge, stored: StoredPassages) -> dict[str, str]:
    """The id in a store of each passage that questions or augmentation name, where the store has its content."""
    golds = (question.passage_ids for question in (*knowledge.test, *knowledge.validation))
    named = dict.fromkeys(itertools.chain(*golds, knowledge.augmentations))
    positions = positions_of(knowledge.passages)
    contents = {id_: knowledge.passages[positions[id_]].content_hash for id_ in named}
    found = {id_: stored.position_of_content(content) for id_, content in contents.items()}
    return {id_: stored[position].id for id_, position in found.items() if position is not None}
