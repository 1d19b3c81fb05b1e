"""The results of an evaluation in Weights & Biases, beside the training curves of the same run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import wandb

from polyprag.config import Config, WandbMode
from polyprag.config.keys import config_values
from polyprag.evaluation.results import MethodResult, Results
from polyprag.training.run_card import card_numbers
from polyprag.training.trainer import wandb_mode

COLUMNS = ("method", "n", "f1", "f1_low", "f1_high", "em", "contains", "seconds_per_question", "bytes_per_passage")


def log_results(results: Results, config: Config, folder: Path) -> None:
    """Log a table of all methods, and each method's F1, EM and contains and the data card's numbers as summary values.

    The run has the project and group of the training and the job type `evaluation`. A server that cannot be reached
    costs a line on standard error, since the results are on disk already.

    Args:
        results: what the evaluation found.
        config: says where Weights & Biases writes, if at all.
        folder: the run's folder, which gets the files of an offline run.
    """
    mode = wandb_mode(config.logging)
    if mode is WandbMode.DISABLED:
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    try:
        with wandb.init(
            project=config.logging.project,
            group=config.logging.group or None,
            name=f"{folder.name}/{config.evaluation.dir}",
            job_type="evaluation",
            dir=str(folder),
            mode="online" if mode is WandbMode.ONLINE else "offline",
            config=config_values(config),
        ) as run:
            rows = [_row(name, method) for name, method in results["methods"].items()]
            run.log({"evaluation/results": wandb.Table(columns=list(COLUMNS), data=rows)})
            run.summary.update(_summary(results) | _data_numbers(results))
    except wandb.Error as error:
        reason = " ".join(str(error).split())
        print(f"Weights & Biases got no results ({reason}); logging.wandb=offline keeps them here", file=sys.stderr)


def _row(name: str, method: MethodResult) -> list[str | int | float]:
    seconds = method["seconds_per_question"]["total"]
    scores = (method["f1"], *method["f1_ci95"], method["em"], method["contains"])
    return [name, method["n"], *scores, seconds, method["bytes_per_passage"]]


def _summary(results: Results) -> dict[str, float]:
    """Scores by name, such as `evaluation/poly_prag/f1`."""
    return {
        f"evaluation/{name}/{score}": value
        for name, method in results["methods"].items()
        for score, value in (("f1", method["f1"]), ("em", method["em"]), ("contains", method["contains"]))
    }


def _data_numbers(results: Results) -> dict[str, float]:
    """The data card's numbers and recall by name, such as `data/overlap/near` and `data/recall/at/10`."""
    found = results["data"]
    measured = {**found.get("card", {}), **({"recall": found["recall"]} if "recall" in found else {})}
    return {f"data/{name}": number for name, number in card_numbers(measured).items()}
