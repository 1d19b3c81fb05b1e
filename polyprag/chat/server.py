"""One exchange with an OpenAI-compatible chat server, whatever it answers, and in the dialect that it understands."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import time
from dataclasses import dataclass

import httpx

from polyprag.chat.answers import (
    Completion,
    TryError,
    completion_in,
    is_html,
    retry_after,
    said_in,
    shortened,
)
from polyprag.chat.settings import ServerSettings
from polyprag.config import Structured
from polyprag.errors import ConfigError, ModelError

CONNECT_SECONDS = 5.0
LONGEST_BODY = 1 << 24
"""Bytes of an answer beyond which it is no chat reply."""
RETRIED = frozenset({408, 409, 425, 429})
FATAL = frozenset({401, 402, 403, 404, 405})
"""Answers that every request would get, as are redirections."""
LESS_STRUCTURED = {Structured.JSON_SCHEMA: Structured.JSON_OBJECT, Structured.JSON_OBJECT: Structured.OFF}
STRUCTURE_WORDS = ("response_format", "json", "schema", "grammar", "guided", "structured")


@dataclass(frozen=True)
class Dialect:
    """What a server understands, as far as it is known.

    Attributes:
        structured: how JSON is asked for.
        limit: the name of the limit of tokens; newer hosted models know it by another.
        has_temperature: whether a temperature may be given.
    """

    structured: Structured
    limit: str = "max_tokens"
    has_temperature: bool = True

    def after(self, complaint: str, may_ask_less: bool) -> Dialect | None:
        """The dialect to try after a complaint; None if it is about something else."""
        said = complaint.lower()
        if "max_completion_tokens" in said and "support" in said and self.limit == "max_tokens":
            return dataclasses.replace(self, limit="max_completion_tokens")
        if "temperature" in said and "support" in said and self.has_temperature:
            return dataclasses.replace(self, has_temperature=False)
        if may_ask_less and self.structured in LESS_STRUCTURED and any(word in said for word in STRUCTURE_WORDS):
            return dataclasses.replace(self, structured=LESS_STRUCTURED[self.structured])
        return None


class ChatServer:
    """A server's chat completions; safe to ask from many threads.

    Args:
        settings: which server, and how it is asked.

    Raises:
        ConfigError: the key cannot be sent.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.url = settings.url.rstrip("/")
        self.place = f"{settings.section}url={self.url}"
        self.key = _key_of(settings)
        start = Structured.JSON_SCHEMA if settings.structured is Structured.AUTO else settings.structured
        self.dialect = Dialect(start)
        self.client = httpx.Client(
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            timeout=httpx.Timeout(settings.timeout, connect=min(CONNECT_SECONDS, settings.timeout), pool=None),
            limits=httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency),
            trust_env=not _is_local(httpx.URL(self.url).host),  # a proxy cannot reach what listens on this machine
        )

    def probe(self) -> None:
        """See, with one short request, that something answers there.

        Raises:
            ConfigError: it wants another key, or it is a web site.
            ModelError: nothing answers.
        """
        try:
            answer = self.client.get(f"{self.url}/models", timeout=CONNECT_SECONDS)
        except (httpx.ReadTimeout, httpx.RemoteProtocolError):
            return  # it is there, and may be slow, or not know this path
        except httpx.HTTPError as error:
            reason = shortened(str(error)) or type(error).__name__
            raise ModelError(f"{self.place}: no server answers ({reason}); start one, or correct the URL") from None
        if answer.status_code in (401, 403):
            raise self._refusal(answer.status_code, said_in(answer.content, self.key))
        if answer.is_success and is_html(answer.content):
            raise ConfigError(f"{self.place}: a web page answers, not a chat server; base URLs mostly end in /v1")

    def ask(
        self, messages: tuple[dict[str, str], ...], temperature: float, schema: dict[str, object] | None
    ) -> Completion:
        """Send one chat and wait for its reply.

        Args:
            messages: the chat.
            temperature: 0 is greedy.
            schema: JSON Schema that the reply shall follow, if the server can do that; None for plain text.

        Raises:
            ConfigError: the server refuses all requests like this.
            TryError: there is no reply.
        """
        while True:
            dialect = self.dialect
            status, headers, content = self._post(self._body(dialect, messages, temperature, schema))
            if 200 <= status < 300:
                return completion_in(content)
            said = said_in(content, self.key)
            if status not in (400, 422):
                raise self._failure(status, headers, said)
            may_ask_less = schema is not None and self.settings.structured is Structured.AUTO
            other = dialect.after(said, may_ask_less)
            if other is None:
                raise TryError(f"HTTP {status}", said, final=True)
            if self.dialect == dialect:
                self.dialect = other

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def _body(
        self,
        dialect: Dialect,
        messages: tuple[dict[str, str], ...],
        temperature: float,
        schema: dict[str, object] | None,
    ) -> dict[str, object]:
        body: dict[str, object] = {"model": self.settings.model, "messages": messages}
        body[dialect.limit] = self.settings.max_tokens
        if dialect.has_temperature:
            body["temperature"] = round(temperature, 3)
        if schema is not None and dialect.structured is Structured.JSON_SCHEMA:
            named = {"name": "reply", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif schema is not None and dialect.structured is Structured.JSON_OBJECT:
            body["response_format"] = {"type": "json_object"}
        return body

    def _post(self, body: dict[str, object]) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of an answer that came in time, however slowly its bytes drip."""
        deadline = time.monotonic() + self.settings.timeout
        content = bytearray()
        try:
            with self.client.stream("POST", f"{self.url}/chat/completions", json=body) as answer:
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > LONGEST_BODY:
                        raise TryError("endless reply")
                    if time.monotonic() > deadline:
                        raise TryError("time-out")
                return answer.status_code, answer.headers, bytes(content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise TryError("no connection", str(error), is_lost=True) from None
        except httpx.TimeoutException:
            raise TryError("time-out") from None
        except httpx.HTTPError as error:
            raise TryError("broken connection", str(error)) from None

    def _failure(self, status: int, headers: httpx.Headers, said: str) -> Exception:
        """What an answer other than success means."""
        if status in FATAL or 300 <= status < 400:
            return self._refusal(status, said or headers.get("location", ""))
        wait = retry_after(headers.get("retry-after", "")) if status in (429, 503) else None
        is_retried = status in RETRIED or status >= 500
        return TryError(f"HTTP {status}", said, wait=wait, final=not is_retried, is_limited=status == 429)

    def _refusal(self, status: int, said: str) -> ConfigError:
        remedies = {
            401: f"put the server's key into the environment variable {self.settings.key_env}",
            402: "see to the account",
            403: f"the key in the environment variable {self.settings.key_env} may not use this model",
            404: f"check {self.settings.model_key}={self.settings.model} and {self.settings.section}url",
        }
        complaint = f": {shortened(said)}" if said else ""
        remedy = remedies.get(status, f"correct {self.settings.section}url, which mostly ends in /v1")
        return ConfigError(f"{self.place}: the server answers {status}{complaint}; {remedy}")


def _key_of(settings: ServerSettings) -> str:
    variable = settings.key_env
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key.isascii() or not (key + "x").isprintable():
        raise ConfigError(
            f"{settings.section}key_env={variable}: its value holds characters that no key has; set it anew"
        )
    return key


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
