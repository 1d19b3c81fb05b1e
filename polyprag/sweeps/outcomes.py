"""What a run of a sweep has left on disk: its folder, whether it was trained, and how it answered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyprag.config.keys import config_difference, config_values, keys
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError, DataError
from polyprag.evaluation.recorded import answers_behind, read_results
from polyprag.evaluation.results import ANSWERS, RESULTS, MethodResult
from polyprag.files import current_folder, read_jsonl_tolerant, sha256_of, write_json
from polyprag.store import open_store
from polyprag.sweeps.grid import Run, shapes_answers, trains
from polyprag.sweeps.present import PresentData

RUNS = "runs"
TRAINED, EVALUATED = "trained.json", "evaluated.json"
"""The marks of a training and of an evaluation that have come to their end."""


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        run: which one.
        folder: where it lies.
        passages: number of passages that were trained, N.
        train_seconds: seconds of training.
        methods: results of the run's methods, in its order.
        f1: for each method the F1 of every question by its id.
    """

    run: Run
    folder: Path
    passages: int
    train_seconds: float
    methods: dict[str, MethodResult]
    f1: dict[str, dict[str, float]]


def run_folder(sweep_folder: Path, run: Run) -> Path:
    """The folder of a run: that of an equal training, whatever sweep named it, or else a new one."""
    found = sorted((sweep_folder / RUNS).glob(f"*-{run.training_id}"))
    return found[0] if found else sweep_folder / RUNS / f"{run.name}-{run.training_id}"


def evaluation_folder(run: Run) -> str:
    """The name of a run's evaluation, in the folder of its training."""
    return f"evaluation-{run.evaluation_id}"


def mark_trained(folder: Path) -> None:
    """Note that `train.py` has come to its end; the store alone does not tell, since stages may follow the pool."""
    write_json(folder / TRAINED, {"store": open_store(folder / "store").manifest.digest})


def is_trained(folder: Path, run: Run, present: PresentData) -> bool:
    """Whether a run is trained to its end.

    Raises:
        ConfigError: it was trained with another configuration, as happens after defaults have changed, or on other
            data.
        StoreError: the store is damaged.
    """
    if not (folder / TRAINED).exists() or not current_folder(folder / "store").exists():
        return False
    store = open_store(folder / "store")
    trained = load_config(folder / "config.yaml")
    changed = [key for key in config_difference(trained, run.config) if trains(key)]
    if changed:
        raise ConfigError(f"{folder}: was trained with another {', '.join(changed)}; move it away to train anew")
    if _read_json(folder / TRAINED).get("store") != store.manifest.digest:
        return False
    if _differ(store.manifest.training.get("learned_from"), present.learned_from(run.config, folder)):
        raise ConfigError(
            f"{folder}: was trained on other passages, rewrites or pairs than data.* give now; restore them, or move "
            "it away to train anew"
        )
    return True


def mark_evaluated(folder: Path, run: Run) -> None:
    """Note that `evaluate.py` has come to its end, and with what; the results are there before verdicts and report."""
    evaluation = folder / evaluation_folder(run)
    if (evaluation / RESULTS).exists():
        noted = {"results": sha256_of(evaluation / RESULTS), "config": _answering(config_values(run.config))}
        write_json(evaluation / EVALUATED, noted)


def read_outcome(folder: Path, run: Run, present: PresentData) -> Outcome | None:
    """A run's outcome, or None as long as it is not trained and evaluated by all its methods as it is configured now.

    Raises:
        ConfigError: see `is_trained`; or other questions were answered.
        DataError: the results cannot be read.
        StoreError: the store is damaged.
    """
    if not is_trained(folder, run, present):
        return None
    evaluation = folder / evaluation_folder(run)
    results = read_results(evaluation / RESULTS) if (evaluation / RESULTS).exists() else None
    store = open_store(folder / "store")
    if results is None or results["run"].get("store") != store.manifest.digest:
        return None
    if any(method not in results["methods"] for method in run.methods):
        return None
    if not _is_evaluated(evaluation, run):
        return None
    if _differ(results["data"].get("sha256"), present.asked(run.config, folder, store)):
        raise ConfigError(f"{evaluation}: answers other questions than data.* give now; restore them, or move it away")
    methods = {method: results["methods"][method] for method in run.methods}
    rows = read_jsonl_tolerant(evaluation / ANSWERS)
    f1 = {method: _f1_behind(result, method, rows, evaluation) for method, result in methods.items()}
    seconds = float(store.manifest.training["seconds"])
    return Outcome(run, folder, store.manifest.passages, seconds, methods, f1)


def _differ(before: str | None, now: str) -> bool:
    """Whether two hashes, both known, are not the same."""
    return bool(before and now) and before != now


def _is_evaluated(evaluation: Path, run: Run) -> bool:
    """Whether the results are those that an evaluation has left at its end, under the present configuration."""
    if not (evaluation / EVALUATED).exists():
        return False
    noted = _read_json(evaluation / EVALUATED)
    before = noted.get("config")
    if not isinstance(before, dict) or noted.get("results") != sha256_of(evaluation / RESULTS):
        return False
    present, default = _answering(config_values(run.config)), _answering({k: key.default for k, key in keys().items()})
    return all((default | before)[key] == value for key, value in present.items())


def _answering(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by which answers are made and summed up, as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps({key: value for key, value in values.items() if shapes_answers(key)}))
    return plain


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); delete the file") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a JSON object; delete the file")
    return content


def _f1_behind(result: MethodResult, method: str, rows: Iterable[dict[str, Any]], folder: Path) -> dict[str, float]:
    """F1 by question out of the answers that a result sums up.

    Raises:
        DataError: a line is not an answer, or there are no such answers.
    """
    found = answers_behind(result, method, rows, folder / ANSWERS)
    if found:
        return {id_: answer.scores.f1 for id_, answer in found.items()}
    raise DataError(f"{folder}: the answers of {method} are not those of {RESULTS}; move the folder away")
