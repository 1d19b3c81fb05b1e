"""The results of an evaluation in Weights & Biases, beside the training curves of the same run."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import cast

import wandb

from polyprag.config import Config, WandbMode
from polyprag.config.keys import config_values
from polyprag.evaluation.answers import Answer
from polyprag.evaluation.differences import Difference
from polyprag.evaluation.recorded import read_runs
from polyprag.evaluation.results import ANSWERS, MethodResult, Results
from polyprag.methods.workbench import STEPS
from polyprag.training.run_card import card_numbers
from polyprag.training.trainer import wandb_mode

COLUMNS = ("method", "n", "f1", "f1_low", "f1_high", "em", "contains", "seconds_per_question", "bytes_per_passage")
JUDGE_COLUMNS = ("judge", "judge_low", "judge_high", "judge_agreement")
STEP_COLUMNS = tuple(f"seconds_{step}" for step in ("total", *STEPS))
COST_COLUMNS = (
    *("seconds_to_first_token", "tokens_in", "tokens_out", "retrievals", "peak_memory_bytes", "bytes_per_passage"),
    *("train_seconds", "offline_seconds_per_passage", "break_even", "break_even_prag"),
)
TYPE_COLUMNS = ("method", "type", "n", "f1", "f1_low", "f1_high", "em", "contains")
DIFFERENCE_COLUMNS = ("a", "b", "mean", "low", "high", "p", "p_holm", "d_z", "won", "tied", "lost")
ANSWER_COLUMNS = ("question_id", "type", "question", "gold", "method", "prediction", "f1", "em", "retrieved")
MOST_ANSWERS = 300
"""Rows of the table of answers."""

Cells = list[str | int | float | None]
Rows = list[Cells]


def log_results(results: Results, config: Config, folder: Path) -> None:
    """Log tables of all that was found, and each method's F1, EM and contains and the data card's numbers as summary.

    The run has the project and group of the training and the job type `evaluation`. A server that cannot be reached
    costs a line on standard error, since the results are on disk already. Weights & Biases shows what stands in tables
    as text, so that nothing in answers is read as markup.

    Args:
        results: what the evaluation found.
        config: says where Weights & Biases writes, if at all.
        folder: the run's folder, which gets the files of an offline run; the evaluation's answers are read from it.

    Raises:
        DataError: the answers are not those of the results.
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
            tables = tables_of(results, folder / config.evaluation.dir)
            run.log({f"evaluation/{name}": wandb.Table(columns=list(head), data=rows) for name, head, rows in tables})
            run.summary.update(_summary(results) | _data_numbers(results))
    except wandb.Error as error:
        reason = " ".join(str(error).split())
        print(f"Weights & Biases got no results ({reason}); logging.wandb=offline keeps them here", file=sys.stderr)


def tables_of(results: Results, folder: Path) -> list[tuple[str, tuple[str, ...], Rows]]:
    """Name, columns and rows of every table that has rows.

    Args:
        results: what the evaluation found.
        folder: the evaluation's.

    Raises:
        DataError: the answers are not those of the results.
    """
    methods = results["methods"].items()
    is_judged = any("judge" in method for _, method in methods)
    tables: list[tuple[str, tuple[str, ...], Rows]] = [
        (
            "results",
            (*COLUMNS, *(JUDGE_COLUMNS if is_judged else ())),
            [_row(name, method) + (_judged(method) if is_judged else []) for name, method in methods],
        ),
        ("costs", ("method", *STEP_COLUMNS, *COST_COLUMNS), [_cost_row(name, method) for name, method in methods]),
        ("types", TYPE_COLUMNS, [row for name, method in methods for row in _type_rows(name, method)]),
        ("differences", DIFFERENCE_COLUMNS, [_difference_row(entry) for entry in results["differences"]]),
        ("answers", ANSWER_COLUMNS, _answer_rows(folder)),
    ]
    return [table for table in tables if table[2]]


def _row(name: str, method: MethodResult) -> Cells:
    seconds = method["seconds_per_question"]["total"]
    scores = (method["f1"], *method["f1_ci95"], method["em"], method["contains"])
    return [name, method["n"], *scores, seconds, method["bytes_per_passage"]]


def _judged(method: MethodResult) -> Cells:
    low, high = method.get("judge_ci95", [None, None])
    return [method.get("judge"), low, high, method.get("judge_agreement")]


def _cost_row(name: str, method: MethodResult) -> Cells:
    """Infinity stands for a break-even that is never reached, and nothing for what is not known."""
    told = cast(dict[str, float | None], method)
    figures = [math.inf if key in told and told[key] is None else told.get(key) for key in COST_COLUMNS]
    return [name, *(method["seconds_per_question"][step] for step in ("total", *STEPS)), *figures]


def _type_rows(name: str, method: MethodResult) -> Rows:
    return [
        [name, kind, found["n"], found["f1"], *found["f1_ci95"], found["em"], found["contains"]]
        for kind, found in method.get("by_type", {}).items()
    ]


def _difference_row(entry: Difference) -> Cells:
    shares = (entry.get("won"), entry.get("tied"), entry.get("lost"))
    tested = (entry["p"], entry.get("p_holm"), entry.get("d_z"))
    return [entry["a"], entry["b"], entry["mean"], *entry["ci95"], *tested, *shares]


def _answer_rows(folder: Path) -> Rows:
    """The answers of all methods to as many questions as there is room for, question by question."""
    if not (folder / ANSWERS).exists():
        return []
    [run] = read_runs([folder])
    asked = list(run.questions)[: max(1, MOST_ANSWERS // max(1, len(run.answers)))]
    return [_answer_row(name, answers[id_]) for id_ in asked for name, answers in run.answers.items()]


def _answer_row(name: str, answer: Answer) -> Cells:
    texts = (answer.question_id, answer.type, answer.question, " | ".join(answer.gold), name, answer.prediction)
    scores = (answer.scores.f1, answer.scores.em)
    return [*map(_storable, texts), *scores, _storable(" | ".join(answer.retrieved))]


def _storable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


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
