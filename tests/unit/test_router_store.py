import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from polyprag import router_store
from polyprag.answering.passage_keys import AllKeys, CodedKeys, sign_codes
from polyprag.answering.query_router import QueryRouter
from polyprag.answering.question_encoder import TokenStates
from polyprag.config import Normalisation, RouterDesign, RoutingConfig
from polyprag.errors import StoreError
from polyprag.router_store import FILE, RouterFacts, StoredRouter, open_router, write_router

STORE = "5" * 64
DESIGNS = list(RouterDesign)
REMEDY = "python train.py router"


def facts_of(design: RouterDesign = RouterDesign.ATTENTION, **changes) -> RouterFacts:
    facts = RouterFacts(
        store=STORE,
        design=design,
        encoder="",
        layers=2,
        hidden=6,
        passages=3,
        groups=2,
        experts=4,
        normalisation=Normalisation.SOFTMAX,
        top_k=2,
        settings={"design": design.value, "steps": "150", "seed": 0},
        training={"seconds": 1.25, "step": 25, "first_choice": 0.5, "held_back": 4},
    )
    return dataclasses.replace(facts, **changes)


def router_of(design: RouterDesign = RouterDesign.ATTENTION, seed: int = 0) -> QueryRouter:
    """A router all of whose tensors are random."""
    router = QueryRouter(
        design,
        passages=3,
        groups=2,
        experts=4,
        size=5,
        vocabulary=7,
        hidden=6,
        routing=RoutingConfig(normalisation=Normalisation.SOFTMAX, top_k=2),
    )
    generator = torch.Generator().manual_seed(seed)
    for tensor in router.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    if design is RouterDesign.ATTENTION:
        router.keys = AllKeys(torch.randn(3, 5, generator=generator))
    return router


@pytest.fixture
def folder(tmp_path) -> Path:
    write_router(tmp_path / "router", router_of(), facts_of())
    return tmp_path / "router"


def refusal(folder: Path, store: str = STORE) -> str:
    """What opening says, in one line that names file and remedy."""
    with pytest.raises(StoreError) as caught:
        open_router(folder, store)
    said = str(caught.value)
    assert said.startswith(f"{folder / FILE}: ")
    assert REMEDY in said
    assert "\n" not in said
    return said


def same(ours: StoredRouter, other: StoredRouter) -> bool:
    theirs = other.router.state_dict()
    return (
        ours.facts == other.facts
        and torch.equal(ours.router.keys.keys_ND, other.router.keys.keys_ND)
        and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.router.state_dict().items())
    )


class TestRoundTrip:
    @pytest.mark.parametrize("design", DESIGNS)
    def test_tensors_come_back_in_bfloat16_precision(self, tmp_path, design):
        router = router_of(design)
        write_router(tmp_path, router, facts_of(design))
        stored = open_router(tmp_path, STORE)
        assert stored.facts == facts_of(design)
        assert stored.bytes == (tmp_path / FILE).stat().st_size
        assert (stored.router.design, stored.router.routing.top_k) == (design, 2)
        assert stored.router.routing.normalisation is Normalisation.SOFTMAX
        found = stored.router.state_dict()
        assert found.keys() == router.state_dict().keys()
        for name, tensor in router.state_dict().items():
            assert torch.equal(found[name], tensor.to(torch.bfloat16).float()), name
        if design is RouterDesign.ATTENTION:
            assert torch.equal(stored.router.keys.keys_ND, router.keys.keys_ND.to(torch.bfloat16))

    @pytest.mark.parametrize("design", DESIGNS)
    def test_an_opened_router_answers_and_learns_no_more(self, tmp_path, design):
        write_router(tmp_path, router_of(design), facts_of(design))
        router = open_router(tmp_path, STORE).router
        assert not router.training
        assert not any(parameter.requires_grad for parameter in router.parameters())
        generator = torch.Generator().manual_seed(1)
        states = TokenStates(
            torch.tensor([[1, 6], [3, 0]]),
            torch.randn(2, 2, 5, generator=generator),
            torch.ones(2, 2, dtype=torch.bool),
        )
        gates_NGK = torch.rand(3, 2, 4, generator=generator)
        assert router.logits(router.represent(states), gates_NGK).shape == (2, 3)
        assert router.gates(router.represent(states), gates_NGK, 1).shape == (2, 2, 4)

    def test_the_router_at_hand_is_left_alone(self, tmp_path):
        router = router_of()
        write_router(tmp_path, router, facts_of())
        assert all(tensor.dtype == torch.float32 for tensor in router.state_dict().values())
        assert all(parameter.requires_grad for parameter in router.parameters())

    def test_a_digest_stands_for_tensors_and_facts(self, folder):
        digests = {open_router(folder, STORE).digest}
        for seed, layers in ((0, 2), (1, 2), (0, 1)):  # the first as it was
            write_router(folder, router_of(seed=seed), facts_of(layers=layers))
            digests.add(open_router(folder, STORE).digest)
        assert len(digests) == 3

    def test_a_new_one_takes_the_place_of_the_old(self, folder):
        write_router(folder, router_of(RouterDesign.MLP), facts_of(RouterDesign.MLP))
        assert open_router(folder, STORE).facts.design is RouterDesign.MLP
        assert [path.name for path in folder.iterdir()] == [FILE]


class TestRefusals:
    def test_none_at_all(self, tmp_path):
        assert "there is no query router" in refusal(tmp_path / "router")

    def test_that_of_another_store(self, folder):
        assert "belongs to another store, which was replaced since" in refusal(folder, "6" * 64)

    def test_that_of_another_version(self, folder, monkeypatch):
        monkeypatch.setattr(router_store, "SCHEMA", 99)
        assert "was written by another version of polyprag" in refusal(folder)

    @pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 0.5, -1])
    def test_a_truncated_file(self, folder, kept):
        content = (folder / FILE).read_bytes()
        (folder / FILE).write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
        assert "is damaged" in refusal(folder)

    def test_a_file_with_more_at_its_end(self, folder):
        (folder / FILE).write_bytes((folder / FILE).read_bytes() + b"\0")
        assert "is damaged" in refusal(folder)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_changed_byte_is_found_wherever_it_matters(self, folder, data):
        write_router(folder, router_of(), facts_of())
        before, content = open_router(folder, STORE), bytearray((folder / FILE).read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        (folder / FILE).write_bytes(content)
        try:
            assert same(open_router(folder, STORE), before)  # a blank of the header became another blank
        except StoreError:
            refusal(folder)

    def test_a_changed_weight_is_named_as_such(self, folder):
        content = bytearray((folder / FILE).read_bytes())
        content[-1] ^= 1
        (folder / FILE).write_bytes(content)
        assert "its content is not what was written (sha256 differs)" in refusal(folder)

    def test_tensors_of_something_else(self, folder):
        for metadata in (None, {"format": "pt"}):
            save_file({"mean_D": torch.zeros(5)}, folder / FILE, metadata)
            assert "is no query router" in refusal(folder)

    def test_a_file_that_only_says_that_it_is_one(self, folder):
        save_file({"mean_D": torch.zeros(5)}, folder / FILE, {"format": router_store.FORMAT})
        assert "is damaged" in refusal(folder)

    def test_a_text(self, folder):
        (folder / FILE).write_text("no tensors at all\n")
        assert "is damaged" in refusal(folder)


class TestCodedKeys:
    @pytest.fixture
    def coded(self, tmp_path) -> Path:
        write_router(tmp_path / "router", router_of(), facts_of(), coded=True)
        return tmp_path / "router"

    def test_they_come_back_with_their_codes(self, coded):
        keys = open_router(coded, STORE, share=0.25).router.keys
        assert isinstance(keys, CodedKeys)
        assert keys.share == 0.25
        assert torch.equal(keys.keys_ND, router_of().keys.keys_ND.to(torch.bfloat16))
        assert torch.equal(torch.from_numpy(keys.codes_WN.view("int64")), sign_codes(keys.keys_ND))

    def test_an_mlp_has_none(self, tmp_path):
        write_router(tmp_path, router_of(RouterDesign.MLP), facts_of(RouterDesign.MLP), coded=True)
        assert open_router(tmp_path, STORE).facts.design is RouterDesign.MLP

    def test_opening_hashes_all_but_keys_and_codes_and_on_demand_these_too(self, coded):
        whole = (coded / FILE).read_bytes()
        found = {True: 0, False: 0}
        for place in range(8 + int.from_bytes(whole[:8], "little"), len(whole)):
            (coded / FILE).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            for thorough in found:
                try:
                    open_router(coded, STORE, whole=thorough)
                except StoreError:
                    found[thorough] += 1
        tensors = len(whole) - 8 - int.from_bytes(whole[:8], "little")
        assert found == {True: tensors, False: tensors - 3 * 5 * 2 - 3 * 8}


def test_a_file_of_the_first_schema_is_opened(tmp_path):
    """As it was written: no hash for each tensor, one digest over facts and tensors."""
    router = router_of()
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in router.state_dict().items()}
    tensors["keys_ND"] = router.keys.keys_ND.to(torch.bfloat16)
    said = json.dumps({**dataclasses.asdict(facts_of()), "schema": 1}, sort_keys=True)
    digest = hashlib.sha256(said.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    save_file(tensors, tmp_path / FILE, {"format": router_store.FORMAT, "facts": said, "digest": digest.hexdigest()})
    opened = open_router(tmp_path, STORE)
    assert (opened.facts, opened.digest) == (facts_of(), digest.hexdigest())
    assert torch.equal(opened.router.keys.keys_ND, tensors["keys_ND"])
    content = bytearray((tmp_path / FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / FILE).write_bytes(content)
    assert "sha256 differs" in refusal(tmp_path)
