"""Looking inside the answers to one question: which passages, groups and experts were chosen, and what they change.

Shapes: G routed groups, K experts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polyprag.answering.question_routing import Routed
from polyprag.config import Combine, MethodName
from polyprag.errors import ConfigError, DataError
from polyprag.evaluation.gate_measures import (
    DecidedGroup,
    ExpertUse,
    decided_groups,
    nearest_rows,
    uses,
    without_strongest,
)
from polyprag.evaluation.results import RESULTS
from polyprag.methods.poly_prag import Mode, PolyPrag
from polyprag.methods.workbench import Setting, Workbench
from polyprag.records import Passage, Question
from polyprag.router_store import FILE as ROUTER_FILE

CANDIDATES = 5
DECIDED_GROUPS = 3
NEAREST_ROWS = 5


@dataclass(frozen=True)
class Candidate:
    """A passage that a routing considered.

    Attributes:
        passage: the passage.
        weight: its share of the choice, from 0 to 1.
        chosen: whether its gates were taken.
        gold: whether the question is known to be about it.
    """

    passage: Passage
    weight: float
    chosen: bool
    gold: bool


@dataclass(frozen=True)
class RoutingView:
    """What one routing chose, and what follows from it.

    Attributes:
        mode: the routing.
        setting: passages per question and how their gates are combined.
        candidates: the passages considered first, best first; none where nothing was found.
        entropy: of the distribution over passages, from 0 (sure) to 1.
        margin: probability of the first passage less that of the second.
        abstains: whether the margin is below `answering.abstain_below`, so that an evaluation would fall back.
        active: experts with a gate above 0, on average over the groups.
        experts: all experts in their order.
        groups: the groups whose gates are most decided, the most decided first.
        answer: under these gates, whether or not they are trusted.
        without: under the same gates without the strongest expert of each group, see `without_strongest`.
        uniform: under gates of the same sum that are the same for all experts.
    """

    mode: Mode
    setting: Setting
    candidates: tuple[Candidate, ...]
    entropy: float
    margin: float
    abstains: bool
    active: float
    experts: tuple[ExpertUse, ...]
    groups: tuple[DecidedGroup, ...]
    answer: str
    without: str
    uniform: str


@dataclass(frozen=True)
class Neighbour:
    """A passage and the cosine of its gates with some others."""

    passage: Passage
    cosine: float


@dataclass(frozen=True)
class Inspection:
    """All that is shown of a question.

    Attributes:
        question: its text.
        gold: accepted answers; none where the question is not known.
        base: the answer of the base model alone.
        routings: passage routing first.
        nearest: the passages whose gates are nearest to those of the first routing, the nearest first; none if that
            found no passage.
    """

    question: str
    gold: tuple[str, ...]
    base: str
    routings: tuple[RoutingView, ...]
    nearest: tuple[Neighbour, ...]


def inspect(bench: Workbench, text: str) -> Inspection:
    """Answer a question by every routing that the run allows, with and without the chosen experts.

    Args:
        bench: a workbench on a trained run.
        text: the question; if it is one of the run's test or validation questions, its gold passages are known.

    Raises:
        ConfigError: the question is empty, or the run has no store.
        DataError: earlier results of the run cannot be read.
        StoreError: store or query router are damaged, or belong to another base model or store.
    """
    question = asked(bench, text)
    methods = routings(bench, question)
    settings = [setting_of(method) for method in methods]
    for method in methods:
        method.prepare([question], [])
    routed = [_route(method, question, setting) for method, setting in zip(methods, settings, strict=True)]
    prompt = bench.writer.question(question.text)
    gates = [gates_GK for choice in routed for gates_GK in _variants(choice.gates_GK)]
    texts = [answer.text for answer in bench.generator.answer([prompt] * len(gates), torch.stack(gates))]
    (alone,) = bench.generator.answer([prompt])
    views = [
        _view(method, question, setting, choice, texts[3 * row : 3 * row + 3])
        for row, (method, setting, choice) in enumerate(zip(methods, settings, routed, strict=True))
    ]
    near = nearest_rows(routed[0].gates_GK, bench.gates_NGK, NEAREST_ROWS)
    nearest = tuple(Neighbour(bench.passages[position], cosine) for position, cosine in near)
    gold = tuple(answer for answer in question.answers if answer)
    return Inspection(question.text, gold, alone.text, tuple(views), nearest)


def asked(bench: Workbench, text: str) -> Question:
    """The question with what the run's test and validation questions know of it, spaces and capitals apart.

    Raises:
        ConfigError: it is empty.
    """
    text = text.strip()
    if not text:
        raise ConfigError("evaluation.question is empty; give the question to look into: question='Where was …?'")
    known = (*bench.knowledge.test, *bench.knowledge.validation)
    same = next((question for question in known if question.text.strip().lower() == text.lower()), None)
    return dataclasses.replace(same, text=text) if same else Question("inspected", text, ("",))


def routings(bench: Workbench, question: Question) -> list[PolyPrag]:
    """Every routing that the run allows for the question: by its gold passages only where these are known.

    Raises:
        ConfigError: the run has no store.
        StoreError: store or query router are damaged, or belong to another base model or store.
    """
    names = [MethodName.POLY_PRAG]
    if (bench.folder / "router" / ROUTER_FILE).is_file():
        names += [MethodName.POLY_PRAG_QUERY, MethodName.POLY_PRAG_HYBRID]
    if any(passage in bench.positions for passage in question.passage_ids):
        names.append(MethodName.POLY_PRAG_ORACLE)
    methods = [PolyPrag(name, bench) for name in names]
    for method in methods:
        method.check([question])
    return methods


def setting_of(method: PolyPrag) -> Setting:
    """The setting that an evaluation of this store has chosen, where the configuration leaves it open; else the first.

    Raises:
        DataError: the evaluation's results cannot be read.
    """
    options = method.options()
    choice = _results(method.bench).get("methods", {}).get(method.name, {}).get("choice", {})
    made = [Setting(choice["passages"], Combine(choice["combine"]), choice["shots"])] if choice else []
    return next((setting for setting in made if setting in options), options[0])


def _results(bench: Workbench) -> dict[str, Any]:
    """What evaluations of this store have left in `results.json`; empty where there are none."""
    path = bench.folder / bench.config.evaluation.dir / RESULTS
    if not path.is_file():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        return results if results["run"]["store"] == bench.store.manifest.digest else {}
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not the results of an evaluation; delete the file, its answers are kept") from None


def _route(method: PolyPrag, question: Question, setting: Setting) -> Routed:
    (choice,) = method.routing.route([question], setting.passages, setting.combine)
    return dataclasses.replace(choice, gates_GK=choice.gates_GK.cpu())


def _variants(gates_GK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gates, the same without each group's strongest expert, and even ones of the same sum."""
    return gates_GK, without_strongest(gates_GK), gates_GK.mean(-1, keepdim=True).expand_as(gates_GK)


def _view(method: PolyPrag, question: Question, setting: Setting, choice: Routed, texts: Sequence[str]) -> RoutingView:
    bench, gates_GK = method.bench, choice.gates_GK
    answer, without, uniform = texts
    (wide,) = method.routing.route([question], max(setting.passages, CANDIDATES), setting.combine)
    candidates = [
        Candidate(passage, weight, position in choice.passages, passage.id in question.passage_ids)
        for position, weight in zip(wide.passages, wide.weights, strict=True)
        for passage in [bench.passages[position]]
    ]
    return RoutingView(
        mode=method.mode,
        setting=setting,
        candidates=tuple(candidates),
        entropy=choice.entropy,
        margin=choice.margin,
        abstains=choice.margin < bench.config.answering.abstain_below,
        active=float((gates_GK > 0).sum(-1).float().mean()),
        experts=uses(gates_GK),
        groups=decided_groups(gates_GK, bench.store.manifest.group_names, DECIDED_GROUPS),
        answer=answer,
        without=without,
        uniform=uniform,
    )
