import hashlib

import pytest
import torch

from polyprag.errors import StoreError
from polyprag.translator_store import FILE, FOLDER, TranslatorFacts, open_translator, write_translator

SHAPES = {"layers.0.mlp.up_proj": (5, 7), "layers.0.mlp.down_proj": (7, 5), "layers.1.mlp.up_proj": (5, 7)}
LEARNED = {hashlib.sha256(text.encode()).hexdigest() for text in ("one", "two", "three")}
FACTS = TranslatorFacts("f00d", "tiny", SHAPES, 4, 2, 3, 16.0, "direct", {"epochs": "1"}, {"seconds": 2.5})


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "run" / FOLDER
    torch.manual_seed(0)
    write_translator(home, FACTS.new_translator(init=0.1), FACTS, LEARNED)
    return home


def test_it_comes_back_in_bfloat16_with_its_facts(folder):
    torch.manual_seed(0)
    expected = FACTS.new_translator(init=0.1).state_dict()
    stored = open_translator(folder, "f00d", "tiny")
    assert stored.facts == FACTS
    assert sorted(stored.facts.targets) == ["down_proj", "up_proj"]
    assert stored.learned_from == LEARNED
    assert stored.bytes == (folder / FILE).stat().st_size
    assert stored.path == folder / FILE
    found = stored.translator.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor.bfloat16().float()) for name, tensor in expected.items())
    assert not stored.translator.training
    assert not any(weight.requires_grad for weight in stored.translator.parameters())


def test_what_it_has_learned_from_is_part_of_its_digest(folder, tmp_path):
    torch.manual_seed(0)
    write_translator(tmp_path / "other", FACTS.new_translator(init=0.1), FACTS, sorted(LEARNED)[:2])
    other = open_translator(tmp_path / "other", "f00d", "tiny")
    assert len(other.learned_from) == 2
    assert other.digest != open_translator(folder, "f00d", "tiny").digest


def test_a_missing_one_ends_in_one_line_with_the_command(tmp_path):
    expected = rf"there is no parameter translator; run python train\.py translator run\.dir={tmp_path}/run$"
    with pytest.raises(StoreError, match=expected):
        open_translator(tmp_path / "run" / FOLDER, "f00d", "tiny")


def test_one_of_another_base_model_is_refused(folder):
    with pytest.raises(
        StoreError, match=r"trained on the base model tiny \(f00d\), not on big \(beef\); set base\.model"
    ):
        open_translator(folder, "beef", "big")
