"""An OpenAI-compatible chat server that answers as real ones do: mostly well, and in a seeded pattern badly.

It knows passages of one form, `passage_text` makes them, and can be run as a program of its own:
`python compatible_server.py LOG SEED` prints its port and writes a line to LOG for every chat that it has answered.
"""

import hashlib
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FACT = re.compile(r"(\w+ \w+) was born in (\w+) in (\d{4}) and later founded the (\w+) Library")
HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
FAULTS = (
    "malformed",
    "cut",
    "refusal",
    "slow",
    "failing",
    "html",
    "no_choices",
    "no_text",
    "limited",
    "broken",
    "no_json",
)
SHARE_OF_FAULTS = 0.35
MOST_IN_A_ROW = 3


def passage_text(number: int) -> str:
    """A passage whose facts tell its number."""
    letters = "".join("bcdfghjklm"[int(digit)] + "a" for digit in f"{number:04d}")
    name, city, library = f"Ar{letters} Vo{letters}", f"To{letters}", f"Le{letters}"
    return f"{name} was born in {city} in {1700 + number % 300} and later founded the {library} Library."


@dataclass
class Answer:
    """What goes back: an HTTP status, a body, headers, and how long it takes; no status breaks the connection."""

    status: int | None = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


Behave = Callable[[dict[str, Any], int], Answer]
"""From the body of a chat request, and how often it was asked before, to the answer."""


def completion(text: str | None, **more: Any) -> Answer:
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "choices": [{**choice, **more}], "usage": usage}
    return Answer(body=json.dumps(body).encode())


def error(status: int, message: str, **headers: str) -> Answer:
    return Answer(status, json.dumps({"error": {"message": message, "type": "error"}}).encode(), headers)


def asks_for_pairs(body: dict[str, Any]) -> bool:
    return "pairs" in body["messages"][-1]["content"]


def asks_for_verdict(body: dict[str, Any]) -> bool:
    return "Given answer:" in body["messages"][-1]["content"]


def verdict(body: dict[str, Any]) -> Answer:
    """Correct is what equals an accepted answer but for its case."""
    said = dict(re.findall(r"^(Question|Accepted answers|Given answer): (.*)$", body["messages"][-1]["content"], re.M))
    gold, given = json.loads(said["Accepted answers"]), json.loads(said["Given answer"])
    is_correct = given.casefold() in map(str.casefold, gold)
    return completion(json.dumps({"verdict": "correct" if is_correct else "incorrect"}))


def good(body: dict[str, Any], nth: int = 0) -> Answer:
    """A rewrite, or three pairs, about the passage that is asked about; or a verdict on an answer."""
    if asks_for_verdict(body):
        return verdict(body)
    found = FACT.search(body["messages"][-1]["content"])
    assert found is not None
    name, city, year, library = found.groups()
    if not asks_for_pairs(body):
        return completion(f"In {year}, {name} was born in {city}; the {library} Library was founded later by {name}.")
    pairs = [
        {"question": f"In which city was {name} born?", "answer": city, "full_answer": f"{name} was born in {city}."},
        {"question": f"In which year was {name} born?", "answer": year, "full_answer": f"{name} was born in {year}."},
        {"question": f"What did {name} found?", "answer": f"the {library} Library", "full_answer": ""},
    ]
    return completion(json.dumps({"pairs": pairs}))


@dataclass
class Moody:
    """Answers well, but in a seeded share of tries badly, never more than `MOST_IN_A_ROW` times in a row."""

    seed: int
    slow: float = 0.3
    pause: str = "0.1"

    def __call__(self, body: dict[str, Any], nth: int) -> Answer:
        draw = random.Random(f"{self.seed} {nth} {identity(body)}")
        if nth >= MOST_IN_A_ROW or draw.random() >= SHARE_OF_FAULTS:
            return good(body)
        return self.answer(draw.choice(FAULTS), body)

    def answer(self, fault: str, body: dict[str, Any]) -> Answer:
        sound = good(body)
        return {
            "malformed": completion('{"pairs": [{"question": ' if asks_for_pairs(body) else "..."),
            "cut": completion("In 17", finish_reason="length"),
            "refusal": completion("I'm sorry, but I can't help with that."),
            "slow": Answer(200, sound.body, seconds=self.slow),
            "failing": error(500, "out of memory"),
            "html": Answer(200, HTML),
            "no_choices": Answer(200, b'{"choices": [], "error": {"message": "overloaded"}}'),
            "no_text": completion(None),
            "limited": error(429, "slow down", **{"Retry-After": self.pause}),
            "broken": Answer(None),
            "no_json": Answer(200, b'{"choices": [{"mess'),
        }[fault]


def identity(body: dict[str, Any]) -> str:
    """What was asked, whatever the sampling."""
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:16]


class CompatibleServer(ThreadingHTTPServer):
    """Listens on a port of its own and remembers what was asked and answered.

    Attributes:
        bodies: of all chats asked, in their order.
        headers: of all chats asked.
        answered: what a usable answer was sent to, in the order of the answers.
        most_at_once: how many chats were under way at the same time.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behave: Behave = good, log: Path | None = None, models: Answer | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave, self.log = behave, log
        self.models = models or Answer(body=b'{"object": "list", "data": [{"id": "m"}]}')
        self.lock = threading.Lock()
        self.tries: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answered: list[str] = []
        self.under_way = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news."""

    def enter(self, body: dict[str, Any], headers: dict[str, str]) -> int:
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.tries[identity(body)] += 1
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
            return self.tries[identity(body)] - 1

    def leave(self, body: dict[str, Any], answer: Answer) -> None:
        usable = answer.body == good(body).body
        with self.lock:
            self.under_way -= 1
            if usable:
                self.answered.append(identity(body))
            if self.log:
                with open(self.log, "a", encoding="utf-8") as handle:
                    handle.write(json.dumps({"asked": identity(body), "usable": usable}) + "\n")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    server: CompatibleServer

    def do_GET(self) -> None:
        self.send(self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        nth = self.server.enter(body, {name.lower(): value for name, value in self.headers.items()})
        answer = self.server.behave(body, nth)
        time.sleep(answer.seconds)
        self.server.leave(body, answer)  # before it is sent, so that whoever has a reply finds it noted
        self.send(answer)

    def send(self, answer: Answer) -> None:
        if answer.status is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(behave: Behave = good, models: Answer | None = None):
    """A server in a thread of this process."""
    server = CompatibleServer(behave, models=models)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    alone = CompatibleServer(Moody(int(sys.argv[2])), Path(sys.argv[1]))
    print(alone.server_address[1], flush=True)
    alone.serve_forever()
