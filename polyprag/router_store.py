"""The file that the router stage leaves: the query router's tensors, and in their header what they belong to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyprag.answering.query_router import QueryRouter
from polyprag.config import Normalisation, RouterDesign, RoutingConfig
from polyprag.errors import StoreError
from polyprag.files import write_tensors

FORMAT = "polyprag-router"
SCHEMA = 1
FILE = "router.safetensors"
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


@dataclass(frozen=True)
class StoredRouter:
    """An opened query router.

    Attributes:
        router: in evaluation mode, float32.
        facts: what it belongs to.
        digest: sha256 over facts and tensors, by which answers are told apart.
        bytes: size of the file.
    """

    router: QueryRouter
    facts: RouterFacts
    digest: str
    bytes: int


def write_router(folder: Path, router: QueryRouter, facts: RouterFacts) -> None:
    """Write a query router in bfloat16; an older one stays whole until the new one is.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    state = router.state_dict()
    tensors = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in state.items()}
    said = json.dumps({**facts.__dict__, "schema": SCHEMA}, sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / FILE, tensors, {"format": FORMAT, "facts": said, "digest": _digest(said, tensors)})


def open_router(folder: Path, store_digest: str) -> StoredRouter:
    """Open the query router of a store.

    Args:
        folder: where `write_router` wrote.
        store_digest: digest of the store at hand.

    Raises:
        StoreError: there is none, it is damaged, or it belongs to another store.
    """
    path = folder / FILE
    if not path.is_file():
        raise StoreError(f"{path}: there is no query router; {REMEDY}")
    header, tensors = _read(path)
    said = json.loads(header["facts"])
    if said.pop("schema") != SCHEMA:
        raise StoreError(f"{path}: was written by another version of polyprag; {REMEDY}")
    facts = RouterFacts(
        **{**said, "design": RouterDesign(said["design"]), "normalisation": Normalisation(said["normalisation"])}
    )
    if facts.store != store_digest:
        raise StoreError(f"{path}: belongs to another store, which was replaced since; {REMEDY}")
    router = QueryRouter(
        facts.design,
        passages=facts.passages,
        groups=facts.groups,
        experts=facts.experts,
        size=len(tensors["mean_D"]),
        vocabulary=len(tensors["log_weights_V"]),
        hidden=facts.hidden,
        routing=RoutingConfig(normalisation=facts.normalisation, top_k=facts.top_k),
    )
    router.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return StoredRouter(router.eval().requires_grad_(False), facts, header["digest"], path.stat().st_size)


def router_digest(folder: Path) -> str:
    """The digest that a query router's file states, without reading its tensors; empty where there is none to read."""
    try:
        with safe_open(folder / FILE, "pt") as handle:
            return str((handle.metadata() or {}).get("digest", ""))
    except (SafetensorError, OSError):
        return ""


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors, checked against the digest in the header."""
    try:
        with safe_open(path, "pt") as handle:
            header = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: is damaged ({error}); {REMEDY}") from None
    if header.get("format") != FORMAT:
        raise StoreError(f"{path}: is no query router; {REMEDY}")
    if _digest(header.get("facts", ""), tensors) != header.get("digest"):
        raise StoreError(f"{path}: is damaged: its content is not what was written (sha256 differs); {REMEDY}")
    return header, tensors


def _digest(said: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(said.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
