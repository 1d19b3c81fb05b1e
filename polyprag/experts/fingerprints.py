"""Fingerprints, by which a base model's weights are recognised again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

EMBEDDING_ROWS = 256
LENGTH = 16
"""Hexadecimal digits of each part of a fingerprint."""
NUMBERS = ("F64", "F32", "F16", "BF16")
"""How safetensors calls the number types of weights that are not quantised."""


def fingerprint(model: Any, files: Iterable[Path]) -> str:
    """A hash of the architecture and of those weights that quantisation leaves alone, and one of rows of all others.

    Weights are compared in bfloat16, so that a model loaded in float32 or in bfloat16 is the same model. The rows are
    read from the files, before anything is quantised; the second part and the hyphen before it are left out where the
    files do not hold plain weights.

    Args:
        model: a transformers causal LM.
        files: the safetensors files that it was loaded from; none if it was loaded from others.

    Returns:
        16 hexadecimal digits, or twice as many, with a hyphen between them.
    """
    config = model.config
    shape = [config.model_type, config.vocab_size, config.hidden_size, config.num_hidden_layers]
    digest = hashlib.sha256(repr(shape).encode())
    for name, parameter in sorted(model.named_parameters()):
        if "norm" in name:
            digest.update(name.encode() + _bytes_of(parameter))
    embeddings = model.get_input_embeddings().weight
    digest.update(_bytes_of(embeddings[:EMBEDDING_ROWS]))
    rows = _hash_of_rows(files, len(embeddings))
    return digest.hexdigest()[:LENGTH] + (f"-{rows}" if rows else "")


def forms(whole: str) -> list[str]:
    """A fingerprint as it is written now, and as it was before rows were part of it.

    Args:
        whole: the fingerprint of the base model at hand.
    """
    return list(dict.fromkeys([whole, whole.partition("-")[0]]))


def same_weights(kept: str, present: str) -> bool:
    """Whether two fingerprints are of the same weights, as far as both tell them.

    Args:
        kept: what was written beside something learned; older ones have one part.
        present: that of the base model at hand.
    """
    kept_first, _, kept_rows = kept.partition("-")
    first, _, rows = present.partition("-")
    return kept_first == first and (kept_rows == rows or not kept_rows or not rows)


def _hash_of_rows(files: Iterable[Path], vocabulary: int) -> str:
    """A hash of the first row of every matrix, whatever its name and file; empty where weights are quantised.

    Embeddings and output head are left out: tied, they may be stored once or twice.
    """
    try:
        rows = sorted(row for file in files for row in _first_rows(file, vocabulary))
    except (OSError, SafetensorError, _QuantisedError):
        return ""
    return hashlib.sha256(b"".join(rows)).hexdigest()[:LENGTH] if rows else ""


class _QuantisedError(Exception):
    """A file holds matrices of which other copies of the model have other bytes."""


def _first_rows(file: Path, vocabulary: int) -> Iterator[bytes]:
    """The hashes of the first rows of a file's matrices."""
    with safe_open(file, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - an open file is no mapping
            part = tensors.get_slice(name)
            shape = part.get_shape()
            if len(shape) < 2 or shape[0] == vocabulary:
                continue
            if part.get_dtype() not in NUMBERS:
                raise _QuantisedError(name)
            row: torch.Tensor = part[(0,) * (len(shape) - 1)]
            yield hashlib.sha256(_bytes_of(row)).digest()


def _bytes_of(weight: torch.Tensor) -> bytes:
    content: bytes = weight.detach().to(torch.bfloat16).float().cpu().numpy().tobytes()
    return content
