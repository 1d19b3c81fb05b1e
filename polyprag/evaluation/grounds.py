"""What answers depend on: by it they are found again, and results of other settings leave the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyprag.config import Config, MethodName
from polyprag.config.keys import config_values, keys
from polyprag.evaluation.results import Results
from polyprag.methods.method import Method
from polyprag.methods.poly_prag import COMBINE_SUFFIX, GIVEN_GOLD, mode_of, needs_router
from polyprag.router_store import router_digest
from polyprag.store import store_digest
from polyprag.training.controls import CONTROLS, control_folder, needed_controls
from polyprag.training.router_stage import FOLDER as ROUTER
from polyprag.translator_store import FOLDER as TRANSLATOR
from polyprag.translator_store import translator_digest

SHARED_KEYS = (
    *("base.", "answering.max_new_tokens", "answering.expand_index"),
    *("retrieval.backend", "retrieval.titles", "retrieval.encoder"),
)
"""Configuration on which every method's answers depend."""
LATER_KEYS = ("answering.prompt",)
"""More of it, which counts where it is not at its default, so that earlier answers are still recognised."""
OWN_KEYS = {"prag": ("prag.", "warm_up."), "flare": ("flare.",), "dragin": ("dragin.",)}
"""Configuration on which the answers of some methods depend, by the beginning of their names."""
NEUTRAL_KEYS = ("prag.parallel",)
"""Keys of theirs that only change rounding; they count as if at their default, by which earlier results were hashed."""
COMBINED = frozenset(name for name in MethodName if name.endswith(COMBINE_SUFFIX))
CHOOSING = frozenset(name for name in MethodName if name.startswith("poly_prag") and mode_of(name) not in GIVEN_GOLD)
"""Methods whose choice of passages may not be trusted."""
ROUTED = frozenset(filter(needs_router, MethodName))
TRANSLATED = frozenset(name for name in MethodName if name.startswith("dyprag"))
LATER_OWN_KEYS: tuple[tuple[tuple[str, ...], frozenset[str]], ...] = (
    (("answering.combine_scale",), COMBINED),
    (("answering.abstain_below", "answering.abstain_to"), CHOOSING),
    (("answering.key_share",), ROUTED),
    (("translator.composition",), TRANSLATED),
)
"""More of it, with the methods that it matters to; keys count together where the first is not at its default."""


def answers_key(config: Config, method: Method, data_sha: str, detail: str) -> str:
    """A hash (16 hex digits) of all that a method's answers depend on.

    Args:
        config: of the call.
        method: whose identity counts.
        data_sha: of questions and passages.
        detail: the setting, or whatever else tells these answers from others.
    """
    parts = [method.name.value, detail, method.identity, data_sha, config.evaluation.seed, _shared(config)]
    return _digest(parts)


def grounds(config: Config, name: str) -> str:
    """A hash (16 hex digits) of the configuration on which a method's answers depend, whatever setting was chosen.

    Args:
        config: of the call.
        name: of the method.
    """
    own = next((own for family, own in OWN_KEYS.items() if name == family or name.startswith(f"{family}_")), ())
    values = config_values(config) | {key: keys()[key].default for key in NEUTRAL_KEYS}
    counted = [key for key in values if own and key.startswith(own)]
    for later, methods in LATER_OWN_KEYS:
        if name in methods and values[later[0]] != keys()[later[0]].default:
            counted += later
    return _digest([_shared(config), config.evaluation.seed, {key: str(values[key]) for key in counted}])


def trained_digests(run: Path) -> dict[str, str]:
    """The digests of what stages after the pool have trained in a run, by its name; empty where there is none.

    Args:
        run: its folder.
    """
    controls = {name.value: store_digest(control_folder(run, name) / "store") for name in CONTROLS}
    return {ROUTER: router_digest(run / ROUTER), TRANSLATOR: translator_digest(run / TRANSLATOR), **controls}


def void_methods(results: Results, config: Config, trained: Mapping[str, str]) -> set[str]:
    """The methods whose results are of another configuration, or of what was trained anew since or is gone.

    Results of earlier versions, which do not tell, are never void.

    Args:
        results: of earlier calls.
        config: of this one.
        trained: as `trained_digests` gives it now.
    """
    run, known = results["run"], results.get("methods", {})
    void = {name for name, own in known.items() if own.get("grounds") not in (None, grounds(config, name))}
    changed = {part for part, digest in trained.items() if run.get(part, digest) != digest}
    return void | {name.value for name in MethodName if not changed.isdisjoint(_trained_for(name))}


def _trained_for(name: MethodName) -> list[str]:
    """What stages after the pool must have trained for a method."""
    controls = [control.value for control in needed_controls([name])]
    return [*[ROUTER] * (name in ROUTED), *[TRANSLATOR] * (name in TRANSLATED), *controls]


def _shared(config: Config) -> dict[str, str]:
    values = config_values(config)
    counted = (*SHARED_KEYS, *(key for key in LATER_KEYS if values[key] != keys()[key].default))
    return {key: str(value) for key, value in values.items() if key.startswith(counted)}


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
