"""The base model's tokenizer by itself, for what counts tokens before any model is loaded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from polyprag.config import BaseConfig


def tokenizer_of(config: BaseConfig) -> Callable[[str], list[int]]:
    """What turns a text into the base model's tokens, without special ones; nothing is loaded before the first call.

    Raises:
        ModelError: when called, if the model cannot be found.
    """

    @functools.cache
    def tokenizer() -> Any:
        """The model's tokenizer; these imports take seconds, and most calls never count a token."""
        from transformers import AutoTokenizer

        from polyprag.experts.base_model import locate

        return AutoTokenizer.from_pretrained(locate(config))

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer().encode(text, add_special_tokens=False)
        return ids

    return tokenize
