import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from polyprag.config import BaseConfig, Dtype, Quantisation
from polyprag.errors import StoreError
from polyprag.experts import base_model
from polyprag.experts.base_model import load_base
from polyprag.experts.fingerprints import forms, same_weights
from polyprag.store import open_store

FILE = "model.safetensors"


@pytest.fixture
def copied(tiny_model_folder, tmp_path) -> Path:
    """A copy of the tiny model's folder."""
    return shutil.copytree(tiny_model_folder, tmp_path / "copy")


@pytest.fixture
def merged(copied) -> Path:
    """The tiny model after a fine-tune of one layer's low-rank update, which was merged into it."""
    weights = load_file(copied / FILE)
    name = "model.layers.1.mlp.down_proj.weight"
    torch.manual_seed(0)
    rows, columns = weights[name].shape
    weights[name] += 0.02 * torch.randn(rows, 2) @ torch.randn(2, columns)
    save_file(weights, copied / FILE, {"format": "pt"})
    return copied


def fingerprint_of(folder: Path, quantisation: Quantisation = Quantisation.NONE) -> str:
    return load_base(BaseConfig(str(folder), quantisation, Dtype.FLOAT32)).fingerprint


@pytest.fixture
def before_rows(monkeypatch) -> Callable[[], None]:
    """Until it is called, fingerprints are as they were before rows were part of them; then they are as they are."""
    now = base_model.fingerprint
    monkeypatch.setattr(base_model, "fingerprint", lambda model, files: now(model, []))
    return lambda: monkeypatch.setattr(base_model, "fingerprint", now)


@pytest.mark.parametrize("quantisation", Quantisation)
def test_a_merged_update_makes_another_model(tiny_base, merged, quantisation):
    found = fingerprint_of(merged, quantisation)
    assert not same_weights(tiny_base.fingerprint, found)
    assert forms(found)[1] == forms(tiny_base.fingerprint)[1]


@pytest.mark.parametrize("how", ["parts", "half", "names"])
def test_other_files_of_the_same_weights_are_the_same_model(tiny_base, copied, how):
    if how == "names":
        weights = load_file(copied / FILE)
        save_file({name.removeprefix("model."): weight for name, weight in weights.items()}, copied / FILE)
    else:
        model = AutoModelForCausalLM.from_pretrained(copied, dtype=torch.bfloat16 if how == "half" else torch.float32)
        (copied / FILE).unlink()
        model.save_pretrained(copied, max_shard_size="30KB" if how == "parts" else "1GB")
        assert (copied / FILE).exists() is (how == "half")
    assert fingerprint_of(copied) == tiny_base.fingerprint


def test_files_without_plain_weights_tell_no_rows(tiny_base, copied):
    weights = load_file(copied / FILE)
    torch.save(weights, copied / "pytorch_model.bin")
    (copied / FILE).unlink()
    found = fingerprint_of(copied)
    assert [found] == forms(found) == forms(tiny_base.fingerprint)[1:]
    assert same_weights(found, tiny_base.fingerprint)


@pytest.mark.parametrize("content", ["packed", "damaged", "missing"])
def test_files_of_which_rows_cannot_be_read_tell_none(tiny_base, tmp_path, content):
    file = tmp_path / FILE
    if content == "packed":
        save_file({"layer.weight": torch.zeros(8, 1, dtype=torch.uint8), "other": torch.zeros(4, 4)}, file)
    elif content == "damaged":
        file.write_bytes(b"none")
    assert [base_model.fingerprint(tiny_base.model, [file])] == forms(tiny_base.fingerprint)[1:]


@pytest.mark.parametrize(
    ("kept", "present", "same"),
    [
        ("a-1", "a-1", True),
        ("a-1", "a-2", False),
        ("a-1", "b-1", False),
        ("a", "a-1", True),
        ("a-1", "a", True),
        ("a", "b-1", False),
    ],
)
def test_weights_are_compared_as_far_as_both_sides_tell_them(kept, present, same):
    assert same_weights(kept, present) is same


def test_a_store_is_refused_by_a_model_with_an_update_merged_into_it(
    configure, train_at_random, tiny_base, merged, tmp_path
):
    train_at_random(configure(), tmp_path / "run")
    assert open_store(tmp_path / "run" / "store", tiny_base.fingerprint).manifest.base_fingerprint
    with pytest.raises(StoreError, match="belongs to base model"):
        open_store(tmp_path / "run" / "store", fingerprint_of(merged))


def test_a_store_from_before_rows_were_told_opens(
    before_rows, configure, train_at_random, tiny_config, other_model_folder, tmp_path
):
    train_at_random(configure(), tmp_path / "run")
    before_rows()
    now = load_base(tiny_config).fingerprint
    store = open_store(tmp_path / "run" / "store", now)
    assert store.manifest.base_fingerprint in forms(now)[1:]
    with pytest.raises(StoreError, match="belongs to base model"):
        open_store(tmp_path / "run" / "store", fingerprint_of(other_model_folder))
