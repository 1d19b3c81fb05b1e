import gzip
import json
import logging
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyprag.config import OnBadRow
from polyprag.errors import DataError
from polyprag.knowledge import lines
from polyprag.knowledge.rows import BadRows, Row, RowError, read_rows

GOOD = b'{"text": "one"}\n'


def error_of(call: Callable[[], object]) -> DataError | None:
    try:
        call()
    except DataError as error:
        return error
    return None


def values_of(path) -> list[object]:
    return [row.values for row in read_rows(path)]


@pytest.mark.parametrize(
    "content",
    [
        GOOD + b'{"text": "two"}',
        GOOD + b'\n  \n{"text": "two"}\n\n',
        b"\xef\xbb\xbf" + GOOD + b'{"text": "two"}\n',
        (GOOD + b'{"text": "two"}\n').replace(b"\n", b"\r\n"),
        gzip.compress(GOOD) + gzip.compress(b'{"text": "two"}\n'),
    ],
    ids=["no final break", "blank lines", "BOM", "CRLF", "gzip members"],
)
def test_forms_of_the_same_two_rows(tmp_path, content):
    (tmp_path / "f.jsonl").write_bytes(content)
    assert values_of(tmp_path / "f.jsonl") == [{"text": "one"}, {"text": "two"}]


def test_places_count_blank_lines(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(b"\n" + GOOD + b"\n" + GOOD)
    assert [row.place for row in read_rows(path)] == [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize(
    ("line", "complaint", "reason"),
    [
        (b'{"text": ', r":2: broken JSON in column 9 .*one complete JSON object", "broken JSON"),
        (b"'text'", r":2: broken JSON in column 1 ", "broken JSON"),
        (b'["text"]', r":2: \['text'\] is not a JSON object", "no object"),
        (b"3", r":2: 3 is not a JSON object", "no object"),
        (b"null", r":2: None is not a JSON object", "no object"),
        (b'{"text": "\xff"}', r":2: byte 0xff in column 11 is not UTF-8", "not UTF-8"),
        (b'{"text": "\0"}', r":2: holds UTF-16 or NUL bytes; save the file as UTF-8", "UTF-16 or NUL bytes"),
        (b'{"n": ' + b"9" * 5000 + b"}", r":2: a number is too long", "number too long or brackets too deep"),
        (b"[" * 100_000, r":2: .*nest too deep", "number too long or brackets too deep"),
        (b"\xef\xbb\xbf{}", r":2: broken JSON", "broken JSON"),
        (b'"' + b"x" * 150_000, r":2: the line is longer than 0 MiB; break it up or remove it", "line too long"),
    ],
)
def test_a_bad_line_is_told_with_place_and_remedy_or_left_out(tmp_path, monkeypatch, line, complaint, reason):
    monkeypatch.setattr(lines, "LONGEST_LINE", 120_000)
    path = tmp_path / "f.jsonl"
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    with pytest.raises(RowError, match=r"f\.jsonl" + complaint) as caught:
        values_of(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.reason == reason
    bad = BadRows(OnBadRow.SKIP)
    assert [row.place for row in read_rows(path, bad)] == [f"{path}:1", f"{path}:3"]
    assert bad.counts == {reason: 1}


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("tail", [b"\n" + GOOD, b""])
def test_no_more_than_a_limit_of_a_line_is_held(tmp_path, monkeypatch, compress, tail):
    monkeypatch.setattr(lines, "LONGEST_LINE", 20)
    monkeypatch.setattr(lines, "_PIECE", 7)
    path = tmp_path / "f.jsonl"
    path.write_bytes(compress(GOOD + b"x" * 1000 + tail))
    assert max(len(line) for line in lines.read_lines(path)) == 21
    bad = BadRows(OnBadRow.SKIP)
    assert len(list(read_rows(path, bad))) == (2 if tail else 1)
    assert bad.counts == {"line too long": 1}


def test_the_longest_line_that_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", len(GOOD))
    (tmp_path / "f.jsonl").write_bytes(GOOD + GOOD + b" " + GOOD)
    bad = BadRows(OnBadRow.SKIP)
    assert len(list(read_rows(tmp_path / "f.jsonl", bad))) == 2
    assert bad.counts.total() == 1


def test_a_json_file_may_hold_one_list(tmp_path):
    path = tmp_path / "f.json"
    path.write_text('\n [{"text": "one"},\n 3, {"text": "two"}]')
    bad = BadRows(OnBadRow.SKIP)
    assert [row.values for row in read_rows(path, bad)] == [{"text": "one"}, {"text": "two"}]
    assert bad.counts == {"no object": 1}
    with pytest.raises(RowError, match=r"f\.json: \[1\]: 3 is not a JSON object"):
        values_of(path)
    path.write_bytes(GOOD + GOOD)
    assert len(values_of(path)) == 2
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf[{"text": "one"}]'))
    assert values_of(tmp_path / "f.json.gz") == [{"text": "one"}]


@pytest.mark.parametrize("content", [b'[{"a": 1},', b'["\xff"]', b"[" * 100_000, b"[1] 2", b"[" + b"9" * 5000])
def test_a_broken_list_is_an_error_in_any_case(tmp_path, content):
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(DataError, match=r"f\.json: broken JSON list \(.*\); correct it, or write one object a line"):
        list(read_rows(tmp_path / "f.json", BadRows(OnBadRow.SKIP)))


def test_a_list_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("polyprag.knowledge.rows.LARGEST_LIST", 10)
    (tmp_path / "f.json").write_text('[{"text": "one"}]')
    with pytest.raises(DataError, match=r"f\.json: holds more than 0 MiB in one piece; cut it"):
        values_of(tmp_path / "f.json")


def test_bad_rows_are_counted_by_reason_and_the_first_of_each_is_logged(caplog):
    bad = BadRows(OnBadRow.SKIP)
    with caplog.at_level(logging.WARNING, "polyprag"):
        for key in ("a", "b", "a"):
            with bad.tolerated():
                Row("f.jsonl:7", {}).text(key)
    assert bad.counts == {"a missing": 2, "b missing": 1}
    assert [record.message.split(";")[0] for record in caplog.records] == [
        f'left out: f.jsonl:7: "{key}" is missing' for key in "ab"
    ]
    with pytest.raises(DataError, match="another kind"), bad.tolerated():
        raise DataError("another kind")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_other_unicode_encodings_are_refused_with_a_hint(tmp_path, encoding):
    (tmp_path / "f.jsonl").write_bytes(GOOD.decode().encode(encoding))
    with pytest.raises(DataError, match=r"f\.jsonl:1: holds UTF-16 or NUL bytes; save the file as UTF-8"):
        values_of(tmp_path / "f.jsonl")


def test_a_missing_file_a_folder_and_a_damaged_archive(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: no such file; check the path"):
        values_of(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="is a folder; name the file"):
        values_of(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        values_of(tmp_path / ("x" * 5000))
    whole = gzip.compress(GOOD * 50)
    for content in (whole[:-9], whole[:3], whole[:12] + b"\xff" * 20, whole + b"tail"):
        (tmp_path / "f.jsonl.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"f\.jsonl\.gz: cannot be read"):
            values_of(tmp_path / "f.jsonl.gz")


def row(**values: object) -> Row:
    return Row("f.jsonl:7", values)


def test_values_as_they_should_be():
    good = row(a=" x ", b=None, c=["p", "q", "p"], d=[{"a": "y"}], e=True, f=" ")
    assert good.text("a") == "x"
    assert [good.optional_text(key) for key in "abfz"] == ["x", "", "", ""]
    assert (good.texts("c"), good.texts("b"), good.texts("z")) == (("p", "q"), (), ())
    assert [child.text("a") for child in good.objects("d")] == ["y"]
    assert good.objects("z") == []
    assert [good.flag(key) for key in "ebz"] == [True, False, False]


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda: row().text("a"), '"a" is missing'),
        (lambda: row(a=None).text("a"), '"a" must be a string, not None'),
        (lambda: row(a=3).text("a"), '"a" must be a string, not 3; put it in double quotes'),
        (lambda: row(a=" \t").text("a"), '"a" is blank'),
        (lambda: row(a="x\0").text("a"), '"a" holds a NUL or half a surrogate pair'),
        (lambda: row(a="x\ud800").text("a"), '"a" holds a NUL or half a surrogate pair'),
        (lambda: row(a=[]).optional_text("a"), r'"a" must be a string, not \[\]'),
        (lambda: row(a="x").texts("a"), "\"a\" must be a list, not 'x'; put it in square brackets"),
        (lambda: row(a=["x", ""]).texts("a"), r'"a"\[1\] is blank'),
        (lambda: row(a={}).objects("a"), '"a" must be a list'),
        (lambda: row(a=[{}, 4]).objects("a"), r'"a"\[1\] must be an object, not 4'),
        (lambda: row(a=[{}]).objects("a")[0].text("b"), r'"a"\[0\]: "b" is missing'),
        (lambda: row(a="yes").flag("a"), "\"a\" must be true or false, not 'yes'"),
        (lambda: row(a=1).flag("a"), '"a" must be true or false, not 1'),
    ],
)
def test_a_wrong_value_is_told_with_its_place(read, complaint):
    with pytest.raises(DataError, match=r"^f\.jsonl:7: " + complaint):
        read()


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(st.from_type(dict)).map(str).map(str.encode)))
@example(gzip.compress(b"{}")[:12])
@example(b'{"a": "\\ud800"}')
@example(json.dumps([[[]]]).encode())
def test_any_bytes_give_rows_or_a_data_error(tmp_path_factory, content):
    for name in ("f.jsonl", "f.json"):
        path = tmp_path_factory.mktemp("rows") / name
        path.write_bytes(content)
        error = error_of(lambda path=path: list(read_rows(path)))
        assert error is None or (str(error).startswith(str(path)) and "\n" not in str(error))
        left = error_of(lambda path=path: list(read_rows(path, BadRows(OnBadRow.SKIP))))
        assert left is None or not isinstance(error, RowError)
