"""The data of runs as they are now, to tell whether what was learned and answered earlier is about the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from polyprag.config import AugmentBy, Config
from polyprag.errors import PolyPragError
from polyprag.evaluation.data import data_sha
from polyprag.passages import facts_of
from polyprag.runs import AUGMENTATION, run_data, run_knowledge, training_knowledge
from polyprag.store import Store


@dataclass
class PresentData:
    """Hashes of the data that configurations name, each taken once; the data themselves are not kept.

    A hash is empty where data cannot be read any more: nothing is known then against what was made of them.
    """

    _known: dict[str, str] = field(default_factory=dict)

    def learned_from(self, config: Config, folder: Path) -> str:
        """The fingerprint of what a run would be trained on; empty where pairs of its own are not there.

        Args:
            config: of the run.
            folder: the run's folder, where its own augmentation is.
        """
        if is_unwritten(config, folder):
            return ""
        key = repr(("training", run_data(config, folder), config.base))
        return self._once(key, lambda: training_knowledge(config, folder).fingerprint)

    def asked(self, config: Config, folder: Path, store: Store) -> str:
        """The hash of the questions that a trained run would answer and the passages of its store.

        Args:
            config: of the run.
            folder: the run's folder.
            store: the run's.
        """
        key = repr(("evaluation", run_data(config, folder), config.base, facts_of(store.passages).sha256))
        return self._once(key, lambda: data_sha(run_knowledge(config, folder).test, store.passages))

    def _once(self, key: str, read: Callable[[], str]) -> str:
        if key not in self._known:
            try:
                self._known[key] = read()
            except PolyPragError:
                self._known[key] = ""
        return self._known[key]


def is_unwritten(config: Config, folder: Path) -> bool:
    """Whether a run has rewrites and pairs written for itself that are not in its folder."""
    own = config.augmentation.by is not AugmentBy.NONE and not config.data.augmentation
    return own and not (folder / AUGMENTATION).is_file()
