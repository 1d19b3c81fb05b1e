"""Outside passages for what learns from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TOWNS = {"Gard": ("Om", "1812"), "Tolm": ("Ys", "1640"), "Ruhn": ("Vee", "1955")}


@pytest.fixture
def outside_file(tmp_path: Path) -> Path:
    """Three towns with two pairs each, none of which is in the library."""
    rows = [
        {
            "title": name,
            "text": f"{name} is a town by the {river}, founded in {year}.",
            "qas": [
                {"question": f"By which river is {name}?", "answer": f"the {river}"},
                {"question": f"When was {name} founded?", "answer": year},
            ],
        }
        for name, (river, year) in TOWNS.items()
    ]
    path = tmp_path / "outside.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
