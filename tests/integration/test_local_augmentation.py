"""Augmentation by the built-in base model in 4 bits: what it writes is of use, and a second run asks for nothing."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from polyprag.augmentation.stage import AUGMENTATION, REPORT, run_augmentation
from polyprag.config import AugmentationConfig, AugmentBy, Config, Fill
from polyprag.records import Knowledge, Passage

pytestmark = [pytest.mark.model, pytest.mark.slow]

PASSAGES = (
    Passage("p0", "Mira Tolk", "Mira Tolk was a glass maker. She was born in Arlen in 1867 and had 3 sisters."),
    Passage("p1", "Arlen", "Arlen is a town on the river Om. Its school was founded in 1702 by Jon Veld."),
)


def run(folder: Path) -> tuple[list[dict], dict]:
    own = AugmentationConfig(by=AugmentBy.LOCAL, temperature=0.0, max_tokens=64, fill=Fill.NONE)
    own.cache = str(folder / "cache")
    run_augmentation(Config(augmentation=own), folder, Knowledge(PASSAGES), Console(quiet=True))
    rows = [json.loads(line) for line in (folder / AUGMENTATION).read_text(encoding="utf-8").splitlines()]
    return rows, json.loads((folder / REPORT).read_text(encoding="utf-8"))


def test_the_built_in_model_writes_pairs_that_stand_up_and_is_asked_once(tmp_path):
    rows, report = run(tmp_path)
    assert (report["by"], report["failed"], report["cached"]) == ("smollm2-135m", {}, 0)
    pairs = [pair for row in rows for pair in row["qa"]]
    assert len(pairs) >= 3
    texts = " ".join(passage.text for passage in PASSAGES)
    for pair in pairs:
        assert pair["answer"] in texts
        assert pair["question"].endswith("?")
    again, second = run(tmp_path)
    assert again == rows
    assert second["cached"] == second["requests"] == report["requests"]
    assert second["this_run"]["replies"] == 0
