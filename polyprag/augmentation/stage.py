"""The stage that augments: from passages to `augmentation.jsonl`, by whoever the configuration names."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import track

from polyprag.augmentation.assembly import Written, augmentation_rows
from polyprag.augmentation.author import Author
from polyprag.augmentation.extractive import extract
from polyprag.augmentation.prompts import Prompts, load_prompts
from polyprag.augmentation.report import AugmentationReport, usage_line
from polyprag.augmentation.requests import Requests, failed_requests
from polyprag.chat.replies import ReplyCache
from polyprag.config import AugmentBy, Config, OnBadRow
from polyprag.config.sharding import Shard
from polyprag.errors import ConfigError, Interrupted
from polyprag.files import cache_folder, write_json, write_jsonl
from polyprag.knowledge.augmentations import read_augmentation
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.knowledge.selection import warn_without_test
from polyprag.records import Augmentation, Knowledge

AUGMENTATION, REPORT = "augmentation.jsonl", "augmentation_report.json"
ASKED = (AugmentBy.SERVER, AugmentBy.LOCAL)
"""Authors that are asked passage by passage, and whose replies are cached."""


def run_augmentation(
    config: Config, folder: Path, knowledge: Knowledge, console: Console, dry_run: bool = False
) -> AugmentationReport:
    """Augment all passages and write `augmentation.jsonl` and `augmentation_report.json`.

    Replies that an earlier run got, finished or not, are not asked for again. A shard (`run.shard`) has its share of
    the passages written about and leaves the replies in the cache; a call without one puts them together.

    Args:
        config: the whole configuration.
        folder: the run's folder.
        knowledge: its passages, and all questions that no pair may copy.
        console: where progress goes.
        dry_run: print what would be asked and about what it takes, and ask and write nothing.

    Returns:
        What it came to; after a dry run the numbers of requests alone.

    Raises:
        ConfigError: nobody is to be asked, or the server refuses all requests.
        DataError: requests stay without an answer, or a file of augmentations or prompts cannot be used.
        Interrupted: a signal came; all replies that had come are kept.
        ModelError: server or model cannot be had.
    """
    started = time.perf_counter()
    settings = config.augmentation
    if settings.by is AugmentBy.NONE:
        raise ConfigError("augmentation.by is none; set it to server, local, file or extractive")
    warn_without_test(knowledge)
    knowledge, shard = _share(knowledge, config)
    report = AugmentationReport(_name(config), passages=len(knowledge.passages), at_once=_at_once(config))
    requests = _requests(config, knowledge, report) if settings.by in ASKED else None
    if dry_run:
        print("\n".join(_plan(requests, config, report)))
        return report
    with stoppable("finished replies are kept; run again to go on"):
        if requests is not None:
            _ask_all(requests, config, report, console)
        if shard.is_part:
            print(f"shard {shard}: {report.passages:,} passages are written about; put all together without run.shard")
            return report
        written = _written(config, knowledge, requests, report)
        asked = QuestionIndex((*knowledge.test, *knowledge.validation))
        write_jsonl(folder / AUGMENTATION, augmentation_rows(knowledge.passages, written, asked, settings, report))
        report.seconds = time.perf_counter() - started
        write_json(folder / REPORT, report.to_json(settings))
    print("\n".join(report.lines(settings)))
    return report


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Let SIGINT and SIGTERM end what is done within, at once and in one line.

    Args:
        kept: what the interruption leaves, and how to go on.

    Raises:
        Interrupted: a signal came.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum, f"interrupted; {kept}")

    signals = (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {signum: signal.signal(signum, stop) for signum in signals}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _share(knowledge: Knowledge, config: Config) -> tuple[Knowledge, Shard]:
    """The passages that this call has written about.

    Raises:
        ConfigError: the author has no cache by which shards could be put together.
    """
    shard = Shard.of(config.run.shard)
    if not shard.is_part:
        return knowledge, shard
    if config.augmentation.by not in ASKED:
        raise ConfigError(
            f"run.shard is {shard}, but augmentation.by={config.augmentation.by} asks no model, so there is nothing to "
            "share; leave it empty"
        )
    return dataclasses.replace(knowledge, passages=tuple(shard.own(knowledge.passages))), shard


def _name(config: Config) -> str:
    """Who writes, as it stands in `by`."""
    settings = config.augmentation
    if settings.by is AugmentBy.FILE:
        return Path(settings.file).name
    if settings.by is AugmentBy.EXTRACTIVE:
        return AugmentBy.EXTRACTIVE.value
    return settings.model or config.base.model


def _at_once(config: Config) -> int:
    """Requests that may be under way at once."""
    settings = config.augmentation
    return settings.concurrency if settings.by is AugmentBy.SERVER else 1


def _identity(config: Config) -> str:
    """Who writes, as replies are told apart: a local model also by how it is loaded and, if it samples, by the seed."""
    name, settings = _name(config), config.augmentation
    if settings.by is not AugmentBy.LOCAL:
        return name
    seed = f" seed {config.run.seed}" if settings.temperature else ""
    return f"{name} {config.base.quantisation.value} {config.base.dtype.value} {config.base.revision}{seed}"


def _requests(config: Config, knowledge: Knowledge, report: AugmentationReport) -> Requests:
    """What is to be asked, and what of it has been answered."""
    settings = config.augmentation
    prompts = _prompts(config)
    cache = ReplyCache(Path(settings.cache) if settings.cache else cache_folder() / "replies", report.by)
    requests = Requests(knowledge.passages, prompts, _identity(config), cache, settings)
    report.prompt_version = prompts.version
    report.requests, report.cached = requests.count()
    return requests


def _prompts(config: Config) -> Prompts:
    settings = config.augmentation
    has_answers = settings.by is AugmentBy.LOCAL and settings.answer_first
    return load_prompts(settings.prompts, "lines" if has_answers else "json")


def _ask_all(requests: Requests, config: Config, report: AugmentationReport, console: Console) -> None:
    """Have everything answered that is not yet.

    Raises:
        DataError: requests stay without an answer, and they must not, or none has one.
    """
    missing = report.requests - report.cached
    if not missing:
        return
    replies = requests.ask(_author(config, requests.prompts), report)
    for _ in track(replies, total=missing, description=f"{report.by} writes", console=console, transient=True):
        pass
    failed = report.failed.total()
    if failed and (config.augmentation.on_failure is OnBadRow.FAIL or failed == report.requests):
        raise failed_requests(report)


def _author(config: Config, prompts: Prompts) -> Author:
    # Heavy imports wait until this author is known to be needed.
    if config.augmentation.by is AugmentBy.SERVER:
        from polyprag.augmentation.server import ServerAuthor

        return ServerAuthor(config.augmentation, prompts.schema)
    from polyprag.augmentation.local import LocalAuthor
    from polyprag.experts.base_model import device_of

    return LocalAuthor(config, device_of(config.training.accelerator))


def _written(config: Config, knowledge: Knowledge, requests: Requests | None, report: AugmentationReport) -> Written:
    """What has been written about a passage, not yet validated."""
    settings = config.augmentation
    if requests is not None:
        return lambda passage: requests.written(passage, report)
    if settings.by is AugmentBy.EXTRACTIVE:
        return lambda passage: extract(passage, settings.rewrites, settings.pairs)
    bad = BadRows(config.data.on_bad_row)
    read = read_augmentation(Path(settings.file), knowledge.passages, bad=bad)
    report.rejected += Counter({f"row: {reason}": count for reason, count in bad.counts.items()})
    return lambda passage: read.get(passage.id, Augmentation(passage.id))


def _plan(requests: Requests | None, config: Config, report: AugmentationReport) -> list[str]:
    """What a run would do, one line each."""
    if requests is None:
        return [f"{report.passages:,} passages; no model is asked, so there are neither tokens nor cost"]
    estimate = requests.estimate()
    return [
        f"passages               {report.passages:,}",
        f"requests               {report.requests:,} to {report.by}",
        f"answered already       {report.cached:,}, in {requests.cache.path}",
        f"tokens, estimated      {usage_line(estimate, config.augmentation)}",
    ]
