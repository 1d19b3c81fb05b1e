import dataclasses
import json
import multiprocessing

import pytest

from polyprag.chat.replies import Reply, ReplyCache

ABOUT = {"kind": "qa"}


def reply(number: int) -> Reply:
    return Reply(f"key{number}", f"text\n{number} ü", number, None, number / 8)


def add_all(folder, numbers) -> None:
    cache = ReplyCache(folder, "m")
    for number in numbers:
        cache.add(reply(number), ABOUT)


def test_what_was_added_is_there_now_and_later(tmp_path):
    cache = ReplyCache(tmp_path / "c", "org/model")
    assert "key1" not in cache
    assert cache.get("key1") is None
    cache.add(reply(1), ABOUT)
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
        cache.add(reply(3), ABOUT)
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
    one.add(reply(1), ABOUT)
    other.add(dataclasses.replace(reply(1), text="later"), ABOUT)
    assert other.get("key1") == reply(1)
