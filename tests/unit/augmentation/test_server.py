import dataclasses
import logging
import socket
import threading
from collections import Counter

import pytest
from compatible_server import Answer, Moody, asks_for_pairs, completion, error, good, passage_text, serving

from polyprag.augmentation.author import Kind, Request
from polyprag.augmentation.parsing import parse_pairs, parse_rewrite
from polyprag.augmentation.prompts import load_prompts
from polyprag.augmentation.server import ServerAuthor
from polyprag.chat import pace
from polyprag.chat.replies import Reply
from polyprag.errors import ConfigError, ModelError, PolyPragError

PROMPTS = load_prompts("", "json")


@pytest.fixture
def requests(passages) -> list[Request]:
    """A rewrite and pairs of each passage."""
    made = []
    for passage in passages:
        made.append(Request(f"{passage.id} r", Kind.REWRITE, passage, 0, tuple(PROMPTS.rewrite_messages(passage, 0))))
        [messages] = PROMPTS.qa_messages(passage, 3)
        made.append(Request(f"{passage.id} q", Kind.QA, passage, 0, tuple(messages)))
    return made


@pytest.fixture
def write(configured, requests):
    """`write(url, **settings)`: what the server makes of all requests, by key."""

    def run(url: str, **settings) -> dict[str, Reply]:
        author = ServerAuthor(configured(url, **settings).augmentation, PROMPTS.schema)
        replies = list(author.write(requests))
        assert sorted(reply.key for reply in replies) == sorted(request.key for request in requests)
        return {reply.key: reply for reply in replies}

    return run


def always(answer: Answer):
    return lambda body, nth: answer


def first_then_good(*answers: Answer):
    """These answers to the tries of every request, then good ones."""
    return lambda body, nth: answers[nth] if nth < len(answers) else good(body)


def complaint(write, url: str, **settings) -> str:
    with pytest.raises(PolyPragError) as caught:
        write(url, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_request_is_answered_once_with_its_tokens(write, requests):
    with serving() as server:
        replies = write(server.url)
    assert server.tries.total() == len(requests)
    assert {(r.prompt_tokens, r.reply_tokens, r.failure, r.faults) for r in replies.values()} == {(100, 20, "", ())}
    for request in requests:
        text = replies[request.key].text
        facts = [pair.answer for pair in parse_pairs(text)] if request.kind is Kind.QA else [parse_rewrite(text)]
        assert request.passage.text.split(" was ")[0].split()[-1] in text, "the reply is about its own passage"
        assert facts


def test_what_is_sent(write, monkeypatch):
    monkeypatch.setenv("SOME_KEY", " sk-secret\n")
    with serving() as server:
        write(server.url + "/", key_env="SOME_KEY", temperature=0.25, max_tokens=77)
    assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-secret"}
    for body in server.bodies:
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.25, 77)
        is_pairs = asks_for_pairs(body)
        expected = {"name": "reply", "schema": PROMPTS.schema, "strict": True}
        assert body.get("response_format") == ({"type": "json_schema", "json_schema": expected} if is_pairs else None)


def test_without_a_key_none_is_sent(write):
    with serving() as server:
        write(server.url)
    assert all("authorization" not in headers for headers in server.headers)


@pytest.mark.parametrize("seed", range(3))
def test_all_are_answered_by_a_moody_server(write, requests, seed):
    with serving(Moody(seed, slow=0.05, pause="0.05")) as server:
        replies = write(server.url)
    assert not [reply.failure for reply in replies.values() if reply.failure]
    assert Counter(server.tries.values()) == Counter(len(reply.faults) + 1 for reply in replies.values())
    assert len(server.answered) == len(requests)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(500, "oom"), "HTTP 500"),
        (error(408, "late"), "HTTP 408"),
        (error(429, "slow down", **{"Retry-After": "0.01"}), "HTTP 429"),
        (error(503, "loading", **{"Retry-After": "0"}), "HTTP 503"),
        (Answer(200, b"<html></html>"), "HTML"),
        (Answer(200, b'{"choi'), "no JSON"),
        (Answer(200, b'{"choices": []}'), "no choices"),
        (Answer(None), "broken connection"),
        (completion(""), "empty"),
        (completion(None), "empty"),
        (completion("I'm sorry, but I can't do that."), "refusal"),
    ],
)
def test_what_is_tried_again(write, answer, reason):
    with serving(first_then_good(answer, answer)) as server:
        replies = write(server.url, retries=2)
        assert {(r.failure, r.faults) for r in replies.values()} == {("", (reason, reason))}
        replies = write(server.url, retries=0)
    assert {reply.failure for reply in replies.values()} == {""}, "the server remembers its earlier tries"


def test_tries_come_to_an_end(write, requests):
    with serving(always(error(500, "oom"))) as server:
        replies = write(server.url, retries=2)
    assert {(r.failure, r.text, len(r.faults)) for r in replies.values()} == {("HTTP 500: oom", "", 3)}
    assert server.tries.total() == 3 * len(requests)


def test_a_slow_reply_is_given_up_in_time(write):
    def slow_once(body, nth):
        return dataclasses.replace(good(body), seconds=0.0 if nth else 0.6)

    with serving(slow_once) as server:
        replies = write(server.url, timeout=0.3, concurrency=24)
    assert {r.faults for r in replies.values()} == {("time-out",)}


def test_bytes_that_drip_do_not_stretch_the_time(write):
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=feed, args=(connection,), daemon=True).start()

    def feed(connection: socket.socket) -> None:
        with connection:
            if connection.recv(1 << 16).startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not ended.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    threading.Thread(target=drip, daemon=True).start()
    try:
        replies = write(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout=0.3, retries=0, concurrency=24)
    finally:
        ended.set()
        listener.close()
    assert {r.failure for r in replies.values()} == {"time-out"}


def test_a_reply_without_end_is_cut_off(write, monkeypatch):
    monkeypatch.setattr("polyprag.chat.server.LONGEST_BODY", 1000)
    with serving(always(completion("x" * 2000))) as server:
        replies = write(server.url, retries=0)
    assert {r.failure for r in replies.values()} == {"endless reply"}


def test_a_request_that_the_server_cannot_take_is_not_repeated(write, requests):
    long = error(400, "This model's maximum context length is 10 tokens")
    with serving(lambda body, nth: long if "rewrite" in body["messages"][0]["content"] else good(body)) as server:
        replies = write(server.url)
    assert server.tries.total() == len(requests)
    failures = {reply.failure for key, reply in replies.items() if key.endswith("r")}
    assert failures == {"HTTP 400: This model's maximum context length is 10 tokens"}
    assert not any(reply.failure for key, reply in replies.items() if key.endswith("q"))


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "the server answers 401: bad key ***; put the server's key into the environment variable OPENAI_API_KEY"),
        (403, "the server answers 403: bad key ***; the key in the environment variable OPENAI_API_KEY may not use"),
        (404, "the server answers 404: bad key ***; check augmentation.model=m and augmentation.url"),
        (405, "the server answers 405: bad key ***; correct augmentation.url, which mostly ends in /v1"),
        (302, "the server answers 302: bad key ***; correct augmentation.url"),
    ],
)
def test_what_every_request_would_meet_ends_the_run_at_once(write, monkeypatch, status, says, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    caplog.set_level(logging.DEBUG)
    with serving(always(error(status, "bad key sk-secret"))) as server:
        message = complaint(write, server.url, concurrency=1)
        assert message.startswith(f"augmentation.url={server.url}: {says}")
    assert server.tries.total() == 1
    assert "sk-secret" not in message + caplog.text


def test_a_wrong_key_is_told_before_anything_is_asked(write):
    with serving(models=error(401, "no key")) as server:
        assert "401: no key; put the server's key into" in complaint(write, server.url)
    assert server.bodies == []


def test_a_web_site_is_told_before_anything_is_asked(write):
    with serving(models=Answer(200, b"<!doctype html><title>shop</title>")) as server:
        assert "a web page answers, not a chat server" in complaint(write, server.url)
    assert server.bodies == []


def test_a_server_that_is_not_there_is_told_after_one_attempt(write, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setattr(pace.Pace, "back_off", lambda *_: pytest.fail("nothing was to be tried again"))
    message = complaint(write, f"http://127.0.0.1:{port}/v1")
    assert message.startswith(f"augmentation.url=http://127.0.0.1:{port}/v1: no server answers (")
    assert message.endswith("start one, or correct the URL")


def test_no_proxy_stands_before_this_machine(write, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving() as server:
        assert not any(reply.failure for reply in write(server.url).values())


def test_a_server_that_goes_away_ends_the_run(configured, requests):
    gone = threading.Event()
    with serving(lambda body, nth: Answer(None) if gone.is_set() else good(body)) as server:
        config = configured(server.url, retries=1, concurrency=2).augmentation
        replies = ServerAuthor(config, PROMPTS.schema).write(requests)
        next(replies)
        gone.set()
    with pytest.raises(ModelError, match=r"the server has gone \(.*finished replies are kept$"):
        list(replies)


def test_a_pause_that_is_too_long_ends_the_run(write):
    with serving(always(error(429, "daily limit", **{"Retry-After": "3600"}))) as server:
        message = complaint(write, server.url)
    assert "asks to wait 3600 s (HTTP 429: daily limit); run again later" in message


def test_a_busy_server_that_answers_others_uses_up_no_tries(write, requests, monkeypatch):
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.06)
    monkeypatch.setattr(pace, "LONGEST_WAIT", 0.06)

    def busy(body, nth):  # one chat has to wait until most others, of which there are several a wait, are answered
        if passage_text(0) in body["messages"][-1]["content"] and asks_for_pairs(body):
            return good(body) if len(server.answered) >= 20 else error(429, "busy")
        return dataclasses.replace(good(body), seconds=0.02)

    with serving(busy) as server:
        replies = write(server.url, retries=2, concurrency=3)
    assert not any(reply.failure for reply in replies.values())
    assert len(replies[requests[1].key].faults) > 3


@pytest.mark.parametrize(
    ("refused", "said", "left"),
    [
        ({"json_schema"}, "response_format json_schema is not supported", "json_object"),
        ({"json_schema", "json_object"}, "Unknown field: response_format", None),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_less_structure_is_asked_of_servers_that_know_less(write, refused, said, left, status):
    def choosy(body, nth):
        kind = body.get("response_format", {}).get("type")
        return error(status, said) if kind in refused else good(body)

    with serving(choosy) as server:
        replies = write(server.url, concurrency=1, retries=0)
    assert not any(reply.failure or reply.faults for reply in replies.values())
    kinds = [b.get("response_format", {}).get("type") for b in server.bodies if asks_for_pairs(b)]
    assert kinds == [*sorted(refused, reverse=True), *[left] * 12], "learned from the first request, for all others"


def test_structure_that_was_asked_for_by_name_is_not_given_up(write):
    with serving(lambda body, nth: error(400, "no json_schema") if "response_format" in body else good(body)) as server:
        replies = write(server.url, structured="json_schema")
        assert {r.failure for key, r in replies.items() if key.endswith("q")} == {"HTTP 400: no json_schema"}
        replies = write(server.url, structured="off")
    assert not any(reply.failure for reply in replies.values())


def test_newer_models_know_other_parameters(write):
    def newer(body, nth):
        if "max_tokens" in body:
            return error(
                400, "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            )
        if "temperature" in body:
            return error(400, "Unsupported value: 'temperature' does not support 0.7 with this model.")
        return good(body)

    with serving(newer) as server:
        replies = write(server.url, concurrency=1, max_tokens=99)
    assert not any(reply.failure or reply.faults for reply in replies.values())
    assert all(body["max_completion_tokens"] == 99 for body in server.bodies[2:])
    assert len(server.bodies) == len(replies) + 2


def test_another_sample_is_a_little_warmer_and_tokens_of_all_tries_count(write):
    with serving(first_then_good(*[completion("{")] * 5)) as server:
        replies = write(server.url, temperature=0.0, concurrency=1)
    by_request: dict[str, list[float]] = {}
    for body in server.bodies:
        by_request.setdefault(repr(body["messages"]), []).append(body["temperature"])
    assert set(map(tuple, by_request.values())) == {(0.0, 0.1, 0.2, 0.3, 0.3, 0.3)}
    assert {(r.prompt_tokens, r.reply_tokens) for r in replies.values()} == {(600, 120)}


def test_complete_pairs_of_a_cut_reply_are_kept_but_no_cut_rewrite(write):
    def cut(body, nth):
        text = (
            '{"pairs": [{"question": "In which year?", "answer": "1707", "full_answer": "In 1707."}, {"question": "Wh'
        )
        is_pairs = asks_for_pairs(body)
        return completion(text if is_pairs else "In 1707, Ar", finish_reason="length")

    with serving(cut) as server:
        replies = write(server.url, retries=1)
    for key, reply in replies.items():
        assert reply.failure == ("" if key.endswith("q") else "cut off at augmentation.max_tokens")


def test_no_more_is_under_way_than_allowed_and_requests_are_taken_as_needed(configured, requests):
    taken = []

    def lazily():
        for request in requests:
            taken.append(request)
            yield request

    with serving(lambda body, nth: dataclasses.replace(good(body), seconds=0.02)) as server:
        author = ServerAuthor(configured(server.url, concurrency=3).augmentation, PROMPTS.schema)
        for number, _ in enumerate(author.write(lazily())):
            assert len(taken) <= number + 3
    assert server.most_at_once == 3


def test_nothing_goes_on_behind_a_caller_that_stopped(configured, requests):
    before = threading.active_count()
    with serving() as server:
        replies = ServerAuthor(configured(server.url, concurrency=4).augmentation, PROMPTS.schema).write(requests)
        next(replies)
        replies.close()
        for thread in [t for t in threading.enumerate() if t.name.startswith("author")]:
            thread.join(5)
        assert server.tries.total() <= 1 + 4
    assert threading.active_count() <= before + 1


def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(configured, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-gehéim")
    with pytest.raises(ConfigError) as caught:
        ServerAuthor(configured("http://127.0.0.1:1/v1").augmentation, PROMPTS.schema)
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "sk-" not in str(caught.value)
