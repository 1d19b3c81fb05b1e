import json

import numpy as np
import pytest
import torch
from made_answers import answer
from page_reading import Page, Shown, wrong_numbers

from polyprag.evaluation.page import routing
from polyprag.evaluation.page.page import write_page
from polyprag.evaluation.page.routing import gate_table, measure_routing, use_table
from polyprag.experts.routing import gates_from_logits
from polyprag.store import open_store


@pytest.fixture
def store(configure, train_at_random, tmp_path):
    config = configure("routing.top_k=2")
    train_at_random(config, tmp_path / "run")
    return open_store(tmp_path / "run" / "store"), config


def expected(store, config, chosen):
    """The same measures, passage by passage and group by group."""
    gates = gates_from_logits(store.rows_NGK.float(), config.routing.normalisation, config.routing.top_k).double()
    passages, groups, experts = gates.shape
    used = []
    for gates_K in gates.reshape(-1, experts):
        positive = gates_K[gates_K > 0] / gates_K.sum()
        used.append(float(torch.exp(-(positive * positive.log()).sum())))
    flat = gates.reshape(passages, -1)
    cosines = [float(torch.cosine_similarity(flat[a], flat[b], dim=0)) for a in range(passages) for b in range(a)]
    at = {passage.id: position for position, passage in enumerate(store.passages)}
    types = {
        kind: torch.stack([torch.stack([gates[at[p]].mean(0) for p in own]).mean(0) for own in questions])
        .mean(0)
        .tolist()
        for kind, questions in chosen.items()
    }
    return {
        **{"passages": passages, "measured": passages, "drawn": passages, "groups": groups, "experts": experts},
        **{"use": gates.mean((0, 1)).tolist(), "effective": np.mean(used), "cosine": np.mean(cosines)},
        **{"least": float(gates.mean(1).min()), "most": float(gates.mean(1).max()), "types": types},
    }


CHOSEN = {"one_hop": [("p0",), ("p1", "p2")], "two_hop": [("p3", "p4")]}
ANSWERS = [
    answer("poly_prag", at, 1.0, kind, {"retrieved": passages})
    for at, (kind, passages) in enumerate((kind, own) for kind, found in CHOSEN.items() for own in found)
]


def test_measures_are_those_of_the_rows(store):
    opened, config = store
    found = measure_routing(opened.folder, opened.manifest.digest, ANSWERS)
    wanted = expected(opened, config, CHOSEN)
    assert found.numbers.content.keys() == wanted.keys()
    for key in wanted.keys() - {"types"}:
        assert found.numbers.content[key] == pytest.approx(wanted[key]), key
    assert found.numbers.content["types"].keys() == CHOSEN.keys()
    for kind in CHOSEN:
        assert found.numbers.content["types"][kind] == pytest.approx(wanted["types"][kind])
    assert np.min(found.levels) == 0
    assert np.max(found.levels) == pytest.approx(1)
    strongest = [int(np.argmax(row)) for row in found.levels]
    assert strongest == sorted(strongest)


def test_large_stores_are_sampled_evenly(store, monkeypatch):
    opened, _ = store
    monkeypatch.setattr(routing, "MEASURED", 3)
    monkeypatch.setattr(routing, "DRAWN", 2)
    found = measure_routing(opened.folder, opened.manifest.digest, [])
    numbers = found.numbers.content
    assert (numbers["passages"], numbers["measured"], numbers["drawn"]) == (6, 3, 2)
    assert len(found.levels) == 2


def test_another_store_or_none_is_not_measured(store, tmp_path):
    opened, _ = store
    assert measure_routing(opened.folder, "of another", []) is None
    assert measure_routing(tmp_path / "nowhere", "", []) is None
    (opened.folder / "rows.safetensors").write_bytes(b"damaged")
    assert measure_routing(opened.folder, opened.manifest.digest, []) is None


def test_tables_are_there_where_types_are(store):
    opened, _ = store
    found = measure_routing(opened.folder, opened.manifest.digest, ANSWERS)
    assert [len(row) for row in gate_table(found).rows] == [4, 4]
    assert len(use_table(found).rows[0]) == 4
    assert gate_table(measure_routing(opened.folder, opened.manifest.digest, [])) is None


def test_the_page_shows_what_was_measured(store, evaluated):
    opened, config = store
    folder = evaluated(
        said={"retrieved": ("p0", "p5")}, change=lambda results: results["run"].update(store=opened.manifest.digest)
    )
    page = Page(write_page(folder, opened.folder.parent).read_text())
    shown = [number for number in page.numbers if number.source == "store"]
    own = {"one_hop": [("p0", "p5")], "two_hop": [("p0", "p5")]}
    wanted = json.loads(json.dumps(expected(opened, config, own)))
    assert {number.path.split(".")[0] for number in shown} == wanted.keys() - {"measured"}
    assert not page.stray
    close = measure_routing(opened.folder, opened.manifest.digest, []).numbers.content | {"types": wanted["types"]}
    exact = [number for number in shown if not number.path.startswith("types")]
    assert wrong_numbers(exact, {"store": close}) == []
    for number in set(shown) - set(exact):
        _, kind, expert = number.path.split(".")
        assert isinstance(number, Shown)
        assert number.value == pytest.approx(wanted["types"][kind][int(expert)])
