"""Many requests to one chat server at once, and patience with what goes wrong."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from polyprag.chat.answers import Completion, TryError
from polyprag.chat.pace import Pace
from polyprag.chat.prompts import Message
from polyprag.chat.replies import Reply
from polyprag.chat.server import ChatServer
from polyprag.chat.settings import ServerSettings
from polyprag.errors import ModelError

LONGEST_PAUSE = 300.0
"""Seconds that a server may ask to wait; beyond that it is better to run again later."""
PARTING_SECONDS = 1.0
WARMER, MOST_WARMER = 0.1, 3
"""What each unusable reply adds to the temperature of the next try, and how often."""


class Asked(Protocol):
    """A request: what tells it from all others, and the chat to be continued."""

    @property
    def key(self) -> str:
        """Tells it from all others."""
        ...

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat: `{"role", "content"}`."""
        ...


AnyAsked = TypeVar("AnyAsked", bound=Asked)


class Asker(Generic[AnyAsked]):
    """Asks a chat server from several threads.

    Args:
        settings: which server, and how it is asked.
        schema_of: JSON Schema of the reply to a request; None for plain text.
        fault_of: why a reply to a request cannot be used, in a few words; empty if it can.

    Raises:
        ConfigError: the key cannot be sent.
    """

    def __init__(
        self,
        settings: ServerSettings,
        schema_of: Callable[[AnyAsked], dict[str, object] | None],
        fault_of: Callable[[AnyAsked, Completion], str],
    ) -> None:
        self.settings, self.schema_of, self.fault_of = settings, schema_of, fault_of
        self.server = ChatServer(settings)
        self.pace = Pace(settings.requests_per_minute)
        self.answered_at = -math.inf

    def ask(self, requests: Iterable[AnyAsked]) -> Generator[Reply, None, None]:
        """Have requests answered, each once, in any order, at most `settings.concurrency` at a time.

        Requests are taken as they are needed, and the next one no sooner than the caller asks for a further reply.
        Whoever asks for no more closes the generator, which lets the threads go.

        Raises:
            ConfigError: the server refuses all requests, because of the key, the model's name or the URL.
            ModelError: the server cannot be reached, is lost, or asks for too long a pause.
        """
        waiting = iter(requests)
        handed_out: SimpleQueue[AnyAsked | None] = SimpleQueue()
        done: SimpleQueue[Reply | BaseException] = SimpleQueue()
        threads: list[threading.Thread] = []
        try:
            self.server.probe()
            for request in islice(waiting, self.settings.concurrency):
                threads.append(threading.Thread(target=self._work, args=(handed_out, done), daemon=True, name="asker"))
                threads[-1].start()
                handed_out.put(request)
            under_way = len(threads)
            while under_way:
                reply = done.get()
                if isinstance(reply, BaseException):
                    raise reply
                yield reply
                following = next(waiting, None)
                handed_out.put(following)
                under_way -= following is None
        finally:
            self.pace.end()
            for _ in threads:
                handed_out.put(None)
            patience = time.monotonic() + PARTING_SECONDS  # for requests that are under way where this ends early
            for thread in threads:
                thread.join(max(0.0, patience - time.monotonic()))
            self.server.close()

    def _work(self, handed_out: SimpleQueue[AnyAsked | None], done: SimpleQueue[Reply | BaseException]) -> None:
        """What each thread does, until there is nothing more to do or all work has ended."""
        while (request := handed_out.get()) is not None and not self.pace.ended.is_set():
            try:
                done.put(self._answer(request))
            except BaseException as error:
                done.put(error)

    def _answer(self, request: AnyAsked) -> Reply:
        """Ask until there is a reply that can be used, or no try is left.

        Raises:
            ConfigError: the server refuses all requests.
            ModelError: the server is lost, or asks for too long a pause.
        """
        tries = Tries(request.key)
        while self.pace.take_turn():
            try:
                text = self._ask(request, tries)
            except TryError as error:
                tries.faults.append(error.reason)
                # A server that has been answering others meanwhile is busy, not broken: the try does not count.
                tries.counted += not (error.is_limited and self.answered_at > tries.failed_at)
                tries.failed_at = time.monotonic()
                if error.final or tries.counted > self.settings.retries:
                    self._check_alive(error, tries)
                    return tries.given_up(error)
                self._wait(error, tries)
            else:
                self.answered_at = time.monotonic()
                return tries.succeeded(text)
        return tries.given_up(TryError("ended"))

    def _ask(self, request: AnyAsked, tries: Tries) -> str:
        """Try once.

        Returns:
            A text that can be used.

        Raises:
            ConfigError: the server refuses all requests.
            TryError: there is no such text.
        """
        temperature = self.settings.temperature + WARMER * min(tries.unusable, MOST_WARMER)
        completion = self.server.ask(request.messages, temperature, self.schema_of(request))
        tries.count(completion)
        fault = self.fault_of(request, completion)
        if fault:
            tries.unusable += 1
            raise TryError(fault, is_unusable=True)
        return completion.text

    def _wait(self, error: TryError, tries: Tries) -> None:
        """Wait as long as the server asks, or twice as long after each failure; another sample needs no wait.

        Raises:
            ModelError: it asks for too long a pause.
        """
        if error.is_unusable:
            return
        if not error.wait:
            return self.pace.back_off(len(tries.faults) - tries.unusable)
        if error.wait > LONGEST_PAUSE:
            raise ModelError(
                f"{self.server.place}: the server asks to wait {error.wait:.0f} s ({error}); "
                "run again later, finished replies are kept"
            )
        self.pace.pause(error.wait)

    def _check_alive(self, error: TryError, tries: Tries) -> None:
        """Tell a server that has gone from a request that it cannot answer.

        Raises:
            ModelError: there was no connection, and no request has been answered since this one was first sent.
        """
        if error.is_lost and self.answered_at < tries.started_at:
            raise ModelError(
                f"{self.server.place}: the server has gone ({error}); start it and run again, finished replies are kept"
            )


@dataclass
class Tries:
    """The tries of one request so far.

    Attributes:
        key: the request's.
        faults: a short reason for each try that failed.
        counted: how many of these count.
        unusable: how many replies there were that could not be used.
        prompt_tokens: as `Reply` says.
        reply_tokens: as `Reply` says.
        started_at: by the monotonic clock.
        failed_at: when the last try failed, likewise.
    """

    key: str
    faults: list[str] = field(default_factory=list)
    counted: int = 0
    unusable: int = 0
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    started_at: float = field(default_factory=time.monotonic)
    failed_at: float = math.inf

    def count(self, completion: Completion) -> None:
        """Add the tokens of a reply, usable or not."""
        if completion.prompt_tokens is not None:
            self.prompt_tokens = (self.prompt_tokens or 0) + completion.prompt_tokens
        if completion.reply_tokens is not None:
            self.reply_tokens = (self.reply_tokens or 0) + completion.reply_tokens

    def succeeded(self, text: str) -> Reply:
        """The reply with a usable text."""
        return self._reply(text, "")

    def given_up(self, error: TryError) -> Reply:
        """The reply without one."""
        return self._reply("", str(error))

    def _reply(self, text: str, failure: str) -> Reply:
        seconds = time.monotonic() - self.started_at
        faults = tuple(self.faults)
        return Reply(self.key, text, self.prompt_tokens, self.reply_tokens, seconds, failure, faults)
