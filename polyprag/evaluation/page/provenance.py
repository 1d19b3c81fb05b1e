"""Where results come from: configuration, versions, and the commands that make them again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyprag.config import AugmentBy, MethodName
from polyprag.config.keys import keys
from polyprag.evaluation.page.numbers import Source
from polyprag.markdown import printable
from polyprag.runs import AUGMENTATION
from polyprag.training.controls import needed_controls

WIDEST = 1_000_000
STATED_KEYS = ("run.dir", "evaluation.methods", "evaluation.question")
"""Keys that a command states by itself, or that change no result."""


@dataclass(frozen=True)
class Setting:
    """A key of the configuration with its value and its default, as `key=value` has them; empty for unknown keys."""

    key: str
    value: str
    default: str


def settings(results: Source) -> list[Setting]:
    """The whole configuration of the last call; empty for results of versions that did not write it."""
    config: Mapping[str, Any] = results.get("run", "config") or {}
    known = keys()
    return [
        Setting(key, printable(value_text(value)), value_text(known[key].default) if key in known else "")
        for key, value in config.items()
    ]


def changed(found: list[Setting]) -> list[Setting]:
    """Those that are not at their default."""
    return [setting for setting in found if setting.value != setting.default and setting.key not in STATED_KEYS]


def environment(results: Source) -> list[tuple[str, str]]:
    """Versions, machine, and digests of what the results belong to, by name."""
    run: Mapping[str, Any] = results.get("run")
    facts = {**(run.get("environment") or {}), "seed": run.get("seed")}
    facts |= {name: run.get(name) for name in ("base", "quantisation", "store", "router")}
    facts["questions and passages, sha256"] = results.get("data", "sha256")
    return [(name, printable(str(value))) for name, value in facts.items() if value not in (None, "")]


def commands(results: Source, folder: Path) -> list[str]:
    """Commands for a shell that train and evaluate as these results were; none where the configuration is unknown.

    Args:
        results: of the evaluation.
        folder: the run's folder.
    """
    config: Mapping[str, Any] = results.get("run", "config") or {}
    return list(_commands(results, config, folder)) if config else []


def value_text(value: Any) -> str:
    """A value as it stands behind `key=`, where `load_config` reads it back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        plain = [_unreferred(str(item)) if isinstance(item, str) else item for item in value]
        text: str = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=WIDEST)
        return text.strip()
    return _unreferred(str(value))


def _commands(results: Source, config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """One line for each stage, with the keys that it had otherwise than the configuration it starts from."""
    place = _pair("run.dir", results.get("run", "dir") or str(folder))
    told: Mapping[str, Any] = results.get("run", "trained") or {}
    pool: Mapping[str, Any] = told.get("pool") or config
    defaults = {name: key.default for name, key in keys().items()}
    start = pool if results.get("run", "store") else defaults
    methods = list(results.get("methods"))
    if start is pool:
        if pool.get("augmentation.by") == AugmentBy.NONE and (folder / AUGMENTATION).is_file():
            yield f"# {printable(str(folder / AUGMENTATION))} is older: python train.py augment"
        yield _line("train.py", place, *_words(pool, defaults))
        if not pool.get("router.after_pool", True) and results.get("run", "router"):
            yield _line("train.py router", place)
    controls = needed_controls(methods)
    if controls:
        words = _words({**pool, **told.get("controls", {})}, start)
        yield _line("train.py controls", place, *words, _pair("evaluation.methods", controls))
    if any(name.startswith(MethodName.DYPRAG) for name in methods):
        yield _line("train.py translator", place, *_words({**pool, **told.get("translator", {})}, start))
    yield _line("evaluate.py", place, *_words(config, start), _pair("evaluation.methods", methods))


def _words(values: Mapping[str, Any], start: Mapping[str, Any]) -> list[str]:
    """The keys that differ from those at the start, as `key=value`."""
    defaults = keys()
    return [
        _pair(key, value)
        for key, value in values.items()
        if key in defaults
        and key not in STATED_KEYS
        and value_text(value) != value_text(start.get(key, defaults[key].default))
    ]


def _pair(key: str, value: Any) -> str:
    return shlex.quote(f"{key}={value_text(value)}")


def _line(program: str, *words: str) -> str:
    return " ".join(("python", program, *words))


def _unreferred(text: str) -> str:
    """A text in which OmegaConf sees no reference to another key."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
