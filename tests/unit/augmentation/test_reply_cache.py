import dataclasses
import json
import multiprocessing

import pytest

from polyprag.augmentation.author import Kind, Reply
from polyprag.augmentation.cache import ReplyCache, request_key
from polyprag.config import AugmentationConfig
from polyprag.records import Passage

PASSAGE = Passage("p", "T", "text")


def reply(number: int) -> Reply:
    return Reply(f"key{number}", f"text\n{number} ü", number, None, number / 8)


def add_all(folder, numbers) -> None:
    cache = ReplyCache(folder, "m")
    for number in numbers:
        cache.add(reply(number), PASSAGE, Kind.QA)


def test_what_was_added_is_there_now_and_later(tmp_path):
    cache = ReplyCache(tmp_path / "c", "org/model")
    assert "key1" not in cache
    assert cache.get("key1") is None
    cache.add(reply(1), PASSAGE, Kind.QA)
    for one in (cache, ReplyCache(tmp_path / "c", "org/model")):
        assert "key1" in one
        assert one.get("key1") == reply(1)
    assert "key1" not in ReplyCache(tmp_path / "c", "org-model"), "authors whose names look alike share nothing"


def test_a_torn_last_line_is_no_reply_and_harms_none(tmp_path):
    add_all(tmp_path, [1, 2])
    path = ReplyCache(tmp_path, "m").path
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 11), *range(len(whole) // 2 - 2, len(whole) // 2 + 2)}:
        path.write_bytes(whole[:length])
        cache = ReplyCache(tmp_path, "m")
        assert len(cache) == whole[:length].count(b"\n")
        cache.add(reply(3), PASSAGE, Kind.QA)
        again = ReplyCache(tmp_path, "m")
        assert again.get("key3") == cache.get("key3") == reply(3)
        assert len(again) == len(cache) == whole[:length].count(b"\n") + 1


@pytest.mark.parametrize("line", [b"\0\0\0", b"3", b"{}", b'{"key": "key1"}', b'{"key": 1, "text": 2}', b"\xff", b""])
def test_damaged_lines_are_passed_over(tmp_path, line, caplog):
    add_all(tmp_path, [1])
    path = ReplyCache(tmp_path, "m").path
    path.write_bytes(line + b"\n" + path.read_bytes())
    cache = ReplyCache(tmp_path, "m")
    assert (len(cache), cache.get("key1")) == (1, reply(1))
    assert "1 lines hold no reply" in caplog.text


def test_several_processes_add_at_once(tmp_path):
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=add_all, args=(tmp_path, range(at, 120, 3))) for at in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    cache = ReplyCache(tmp_path, "m")
    assert [cache.get(f"key{number}") for number in range(120)] == [reply(number) for number in range(120)]
    rows = [json.loads(line) for line in cache.path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 120


def test_the_first_of_equal_keys_counts_and_others_replies_are_seen(tmp_path):
    one, other = ReplyCache(tmp_path, "m"), ReplyCache(tmp_path, "m")
    one.add(reply(1), PASSAGE, Kind.QA)
    other.add(dataclasses.replace(reply(1), text="later"), PASSAGE, Kind.QA)
    assert other.get("key1") == reply(1)


def test_a_key_tells_all_that_a_reply_depends_on_and_nothing_else():
    config = AugmentationConfig()

    def key(passage=PASSAGE, kind=Kind.QA, index=0, author="m", version="v", text="ask", **settings) -> str:
        messages = [{"role": "user", "content": text}]
        return request_key(passage, kind, index, messages, author, version, dataclasses.replace(config, **settings))

    different = [
        *(key(), key(kind=Kind.REWRITE), key(kind=Kind.REWRITE, index=1), key(author="n"), key(version="w")),
        *(key(Passage("p", "T", "other")), key(Passage("p", "U", "text"))),
        *(key(text="ask more"), key(temperature=0.0), key(max_tokens=9)),
    ]
    assert len(set(different)) == len(different)
    assert all(len(one) == 64 for one in different)
    assert key(Passage("q", "T", "text")) == key(), "ids may change"
    assert key(index=1) == key(), "pairs are told by their messages"
    assert key(url="http://x", retries=1, rewrites=7, concurrency=2) == key()
