"""Augmentation by any OpenAI-compatible chat server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from polyprag.augmentation.author import Kind, Request, fault_of
from polyprag.chat.answers import Completion
from polyprag.chat.asker import Asker
from polyprag.chat.replies import Reply
from polyprag.chat.settings import ServerSettings
from polyprag.config import AugmentationConfig

SECTION = "augmentation."


class ServerAuthor:
    """Asks a chat server from several threads.

    Args:
        config: the augmentation section.
        schema: JSON Schema of a reply with pairs.

    Raises:
        ConfigError: the key cannot be sent.
    """

    def __init__(self, config: AugmentationConfig, schema: dict[str, object]) -> None:
        self.config, self.schema = config, schema
        self.asker = Asker[Request](server_settings(config), self._schema_of, self._fault_of)

    @property
    def name(self) -> str:
        """The model's name at the server."""
        return self.config.model

    def write(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests, at most `augmentation.concurrency` at a time; see `Author.write`.

        Raises:
            ConfigError: the server refuses all requests, because of the key, the model's name or the URL.
            ModelError: the server cannot be reached, is lost, or asks for too long a pause.
        """
        return self.asker.ask(requests)

    def _schema_of(self, request: Request) -> dict[str, object] | None:
        return self.schema if request.kind is Kind.QA else None

    def _fault_of(self, request: Request, completion: Completion) -> str:
        """Why a reply cannot be used; of pairs that were cut off, those that are whole can."""
        fault = fault_of(request.kind, completion.text)
        if completion.is_cut and (fault or request.kind is Kind.REWRITE):
            return f"cut off at {SECTION}max_tokens"
        return fault


def server_settings(config: AugmentationConfig) -> ServerSettings:
    """Which server writes augmentation, and how it is asked."""
    return ServerSettings(
        url=config.url,
        model=config.model,
        key_env=config.key_env,
        structured=config.structured,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        concurrency=config.concurrency,
        requests_per_minute=config.requests_per_minute,
        retries=config.retries,
        timeout=config.timeout,
        section=SECTION,
        model_key=f"{SECTION}model",
    )
