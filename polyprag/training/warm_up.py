"""Warm-up: a training outside the corpus that a run's experts, or PRAG's adapters, start from (arXiv 2501.15915)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from polyprag.config import Config, WarmUpConfig
from polyprag.config.checks import validate
from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool
from polyprag.files import current_folder, write_json
from polyprag.records import Knowledge
from polyprag.store import is_sound, open_store
from polyprag.training.assembly import assemble
from polyprag.training.checkpoint import LAST, changed_keys, resume_path
from polyprag.training.outside import Outside, outside_data, outside_knowledge
from polyprag.training.processes import first_decides, wait_for_all
from polyprag.training.trainer import prepare_process

FACTS = "outside.json"


def warm_up_folder(run: Path) -> Path:
    """Where the pool that a run starts from is trained."""
    return run / "warm_up" / "pool"


def warm_up_config(config: Config) -> Config:
    """The configuration of that training: the same pool, rows and optimiser on data outside the corpus.

    Raises:
        ConfigError: nothing says which passages are outside.
    """
    warm = dataclasses.replace(
        config,
        data=outside_data(config, config.warm_up.pairs),
        router=dataclasses.replace(config.router, after_pool=False),
        training=dataclasses.replace(config.training, epochs=config.warm_up.epochs, validate_every=0),
        warm_up=WarmUpConfig(pairs=config.warm_up.pairs, epochs=config.warm_up.epochs),
    )
    validate(warm)
    return warm


def warm_up_data(config: Config, run: Knowledge) -> Outside:
    """The passages and pairs of a warm-up, `warm_up.pairs` at most.

    Args:
        config: of the run.
        run: its corpus and questions, of which nothing may be in them.

    Raises:
        ConfigError: nothing says which passages are outside.
        DataError: they cannot be used, or none is left.
    """
    return outside_knowledge(warm_up_config(config), run).first(config.warm_up.pairs)


def warm_up_pool(
    config: Config, run: Path, knowledge: Knowledge, *, resume: bool = False, dry_run: bool = False
) -> None:
    """Train the pool that a run starts from, as a run of its own below it, unless it is there already.

    Seed and threads are afterwards those of a process that has just begun.

    Args:
        config: of the run.
        run: its folder.
        knowledge: its corpus and questions, of which nothing may be in the warm-up.
        resume: go on from the warm-up's last checkpoint, if there is one.
        dry_run: tell sizes only.

    Raises:
        ConfigError: nothing says which passages are outside, or the checkpoint is of another configuration or of
            other pairs.
        DataError: the outside passages cannot be used, or none is left.
    """
    warm, folder = warm_up_config(config), warm_up_folder(run)
    outside = warm_up_data(config, knowledge)
    if first_decides(lambda: _is_trained(folder, warm, outside)):
        return
    print(f"warm-up: {outside}")
    prepare_process(config.run)
    training = assemble(warm, outside.knowledge)
    if dry_run:
        return print("\n".join(training.plan(folder)))
    known = first_decides(lambda: _facts(folder).get("sha256") == outside.fingerprint)
    checkpoints = folder / "checkpoints"
    checkpoint = resume_path("auto" if resume and known else None, checkpoints, warm, learned_from=outside.fingerprint)
    if not known:  # a kill before the first save must leave nothing of the earlier pairs to go on with
        first_decides(lambda: (checkpoints / LAST).unlink(missing_ok=True))
    facts = {
        "sha256": outside.fingerprint,
        "passages": len(outside.passages),
        "pairs": len(outside.pairs),
        "left_out": outside.left_out,
    }
    first_decides(lambda: write_json(folder / FACTS, facts))
    if training.fit(folder, checkpoint):
        write_json(folder / FACTS, {**facts, "store": open_store(folder / "store").manifest.digest})
    wait_for_all()
    prepare_process(config.run)


def start_from(pool: ExpertPool, run: Path, base: BaseModel) -> None:
    """Put the experts of a run's warm-up in place of those drawn by the seed; they are trained in float32.

    Args:
        pool: the run's experts, before training.
        run: its folder, with the warm-up in it.
        base: the base model that the experts are in.

    Raises:
        StoreError: the warm-up's store is missing or damaged, or of another base model or pool.
    """
    store = open_store(warm_up_folder(run) / "store", base.fingerprint, base.name)
    pool.load({name: tensor.to(torch.float32, copy=True) for name, tensor in store.pool().items()})


def warm_up_seconds(config: Config, run: Path) -> float:
    """Seconds of the warm-up behind a run's pool; 0 without one, or where it was cleared away since."""
    store = warm_up_folder(run) / "store"
    if not config.warm_up.pool or not current_folder(store).exists():
        return 0.0
    return float(open_store(store).manifest.training["seconds"])


def _is_trained(folder: Path, warm: Config, outside: Outside) -> bool:
    """Whether a sound store of this configuration is there, trained on these very pairs."""
    if not is_sound(folder / "store"):
        return False
    store = open_store(folder / "store")
    facts = {"sha256": outside.fingerprint, "store": store.manifest.digest}
    return not changed_keys(store.config_yaml, warm) and facts.items() <= _facts(folder).items()


def _facts(folder: Path) -> dict[str, object]:
    """What the warm-up in a folder was trained on; nothing where that is unknown."""
    try:
        read = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
