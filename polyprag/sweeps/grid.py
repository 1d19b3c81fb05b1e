"""From a sweep file to its runs: combinations of values, each a whole configuration, equal ones only once."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from polyprag.config import Config
from polyprag.config.checks import validate
from polyprag.config.keys import config_difference, config_values, keys
from polyprag.config.loading import COMMAND_LINE, load_config
from polyprag.errors import ConfigError
from polyprag.sweeps.definition import METHODS, SEED, Axis, Definition, Design
from polyprag.training.checkpoint import MAY_DIFFER

WITHOUT_RESULT = ("run.", "logging.", "training.", "evaluation.dir", METHODS)
"""Keys out of `MAY_DIFFER` on which no answer depends; methods are told apart within an evaluation."""
HASH_LENGTH = 8
LONGEST_NAME = 60


@dataclass(frozen=True, eq=False)
class Run:
    """One training and one evaluation of it; the same one wherever it occurs in a sweep.

    Attributes:
        config: the configuration of both, without folders.
        overrides: `key=value` texts that make it from the base configuration.
        label: the swept keys and their values, for people.
        name: the readable part of the folder's name: swept keys on which training depends.
        training_id: hash of all on which training depends.
        evaluation_id: hash of what else answers depend on.
    """

    config: Config
    overrides: tuple[str, ...]
    label: str
    name: str
    training_id: str
    evaluation_id: str

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods to evaluate."""
        return tuple(method.value for method in self.config.evaluation.methods)

    @property
    def identity(self) -> tuple[str, str, tuple[str, ...]]:
        """What makes two runs the same."""
        return self.training_id, self.evaluation_id, self.methods


@dataclass(frozen=True)
class Point:
    """A combination of values with its runs, one for each seed.

    Attributes:
        values: of the group's keys, in their order, typed.
        runs: by seed, in the order of the seeds.
    """

    values: tuple[Any, ...]
    runs: tuple[Run, ...]

    @property
    def config(self) -> Config:
        """The configuration, but for the seed."""
        return self.runs[0].config


@dataclass(frozen=True)
class Group:
    """Points that belong into one table and one figure.

    Attributes:
        keys: the keys that differ, the one across the figure first; none where nothing but the seed does.
        points: in the order of the file.
    """

    keys: tuple[str, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep file worked out.

    Attributes:
        definition: what the file says.
        base: the base configuration with the constants and the command line's overrides.
        groups: all points; under `one_at_a_time` a group for each key.
        runs: every different run once, those of one seed after those of another, so that early stops leave all points.
    """

    definition: Definition
    base: Config
    groups: tuple[Group, ...]
    runs: tuple[Run, ...]


def build_sweep(definition: Definition, overrides: Sequence[str]) -> Sweep:
    """Work out all runs of a sweep, and check each.

    Args:
        definition: the sweep file.
        overrides: `key=value` texts for all runs; a swept key that they name is swept no more.

    Raises:
        ConfigError: a combination cannot run; the message names it.
    """
    fixed = {override.partition("=")[0].strip() for override in overrides}
    shared = (*definition.constants, *overrides)
    base = load_config(definition.base, shared)
    axes = tuple(axis for axis in definition.axes if axis.key not in fixed)
    seeds = () if SEED in fixed else definition.seeds
    builder = _Builder(definition, shared, [f"{SEED}={seed}" for seed in seeds])
    groups = tuple(builder.group(keys, choices) for keys, choices in _designed(definition, axes))
    runs = {run.identity: run for run in _by_seed([point for group in groups for point in group.points])}
    return Sweep(definition, base, groups, tuple(runs.values()))


def trains(key: str) -> bool:
    """Whether what `train.py` leaves depends on a key: the store, the query router, the controls and the translator."""
    if key == "translator.composition":  # how translated adapters are merged while they answer
        return False
    return key.startswith(("router.", "controls.", "translator.")) or not key.startswith(MAY_DIFFER)


def shapes_answers(key: str) -> bool:
    """Whether answers or what sums them up depend on a key beside what was trained."""
    return not trains(key) and not key.startswith(WITHOUT_RESULT)


def needs_translator(methods: Iterable[str]) -> bool:
    """Whether some methods need DyPRAG's parameter translator."""
    return any(method.startswith("dyprag") for method in methods)


def _designed(definition: Definition, axes: Sequence[Axis]) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Keys and combinations of their values, group by group; the key across the figure comes first."""
    if definition.design is Design.ONE_AT_A_TIME and axes:
        for axis in axes:
            yield (axis.key,), [(value,) for value in axis.values]
        return
    ordered = sorted(axes, key=lambda axis: axis.key != definition.x)
    yield tuple(axis.key for axis in ordered), list(itertools.product(*(axis.values for axis in ordered)))


def _by_seed(points: Sequence[Point]) -> Iterator[Run]:
    """The runs of all points, seed after seed."""
    for of_one_seed in itertools.zip_longest(*(point.runs for point in points)):
        yield from (run for run in of_one_seed if run is not None)


class _Builder:
    """Makes points out of texts; a run that occurs again is the same one."""

    def __init__(self, definition: Definition, shared: tuple[str, ...], seeds: list[str]) -> None:
        self.definition, self.shared, self.seeds = definition, shared, seeds
        self.runs: dict[tuple[str, str, tuple[str, ...]], Run] = {}

    def group(self, names: tuple[str, ...], choices: Sequence[tuple[str, ...]]) -> Group:
        """The points of some keys, one for each different choice of their values."""
        points: dict[str, Point] = {}
        for choice in choices:
            chosen = tuple(f"{name}={text}" for name, text in zip(names, choice, strict=True))
            runs = {run.identity: run for seed in self.seeds or [""] for run in [self.run(chosen, seed)]}
            point = Point(_typed(next(iter(runs.values())).config, names), tuple(runs.values()))
            self._check_questions(point)
            points.setdefault(repr(point.values), point)
        return Group(names, tuple(points.values()))

    def run(self, chosen: tuple[str, ...], seed: str) -> Run:
        """The run of a combination and a seed (`run.seed=N`, or none), checked."""
        swept = (*chosen, seed) if seed else chosen
        label = " ".join(map(_short, swept)) or self.definition.base.stem
        config = self._config(swept, label)
        run = Run(
            config=config,
            overrides=(*self.shared, *swept),
            label=label,
            name=_folder_name([text for text in swept if trains(text.partition("=")[0])]),
            training_id=_digest(config, [key for key in keys() if trains(key)]),
            evaluation_id=_digest(config, [key for key in keys() if shapes_answers(key)]),
        )
        return self.runs.setdefault(run.identity, run)

    def _config(self, swept: tuple[str, ...], label: str) -> Config:
        try:
            config = load_config(self.definition.base, [*self.shared, *swept])
            validate(config)
        except ConfigError as error:
            if not swept:
                raise
            reason = str(error).removeprefix(f"{COMMAND_LINE}: ")
            raise ConfigError(f"{self.definition.path}: {label} cannot run: {reason}") from None
        return config

    def _check_questions(self, point: Point) -> None:
        """Seeds are averaged question by question, so the seed must leave the data alone."""
        for run in point.runs[1:]:
            changed = [key for key in config_difference(point.config, run.config) if key.startswith("data.")]
            if changed:
                raise ConfigError(
                    f"{self.definition.path}: {changed[0]} depends on {SEED}, but all seeds of a combination must "
                    "answer the same questions; give it a fixed value, or values of its own"
                )


def _typed(config: Config, names: tuple[str, ...]) -> tuple[Any, ...]:
    values = config_values(config)
    return tuple(values[name] for name in names)


def _short(text: str) -> str:
    """`experts.count=8` as `count=8`."""
    name, equals, value = text.partition("=")
    return f"{name.rpartition('.')[2]}{equals}{value}"


def _folder_name(swept: Sequence[str]) -> str:
    """Swept values as a folder may be named: `count-8-seed-0`."""
    joined = "-".join(map(_short, swept))
    return re.sub(r"[^A-Za-z0-9._]+", "-", joined)[:LONGEST_NAME].strip("-") or "run"


def _digest(config: Config, names: Sequence[str]) -> str:
    """A hash of those of the named values that differ from their defaults, so that new keys change no old hash."""
    values = config_values(config)
    chosen = {name: values[name] for name in names if values[name] != keys()[name].default}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]
