import torch

from benchmarks.scaled import measure_many_keys
from polyprag.answering.query_router import measure_keys
from polyprag.answering.question_encoder import BaseEncoder
from polyprag.knowledge.prompts import with_title
from polyprag.records import Passage

PASSAGES = [
    Passage(str(at), f"Town {at}", f"It lies by river {at % 3}. River {at % 3} is long. " * 2) for at in range(7)
]


def test_keys_from_bags_of_tokens_are_those_from_texts(tiny_base, monkeypatch):
    monkeypatch.setattr("benchmarks.scaled._AT_ONCE", 3)
    expected = measure_keys(BaseEncoder(tiny_base, 0), [[with_title(passage)] for passage in PASSAGES])
    found = measure_many_keys(tiny_base, PASSAGES)
    torch.testing.assert_close(found.keys_ND.float(), expected.keys_ND, rtol=0, atol=5e-3)  # they are in bfloat16
    torch.testing.assert_close(found.weights_V, expected.weights_V)
    assert torch.equal(found.whitening_DD, expected.whitening_DD)
