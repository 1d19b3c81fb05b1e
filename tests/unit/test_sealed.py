import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from polyprag.errors import StoreError
from polyprag.sealed import Seal, read_sealed, write_sealed

SEAL = Seal(format="test-thing", schema=3, noun="thing", remedy="make it anew")
TENSORS = {"a": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3), "b": torch.tensor([7, 8], dtype=torch.uint8)}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "folder" / "thing.safetensors"
    write_sealed(file, SEAL, {"name": "x", "numbers": [1, 2.5]}, TENSORS)
    return file


def test_it_comes_back_as_it_was(path):
    read = read_sealed(path, SEAL)
    assert read.facts == {"name": "x", "numbers": [1, 2.5]}
    assert read.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert read.bytes == path.stat().st_size


def test_facts_and_tensors_decide_the_digest(path, tmp_path):
    digests = {read_sealed(path, SEAL).digest}
    others = [({"name": "y"}, TENSORS), ({"name": "x"}, {**TENSORS, "b": torch.zeros(2)}), ({"name": "x"}, {})]
    for number, (facts, tensors) in enumerate(others):
        write_sealed(tmp_path / f"{number}.safetensors", SEAL, facts, tensors)
        digests.add(read_sealed(tmp_path / f"{number}.safetensors", SEAL).digest)
    assert len(digests) == 4
    write_sealed(tmp_path / "same.safetensors", SEAL, {"numbers": [1, 2.5], "name": "x"}, TENSORS)
    assert read_sealed(tmp_path / "same.safetensors", SEAL).digest == read_sealed(path, SEAL).digest


def test_a_missing_file_and_one_of_another_kind_are_refused_in_one_line(path, tmp_path):
    with pytest.raises(StoreError, match=r"nothing\.safetensors: there is no thing; make it anew$"):
        read_sealed(tmp_path / "nothing.safetensors", SEAL)
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(StoreError, match=r"plain\.safetensors: is no thing; make it anew$"):
        read_sealed(tmp_path / "plain.safetensors", SEAL)
    younger = Seal(SEAL.format, SEAL.schema + 1, SEAL.noun, SEAL.remedy)
    with pytest.raises(StoreError, match=r"was written by another version of polyprag; make it anew$"):
        read_sealed(path, younger)


@given(st.data())
def test_any_changed_byte_is_noticed(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("damage") / "thing.safetensors"
    write_sealed(file, SEAL, {"name": "x"}, TENSORS)
    content = bytearray(file.read_bytes())
    last = data.draw(st.integers(1, 14), label="from the end")  # the tensors' own 12 + 2 bytes
    content[-last] ^= data.draw(st.integers(1, 255), label="bits")
    file.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"is damaged: .*; make it anew$"):
        read_sealed(file, SEAL)


def test_a_file_cut_short_is_damaged(path):
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StoreError, match=r"thing\.safetensors: is damaged \(.*\); make it anew$"):
        read_sealed(path, SEAL)
