"""From one method's answers to its entry in results.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from polyprag.evaluation.answers import Answer, by_question
from polyprag.evaluation.results import MethodResult, TypeResult, macro_f1
from polyprag.evaluation.statistics import Values, bootstrap_ci
from polyprag.methods.workbench import STEPS

UNTYPED = "untyped"  # where a set has types, the questions that carry none


def summarise(
    answers: Sequence[Answer],
    resamples: int,
    seed: int,
    bytes_per_passage: float,
    train_seconds: float,
    choice: Mapping[str, Any],
    offline_seconds: float | None = None,
) -> MethodResult:
    """Condense one method's answers to its entry in results.json.

    Args:
        answers: of one method, each question once, at least one.
        resamples: bootstrap resamples behind each interval.
        seed: of the bootstrap.
        bytes_per_passage: storage that the method needs for each passage.
        train_seconds: what training the method took.
        choice: the settings chosen on validation questions, with what was tried under "tried".
        offline_seconds: what had to be done before the first question, per passage; None where it is not known.

    Returns:
        The entry; "by_type" and "macro_f1" are there only when the questions have types.

    Raises:
        ValueError: no answers.
        DataError: a question is answered twice.
    """
    if not answers:
        raise ValueError("there is nothing to summarise without answers")
    by_question(answers)
    overall = _means(answers, resamples, seed)
    prompt_tokens = _mean(answer.prompt_tokens for answer in answers)
    result = MethodResult(
        n=overall["n"],
        f1=overall["f1"],
        em=overall["em"],
        contains=overall["contains"],
        prag_f1=overall["prag_f1"],
        f1_ci95=overall["f1_ci95"],
        seconds_per_question=_seconds(answers),
        prompt_tokens=prompt_tokens,
        new_tokens=_mean(answer.new_tokens for answer in answers),
        bytes_per_passage=bytes_per_passage,
        train_seconds=train_seconds,
        choice=dict(choice),
        tokens_in=prompt_tokens,
    )
    if offline_seconds is not None:
        result["offline_seconds_per_passage"] = offline_seconds
    if "own_first" in overall:
        result["own_first"] = overall["own_first"]
    _add_counts(result, answers)
    _add_types(result, answers, resamples, seed)
    return result


def _add_types(result: MethodResult, answers: Sequence[Answer], resamples: int, seed: int) -> None:
    """Add the means of each question type and their mean, where questions have types."""
    groups = _by_type(answers)
    if groups:
        result["by_type"] = {name: _means(groups[name], resamples, seed) for name in sorted(groups)}
        result["macro_f1"] = macro_f1(result["by_type"])


def _add_counts(result: MethodResult, answers: Sequence[Answer]) -> None:
    """Add what not all answers need to tell."""
    routed = [answer.confidence for answer in answers if answer.confidence is not None]
    if routed:
        result["abstained"] = _mean(confidence.abstained for confidence in routed)
    counted = [answer.generated_tokens for answer in answers if answer.generated_tokens is not None]
    if counted:
        result["generated_tokens"] = result["tokens_out"] = _mean(counted)
    searched = [answer.retrievals for answer in answers if answer.retrievals is not None]
    if searched:
        result["retrievals"] = _mean(searched)
    waited = [answer.first_token_seconds for answer in answers if answer.first_token_seconds is not None]
    if waited:
        result["seconds_to_first_token"] = _mean(waited)
    used = [answer.peak_memory_bytes for answer in answers if answer.peak_memory_bytes is not None]
    if used:
        result["peak_memory_bytes"] = float(max(used))


def _means(answers: Sequence[Answer], resamples: int, seed: int) -> TypeResult:
    f1_N = _f1(answers)
    result = TypeResult(
        n=len(answers),
        f1=_mean(f1_N),
        em=_mean(answer.scores.em for answer in answers),
        contains=_mean(answer.scores.contains for answer in answers),
        prag_f1=_mean(answer.scores.prag_f1 for answer in answers),
        f1_ci95=list(bootstrap_ci(f1_N, resamples, seed)),
    )
    known = [answer.own_first for answer in answers if answer.own_first is not None]
    if known:
        result["own_first"] = _mean(known)
    return result


def _seconds(answers: Sequence[Answer]) -> dict[str, float]:
    steps = {step: _mean(answer.seconds[step] for answer in answers) for step in STEPS}
    return {"total": sum(steps.values()), **steps}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _f1(answers: Iterable[Answer]) -> Values:
    return np.array([answer.scores.f1 for answer in answers], dtype=np.float64)


def _by_type(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Answers by question type; empty when no question has one."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.type or UNTYPED, []).append(answer)
    return {} if groups.keys() == {UNTYPED} else groups
