"""Which server is asked, how, and what the configuration calls that."""

from __future__ import annotations

from dataclasses import dataclass

from polyprag.config import Structured


@dataclass(frozen=True)
class ServerSettings:
    """What asking a chat server needs to know.

    Attributes:
        url: base URL, which mostly ends in /v1.
        model: the model's name at the server.
        key_env: environment variable that holds the server's key; empty for none.
        structured: how JSON is asked for.
        temperature: 0 is greedy.
        max_tokens: longest reply.
        concurrency: requests under way at once.
        requests_per_minute: most requests a minute; 0 means no limit.
        retries: further tries of a request.
        timeout: seconds that a request may take.
        section: what the keys of all these begin with in the configuration, for errors.
        model_key: the key of the model.
    """

    url: str
    model: str
    key_env: str
    structured: Structured
    temperature: float
    max_tokens: int
    concurrency: int
    requests_per_minute: int
    retries: int
    timeout: float
    section: str
    model_key: str
