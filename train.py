"""Train a pool of LoRA experts and a task router on a corpus, and what is compared with them; sweeps over that."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from polyprag.cli import Call, guarded, parse_call, run_directory
from polyprag.config import AugmentBy, Config
from polyprag.config.checks import validate
from polyprag.config.loading import load_config, to_yaml
from polyprag.records import Knowledge

# Heavy imports wait until a call is understood, so that --help is instant.


def main(argv: Sequence[str]) -> None:
    """Parse the call, settle the configuration, do what the verb says."""
    call = parse_call(argv, "train.py", (*VERBS, "sweep"), __doc__ or "", resumable=True)
    if call.verb == "sweep":
        from polyprag.sweeps.sweep import run_sweep

        return run_sweep(call, programs=Path(__file__).parent)
    verb = VERBS[call.verb]
    if verb in {pool, augment}:
        config = load_config(call.config_path, call.overrides)
        validate(config)
        folder = run_directory(config, call.config_path)
    else:
        from polyprag.runs import run_config

        config, folder = run_config(call.config_path, call.overrides)
    if call.print_config:
        return print(to_yaml(config), end="")
    from polyprag.training.launching import takes_part

    if verb in {pool, controls} and not call.dry_run and not takes_part(config, folder, __file__, argv):
        return None  # processes that this one started and saw to their end have trained
    return verb(config, folder, call)


def pool(config: Config, folder: Path, call: Call) -> None:
    """From documents to a store: augment them, train pool and task router on them, then the query router."""
    from polyprag.runs import pool_knowledge, run_data
    from polyprag.training.processes import first_decides as first_alone

    if config.augmentation.by is not AugmentBy.NONE:
        first_alone(lambda: augment(config, folder, call))
        if call.dry_run and not run_data(config, folder).augmentation:
            return print("the pairs are not written yet, so the training has no sizes; `train.py augment` writes them")
    train_pool(config, folder, call, pool_knowledge(config, folder))
    if not call.dry_run:
        print(f"the store is {folder / 'store'}; next: python evaluate.py run.dir={folder}")


def augment(config: Config, folder: Path, call: Call) -> None:
    """Have rewrites and question-answer pairs of every passage written."""
    from rich.console import Console

    from polyprag.augmentation.stage import run_augmentation
    from polyprag.experts.tokenizer import tokenizer_of
    from polyprag.knowledge.loading import load_knowledge

    knowledge = load_knowledge(config.data, tokenize=tokenizer_of(config.base))
    run_augmentation(config, folder, knowledge, Console(stderr=True), call.dry_run)


def train_pool(config: Config, folder: Path, call: Call, knowledge: Knowledge) -> None:
    """Put the parts together, warmed up or not, fit them, write the store; train the query router on it."""
    from polyprag.training.assembly import assemble
    from polyprag.training.checkpoint import resume_path
    from polyprag.training.router_stage import train_router
    from polyprag.training.trainer import prepare_process
    from polyprag.training.warm_up import start_from, warm_up_pool, warm_up_seconds

    prepare_process(config.run)
    checkpoint = resume_path(call.resume, folder / "checkpoints", config, learned_from=knowledge.fingerprint)
    begins_warm = config.warm_up.pool and checkpoint is None
    if begins_warm:
        warm_up_pool(config, folder, knowledge, resume=call.resume is not None, dry_run=call.dry_run)
    training = assemble(config, knowledge)  # after the warm-up: one base model in memory at a time
    if call.dry_run:
        return print("\n".join(training.plan(folder)))
    if begins_warm:
        start_from(training.pool, folder, training.base)  # in place of the experts that `assemble` has drawn
    if training.fit(folder, checkpoint, warm_up_seconds(config, folder)) and config.router.after_pool:
        train_router(config, folder, "auto" if call.resume else None, base=training.base, pool=training.pool)


def router(config: Config, folder: Path, call: Call) -> None:
    """Train the query router of a run that has its pool."""
    from polyprag.training.router_stage import train_router

    train_router(config, folder, call.resume, dry_run=call.dry_run)


def translator(config: Config, folder: Path, call: Call) -> None:
    """Train DyPRAG's parameter translator on adapters of outside passages; it needs no pool."""
    from polyprag.files import write_text
    from polyprag.methods.dyprag_stage import train_translator
    from polyprag.translator_store import FOLDER

    train_translator(config, folder, call)
    if not call.dry_run:
        write_text(folder / FOLDER / "config.yaml", to_yaml(config))


def controls(config: Config, folder: Path, call: Call) -> None:
    """Train the controls that the run's methods need, or all if they need none, each as a run of its own below it."""
    from polyprag.runs import training_knowledge
    from polyprag.training.controls import CONTROLS, control_config, control_folder, control_knowledge, needed_controls

    needed = needed_controls(config.evaluation.methods) or CONTROLS
    configs = {name: control_config(config, name) for name in needed}
    run = training_knowledge(config, folder)
    for name, control in configs.items():
        train_pool(control, control_folder(folder, name), call, control_knowledge(control, name, run))


VERBS = {verb.__name__: verb for verb in (pool, augment, router, translator, controls)}  # the first is the default

if __name__ == "__main__":
    sys.exit(guarded(main))
