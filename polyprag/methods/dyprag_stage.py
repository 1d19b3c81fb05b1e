"""The stage that trains DyPRAG's parameter translator, after PRAG's adapters of the passages that it learns from.

It stands here and not in `training/`, since those adapters are a method's.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from peft.tuners.lora import LoraLayer
from rich.console import Console
from rich.progress import track

from polyprag.cli import Call
from polyprag.config import Composition, Config
from polyprag.errors import StoreError
from polyprag.experts.adapter_pool import AdapterPool
from polyprag.experts.base_model import BaseModel, device_of, load_base
from polyprag.experts.translator import last_states
from polyprag.knowledge.prompts import with_title
from polyprag.methods.adapters import FACTS, WEIGHTS, AdapterEncoder
from polyprag.records import Passage
from polyprag.runs import run_knowledge, with_prag_passes
from polyprag.training.callbacks import Progress
from polyprag.training.checkpoint import MAY_DIFFER, AtomicCheckpointIO, Checkpointing, resume_path
from polyprag.training.datamodule import ResumableLoader
from polyprag.training.outside import Outside
from polyprag.training.trainer import loggers, prepare_process, quiet_lightning
from polyprag.training.translator_data import Lesson, ShuffledPasses, sequences_of, translator_passages
from polyprag.training.translator_module import TranslatorModule, explained
from polyprag.training.warm_up import warm_up_data
from polyprag.translator_store import FOLDER, TranslatorFacts, open_translator, write_translator

STATES_AT_ONCE = 8
"""Passages that the base model reads in one batch."""

_DECIDES = ("translator.", "prag.", "warm_up.prag")
_OF_OTHERS = ("experts.", "routing.", "training.", "retrieval.", "augmentation.", "controls.", "flare.", "dragin.")
TRANSLATOR_MAY_DIFFER = (
    *(key for key in MAY_DIFFER if key not in _DECIDES),
    *(*_OF_OTHERS, "answering.expand_index", "warm_up.pool", "prag.parallel", "prag.per", "translator.composition"),
)
"""Keys that a resumed training of the translator may change."""


def train_translator(config: Config, folder: Path, call: Call) -> None:
    """Train the parameter translator of a run on PRAG's adapters of outside passages, and write it to `translator/`.

    The adapters lie in `translator/adapters/`, apart from those of the run's own passages; those that are there are not
    trained again.

    Args:
        config: of the run, with this call's `translator.*` and `prag.*`.
        folder: the run's folder; no store is needed.
        call: whether to resume, or to tell sizes only.

    Raises:
        ConfigError: nothing says which passages are outside, or the checkpoint is of another configuration.
        DataError: the outside passages cannot be used, or none is left.
        AdapterError: an adapter changes no logit, or its loss is not finite.
        TrainingError: the translator's loss is not finite.
    """
    prepare_process(config.run)
    config, home = with_prag_passes(config, folder), folder / FOLDER
    encoder, outside = _encoder_of_outside(config, folder)
    settings = _settings(config, outside, encoder)
    if call.resume == "auto" and _is_trained(home, encoder, settings):
        return
    checkpoint_folder = home / "checkpoints" / _digest(settings)[:12]
    resumed = resume_path(call.resume, checkpoint_folder, config, TRANSLATOR_MAY_DIFFER)
    print(f"translator: {outside}")
    if call.dry_run:
        return print("\n".join(_sizes(config, outside, encoder)))
    encoder.encode(outside.passages)
    started = time.perf_counter()
    lessons, base = _lessons(config, outside, encoder)
    module, facts = _learning(config, base, settings)
    checkpoints = Checkpointing(checkpoint_folder, config.training.checkpoint_minutes)
    measuring_seconds = time.perf_counter() - started
    loader = _loader(config, lessons)
    _trainer(config, home, len(loader), checkpoints).fit(module, loader, ckpt_path=resumed)
    share = explained(module.translator.to(base.device), lessons, base.device)
    training = {
        **_costs(encoder, outside, measuring_seconds + checkpoints.train_seconds),
        "passages": len(lessons),
        "left_out": outside.left_out,
        "steps": len(loader),
        "explained": share,
    }
    learned_from = {passage.content_hash for passage in outside.passages}
    write_translator(home, module.translator, replace(facts, training=training), learned_from)
    worse = ": less than one adapter for all would; lower translator.learning_rate or translator.init"
    found = f"it explains {share:.1%} of what tells the outside adapters apart{worse if share < 0 else ''}"
    print(f"the translator is {home}; {found}")


def _costs(encoder: AdapterEncoder, outside: Outside, own_seconds: float) -> dict[str, float]:
    """Seconds of the whole training, and of the outside adapters in it."""
    adapter_seconds = encoder.costs(outside.passages).seconds
    return {"seconds": adapter_seconds + own_seconds, "adapter_seconds": adapter_seconds}


def _encoder_of_outside(config: Config, folder: Path) -> tuple[AdapterEncoder, Outside]:
    """What gives outside passages their adapters, and these passages."""
    run = run_knowledge(config, folder)
    outside = translator_passages(config, run)
    pairs = warm_up_data(config, run).pairs if config.warm_up.prag else ()
    base = load_base(config.base, device_of(config.training.accelerator))
    return AdapterEncoder(base, config, folder / FOLDER, outside.augmentations, pairs), outside


def _lessons(config: Config, outside: Outside, encoder: AdapterEncoder) -> tuple[list[Lesson], BaseModel]:
    """What is learned from each passage, and a base model without adapters, which reads the passages first."""
    base = load_base(config.base, device_of(config.training.accelerator))
    console, lessons = Console(stderr=True), []
    starts = range(0, len(outside.passages), STATES_AT_ONCE)
    for at in track(starts, description="reading outside passages", console=console):
        passages = outside.passages[at : at + STATES_AT_ONCE]
        states_PE = last_states(base, [with_title(passage) for passage in passages]).cpu()
        lessons += [_lesson(config, *pair, encoder) for pair in zip(passages, states_PE, strict=True)]
    return lessons, base


def _lesson(config: Config, passage: Passage, state_E: torch.Tensor, encoder: AdapterEncoder) -> Lesson:
    own, most = encoder.augmentations[passage.id], config.translator.sequences
    packs, sequences = sequences_of(passage, own, encoder.tasks, encoder.writer, most)
    return Lesson(state_E, packs, sequences, encoder.path(passage) / WEIGHTS)


def _learning(config: Config, base: BaseModel, settings: dict[str, Any]) -> tuple[TranslatorModule, TranslatorFacts]:
    """The Lightning module with an untrained translator drawn by the seed, and what is known of it."""
    prag, asked = config.prag, config.translator
    target_scale = prag.alpha / prag.rank
    scale = asked.scale or target_scale
    pool = AdapterPool(base.model, prag.targets, prag.rank, scale, Composition.SUM)
    facts = TranslatorFacts(
        base=base.fingerprint,
        base_name=base.name,
        shapes=pool.shapes,
        size=int(base.model.config.hidden_size),
        rank=prag.rank,
        hidden=asked.hidden,
        scale=scale,
        prompt=config.answering.prompt.value,
        settings=settings,
        training={},
    )
    torch.manual_seed(config.run.seed)  # adapters that were there already have drawn nothing
    translator = facts.new_translator(asked.init)
    return TranslatorModule(translator.to(base.device), base, pool, target_scale, config), facts


def _loader(config: Config, lessons: Sequence[Lesson]) -> ResumableLoader:
    asked = config.translator
    return ResumableLoader(
        lessons,  # type: ignore[arg-type]
        batch_sampler=ShuffledPasses(len(lessons), asked.batch_size, asked.epochs, config.run.seed),
        collate_fn=list,
        generator=torch.Generator(),
    )


def _trainer(config: Config, home: Path, steps: int, checkpoints: Checkpointing) -> pl.Trainer:
    """A trainer of one device."""
    quiet_lightning()
    return pl.Trainer(
        default_root_dir=home,
        accelerator="cpu" if device_of(config.training.accelerator) == "cpu" else "gpu",
        devices=1,
        max_epochs=1,
        max_steps=steps,
        log_every_n_steps=config.logging.every_steps,
        logger=loggers(config, home),
        callbacks=[Progress(), checkpoints],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _sizes(config: Config, outside: Outside, encoder: AdapterEncoder) -> list[str]:
    """What the stage will take, one line each, for people."""
    asked, passages = config.translator, outside.passages
    there = sum((encoder.path(passage) / FACTS).exists() for passage in passages)
    size, hidden = int(encoder.base.model.config.hidden_size), asked.hidden
    per_layer = [
        2 * hidden * (size + 1) + hidden * config.prag.rank * (layer.in_features + layer.out_features)
        for layer in encoder.model.modules()
        if isinstance(layer, LoraLayer)
    ]
    steps = len(ShuffledPasses(len(passages), asked.batch_size, asked.epochs, config.run.seed))
    return [
        f"outside passages       {len(passages):,}",
        f"adapters to train      {len(passages) - there:,}",
        f"steps                  {steps:,}",
        f"trainable parameters   {sum(per_layer):,}",
        f"translator, about      {2 * sum(per_layer) / 1e6:,.1f} MB",
    ]


def _settings(config: Config, outside: Outside, encoder: AdapterEncoder) -> dict[str, Any]:
    """All that decides the translator's weights, as JSON values."""
    values = {name: str(value) for name, value in asdict(config.translator).items() if name != "composition"}
    return {
        **values,
        "seed": config.run.seed,
        "adapters": encoder.folder.name,
        "learned_from": outside.fingerprint,
        "sequences_by": f"{encoder.tasks} {encoder.writer.style}",
    }


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _is_trained(home: Path, encoder: AdapterEncoder, settings: dict[str, Any]) -> bool:
    """Whether the run's translator is there, sound, and trained with these settings, the adapters' folder aside."""
    try:
        told = open_translator(home, encoder.base.fingerprint, encoder.base.name).facts.settings
    except StoreError:
        return False
    return told in [{**settings, "adapters": name} for name in encoder.names]
