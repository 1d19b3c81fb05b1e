"""A sweep file: which keys take which values, around which base configuration.

A file is that of a Weights & Biases sweep, so `wandb sweep FILE` and `wandb agent` run the same grid. What W&B has no
key for stands in a section `polyprag`, which its schema does not know; files without that section fit both.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyprag.config import MethodName
from polyprag.config.keys import LONGEST_SHOWN, keys, shown, suggestion
from polyprag.errors import ConfigError

SEED = "run.seed"
METHODS = "evaluation.methods"
OUR_SECTION = "polyprag"
TOP_KEYS = ("program", "method", "metric", "parameters", "command", "name", "description", "project", OUR_SECTION)
OUR_KEYS = ("base", "design", "x", "saving", "keep_checkpoints")
PLACED_BY_SWEEP = ("run.dir", "evaluation.dir", "logging.group")
SEE = "docs/sweeps.md shows what a sweep file holds"


class Design(StrEnum):
    """How the values of several keys are put together."""

    GRID = "grid"
    ONE_AT_A_TIME = "one_at_a_time"


@dataclass(frozen=True)
class Axis:
    """A key and the values that it takes, as a command line would write them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Definition:
    """What a sweep file says.

    Attributes:
        path: the file.
        base: the configuration file of all runs.
        constants: `key=value` texts that hold for all runs.
        axes: the swept keys in the order of the file, seeds not among them.
        seeds: values of `run.seed`; empty means that of the base configuration.
        design: how the axes are put together.
        x: the swept key across the figure; empty means the first.
        saving: two methods, of which the first may need less training data for the best F1 of the second; or none.
        keep_checkpoints: whether finished runs keep their checkpoints.
    """

    path: Path
    base: Path
    constants: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    seeds: tuple[str, ...] = ()
    design: Design = Design.GRID
    x: str = ""
    saving: tuple[MethodName, ...] = ()
    keep_checkpoints: bool = False


def read_definition(path: Path) -> Definition:
    """Read a sweep file.

    Raises:
        ConfigError: the file cannot be read, says what no sweep file says, or names a base file that is not there.
    """
    return _Reader(path, _parse(path)).definition()


@dataclass
class _Reader:
    """Takes a parsed file apart; every complaint begins with its path."""

    path: Path
    content: dict[str, Any]
    ours: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._known(self.content, TOP_KEYS, "")
        self.ours = self._mapping(self.content.get(OUR_SECTION, {}), OUR_SECTION)
        self._known(self.ours, OUR_KEYS, f"{OUR_SECTION}.")

    def definition(self) -> Definition:
        """All of it."""
        if self.content.get("method", "grid") != "grid":
            raise self._wrong("method", self.content["method"], "this program runs grids; write method: grid")
        parameters = self._mapping(self.content.get("parameters"), "parameters")
        fixed: list[Axis] = []
        swept: list[Axis] = []
        for key, parameter in parameters.items():
            axis, is_constant = self._parameter(key, parameter)
            (fixed if is_constant else swept).append(axis)
        x = self._ours("x", "")
        if x and x not in {axis.key for axis in swept if axis.key != SEED}:
            raise self._wrong(f"{OUR_SECTION}.x", x, "not one of the swept keys; name one of them, or leave it out")
        return Definition(
            path=self.path,
            base=self._base(),
            constants=tuple(f"{axis.key}={axis.values[0]}" for axis in fixed),
            axes=tuple(axis for axis in swept if axis.key != SEED),
            seeds=next((axis.values for axis in swept if axis.key == SEED), ()),
            design=self._design(),
            x=x,
            saving=self._saving(),
            keep_checkpoints=self._ours("keep_checkpoints", False),
        )

    def _parameter(self, key: str, parameter: Any) -> tuple[Axis, bool]:
        """A parameter with its values, and whether it is a constant."""
        where = f"parameters.{key}"
        if key not in keys():
            hint = suggestion(str(key), list(keys())) or "; docs/configuration.md has all keys"
            raise ConfigError(f"{self.path}: {where}: unknown key {shown(key)}{hint}")
        if key in PLACED_BY_SWEEP:
            raise ConfigError(f"{self.path}: {where}: the sweep itself sets {key}; leave it out")
        content = self._mapping(parameter, where)
        if content.keys() == {"value"}:
            return Axis(key, (self._text(content["value"], f"{where}.value"),)), True
        if content.keys() != {"values"}:
            raise ConfigError(f"{self.path}: {where}: expected `values: [...]` or `value: ...`, as a grid has them")
        values = content["values"]
        if not isinstance(values, list) or not values:
            raise self._wrong(f"{where}.values", values, "expected a list of at least one value")
        return Axis(key, tuple(self._text(value, f"{where}.values") for value in values)), False

    def _text(self, value: Any, where: str) -> str:
        """A value as a command line would write it."""
        if value is None or isinstance(value, dict):
            raise self._wrong(where, value, "expected a number, a word or a list")
        if isinstance(value, list):
            return json.dumps(value, ensure_ascii=False, default=str)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _base(self) -> Path:
        """The base configuration: the file after --config in `command`, or that of our section."""
        command = self.content.get("command", [])
        if not isinstance(command, list):
            raise self._wrong("command", command, "expected a list of words")
        words = [str(word) for word in command]
        named = [after for word, after in itertools.pairwise(words) if word == "--config"]
        named += [self._ours("base", "")] if "base" in self.ours else []
        if not named:
            raise ConfigError(
                f"{self.path}: names no base configuration; put --config and a file into command, or set "
                f"{OUR_SECTION}.base; {SEE}"
            )
        if len(set(named)) > 1:
            raise ConfigError(f"{self.path}: names two base configurations, {' and '.join(named)}; keep one")
        if not Path(named[0]).is_file():
            raise ConfigError(
                f"{self.path}: no base configuration {named[0]} here; paths count from the current folder"
            )
        return Path(named[0])

    def _design(self) -> Design:
        word = self._ours("design", Design.GRID.value)
        if word not in list(Design):
            raise self._wrong(f"{OUR_SECTION}.design", word, f"expected one of {', '.join(Design)}")
        return Design(word)

    def _saving(self) -> tuple[MethodName, ...]:
        """The two methods whose training data is compared; none if the file does not say."""
        names = self._ours("saving", [])
        if names and (len(names) != 2 or not set(names) <= set(MethodName)):
            raise self._wrong(f"{OUR_SECTION}.saving", names, "expected two methods, such as [poly_prag, prag]")
        return tuple(map(MethodName, names))

    def _ours(self, name: str, default: Any) -> Any:
        """A value of our section, of the same type as its default."""
        value = self.ours.get(name, default)
        if not isinstance(value, type(default)):
            expected = {bool: "true or false", list: "a list"}.get(type(default), "a word")
            raise self._wrong(f"{OUR_SECTION}.{name}", value, f"expected {expected}")
        return value

    def _known(self, mapping: dict[str, Any], known: Sequence[str], prefix: str) -> None:
        for name in mapping:
            if name not in known:
                hint = suggestion(str(name), known) or f"; {SEE}"
                raise ConfigError(f"{self.path}: unknown key {shown(f'{prefix}{name}')}{hint}")

    def _mapping(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or (not value and where == "parameters"):
            raise self._wrong(where, value, "expected keys and values")
        return value

    def _wrong(self, where: str, value: Any, expected: str) -> ConfigError:
        found = "empty" if value is None else repr(value)[:LONGEST_SHOWN]
        return ConfigError(f"{self.path}: {where} is {found}, {expected}")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is given twice, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node whose keys are all different."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _parse(path: Path) -> dict[str, Any]:
    """The content of a YAML file that is a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name a sweep file after --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({type(error).__name__}); name a sweep file after --config"
        ) from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}; correct it") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}); correct it") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys such as `parameters:`, not {shown(str(content))}; {SEE}")
    return content
