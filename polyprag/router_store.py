"""The file that the router stage leaves: the query router's tensors, and in their header what they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyprag.answering.passage_keys import SHARE, AllKeys, CodedKeys, sign_codes
from polyprag.answering.query_router import QueryRouter
from polyprag.config import Config, Normalisation, RouterDesign, RoutingConfig
from polyprag.errors import StoreError
from polyprag.sealed import Seal, read_sealed, sealed_digest, write_sealed
from polyprag.store import Store

FORMAT = "polyprag-router"
SCHEMA = 2
_WITHOUT_HASHES = 1
FILE = "router.safetensors"
KEYS, CODES = "keys_ND", "codes_WN"
REMEDY = "train it with python train.py router run.dir=DIR"


@dataclass(frozen=True)
class RouterFacts:
    """What the file says of its router.

    Attributes:
        store: digest of the store whose rows it points to.
        design: attention or mlp.
        encoder: sentence encoder that represents questions; empty for the base model.
        layers: blocks of the base model that represent a question, as `router.layers`.
        hidden: hidden units of the mlp.
        passages: passages of the store, N.
        groups: routed groups, G.
        experts: experts, K.
        normalisation: of the mlp's logits.
        top_k: of the mlp's gates.
        settings: the `router` section of the configuration, and the run's seed.
        training: facts about the training, JSON values only.
    """

    store: str
    design: RouterDesign
    encoder: str
    layers: int
    hidden: int
    passages: int
    groups: int
    experts: int
    normalisation: Normalisation
    top_k: int
    settings: dict[str, Any]
    training: dict[str, Any]

    @classmethod
    def of(cls, config: Config, store: Store, settings: dict[str, Any], training: dict[str, Any]) -> RouterFacts:
        """What is said of a router that was made by this configuration for this store."""
        passages, groups, experts = store.rows_NGK.shape
        return cls(
            store=store.manifest.digest,
            design=config.router.design,
            encoder=config.router.encoder,
            layers=config.router.layers,
            hidden=config.router.hidden,
            passages=passages,
            groups=groups,
            experts=experts,
            normalisation=config.routing.normalisation,
            top_k=config.routing.top_k,
            settings=settings,
            training=training,
        )


@dataclass(frozen=True)
class StoredRouter:
    """An opened query router.

    Attributes:
        router: in evaluation mode, float32; its keys are mapped from disk.
        facts: what it belongs to.
        digest: sha256 over facts and the hashes of all tensors, by which answers are told apart.
        bytes: size of the file.
    """

    router: QueryRouter
    facts: RouterFacts
    digest: str
    bytes: int


def write_router(folder: Path, router: QueryRouter, facts: RouterFacts, *, coded: bool = False) -> None:
    """Write a query router in bfloat16; an older one stays whole until the new one is.

    Args:
        folder: where to.
        router: as trained.
        facts: what it belongs to.
        coded: add the sign codes of the keys, by which many passages are searched.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    state = dict(router.state_dict())
    if router.design is RouterDesign.ATTENTION:
        state[KEYS] = router.keys.keys_ND
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    coded = coded and KEYS in tensors
    if coded:
        tensors[CODES] = sign_codes(tensors[KEYS])
    write_sealed(folder / FILE, _seal(), facts.__dict__, tensors, unread=(KEYS, CODES) if coded else ())


def open_router(folder: Path, store_digest: str, *, share: float = SHARE, whole: bool = False) -> StoredRouter:
    """Open the query router of a store; keys stay on disk.

    Args:
        folder: where `write_router` wrote.
        store_digest: digest of the store at hand.
        share: of the passages that a question meets, where keys have codes.
        whole: also hash keys that have codes, which are many; other tensors are always hashed.

    Raises:
        StoreError: there is none, it is damaged, or it belongs to another store.
    """
    path = folder / FILE
    read = read_sealed(path, _seal(), whole=whole)
    said = read.facts
    facts = RouterFacts(
        **{**said, "design": RouterDesign(said["design"]), "normalisation": Normalisation(said["normalisation"])}
    )
    if facts.store != store_digest:
        raise StoreError(f"{path}: belongs to another store, which was replaced since; {REMEDY}")
    return StoredRouter(_router_of(facts, read.tensors, share), facts, read.digest, read.bytes)


def router_digest(folder: Path) -> str:
    """The digest that a query router's file states, without reading its tensors; empty where there is none to read."""
    return sealed_digest(folder / FILE)


def _router_of(facts: RouterFacts, tensors: dict[str, Tensor], share: float) -> QueryRouter:
    router = QueryRouter(
        facts.design,
        passages=0,
        groups=facts.groups,
        experts=facts.experts,
        size=len(tensors["mean_D"]),
        vocabulary=len(tensors["log_weights_V"]),
        hidden=facts.hidden,
        routing=RoutingConfig(normalisation=facts.normalisation, top_k=facts.top_k),
    )
    router.load_state_dict({name: tensor.float() for name, tensor in tensors.items() if name not in (KEYS, CODES)})
    if CODES in tensors:
        router.keys = CodedKeys(tensors[KEYS], tensors[CODES], share)
    elif KEYS in tensors:
        router.keys = AllKeys(tensors[KEYS])
    return router.eval().requires_grad_(False)


def _seal() -> Seal:
    return Seal(FORMAT, SCHEMA, "query router", REMEDY, older=(_WITHOUT_HASHES,))
