"""What results depend on: hashes of configurations, and digests of what later stages have trained."""

from pathlib import Path

import pytest
import torch

from polyprag.config import Config, MethodName
from polyprag.config.loading import load_config
from polyprag.evaluation.grounds import grounds, trained_digests, void_methods
from polyprag.evaluation.results import Results
from polyprag.translator_store import FOLDER, TranslatorFacts, write_translator

OF_DEFAULTS = {
    **{"vanilla": "957d70fe76970af5", "dyprag_combine": "957d70fe76970af5", "poly_prag_query": "957d70fe76970af5"},
    **{"prag": "bd441601b90bfd21", "prag_combine": "bd441601b90bfd21", "flare_format": "4e4a6d10290f2143"},
}
"""As they stand in results on disk; another hash would void these."""
COMBINED = {name.value for name in MethodName if name.endswith("_combine")}
CHOOSING = {f"poly_prag{mode}{combine}" for mode in ("", "_query", "_hybrid") for combine in ("", "_combine")}
ROUTED = {name for name in CHOOSING if "query" in name or "hybrid" in name}
DYPRAG = {"dyprag", "dyprag_combine"}


def results_of(run: dict[str, str]) -> Results:
    """Results of all methods, whose grounds are of the default configuration."""
    methods = {name.value: {"grounds": grounds(Config(), name)} for name in MethodName}
    return {"schema": 1, "run": run, "data": {}, "methods": methods, "differences": []}


def translate(folder: Path, seed: int) -> None:
    facts = TranslatorFacts("abc", "tiny", {"up_proj": (4, 8)}, 4, 2, 4, 0.5, "direct", {"seed": seed}, {})
    torch.manual_seed(seed)
    write_translator(folder / FOLDER, facts.new_translator(0.3), facts, ["ab" * 32])


@pytest.mark.parametrize(("name", "expected"), OF_DEFAULTS.items())
def test_keys_at_their_defaults_leave_earlier_hashes_as_they_are(name, expected):
    assert grounds(Config(), name) == expected


@pytest.mark.parametrize(
    ("overrides", "void"),
    [
        (["answering.combine_scale=0.5"], COMBINED),
        (["answering.abstain_below=0.2"], CHOOSING),
        (["answering.abstain_to=standard_rag"], set()),
        (["answering.key_share=0.1"], ROUTED),
        (["translator.composition=factor"], DYPRAG),
        (["translator.epochs=9"], set()),
        (["prag.parallel=4"], set()),
        (["prag.parallel=4", "prag.rank=4"], {"prag", "prag_combine"}),
    ],
)
def test_a_key_counts_for_the_methods_that_it_matters_to(overrides, void):
    assert void_methods(results_of({}), load_config(None, overrides), {}) == void


def test_what_answers_untrusted_questions_counts_where_some_are():
    base, rag = (
        grounds(load_config(None, ["answering.abstain_below=0.2", f"answering.abstain_to={to}"]), "poly_prag")
        for to in ("base", "standard_rag")
    )
    assert base != rag


def test_a_translator_trained_anew_or_gone_voids_its_own_methods(tmp_path):
    translate(tmp_path, seed=0)
    before = trained_digests(tmp_path)
    assert [name for name, digest in before.items() if digest] == ["translator"]
    assert void_methods(results_of(before), Config(), trained_digests(tmp_path)) == set()
    translate(tmp_path, seed=1)
    assert void_methods(results_of(before), Config(), trained_digests(tmp_path)) == DYPRAG
    (tmp_path / FOLDER / "translator.safetensors").write_bytes(b"torn")
    assert void_methods(results_of(before), Config(), trained_digests(tmp_path)) == DYPRAG


@pytest.mark.parametrize("control", ["format_lora", "global_lora"])
def test_so_does_a_control(control):
    before = dict.fromkeys(("router", "translator", "format_lora", "global_lora"), "old")
    formatted = {name.value for name in MethodName if name.endswith("_format")} if control == "format_lora" else set()
    assert void_methods(results_of(before), Config(), {**before, control: "new"}) == formatted | {control}


def test_results_that_do_not_tell_stay():
    now = dict.fromkeys(("router", "translator", "format_lora", "global_lora"), "new")
    assert void_methods(results_of({}), Config(), now) == set()
