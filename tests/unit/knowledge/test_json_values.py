import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import DataError
from polyprag.knowledge import json_values
from polyprag.knowledge.json_values import read_values

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@pytest.fixture
def write(tmp_path: Path):
    def written(content: str | bytes) -> Path:
        path = tmp_path / "values.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(JSON, max_size=5),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    piece=st.integers(1, 40),
    packed=st.booleans(),
)
def test_a_list_of_any_values_comes_back_whatever_the_pieces(
    tmp_path_factory, values, indent, ascii_only, piece, packed
):
    content = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    path = tmp_path_factory.mktemp("list") / "values.json"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_PIECE", piece)
        assert list(read_values(path)) == values


@pytest.mark.parametrize("content", ['{"a": 1}\n{"b": [2]}\n', '{"a": 1} {"b": [2]}', '\ufeff{"a": 1}{"b": [2]}'])
def test_values_may_stand_one_after_another(write, content):
    assert list(read_values(write(content))) == [{"a": 1}, {"b": [2]}]


@pytest.mark.parametrize("content", ["", " \n", "[]", " [ ] \n"])
def test_there_may_be_none(write, content):
    assert list(read_values(write(content))) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[1, 2", r"\[2\]: broken JSON: neither a comma nor the end"),
        ('[1, {"a": 2]', r"\[1\]: broken JSON \(Expecting ',' delimiter\); copy the file again"),
        ("[1, ", r"\[1\]: broken JSON \(Expecting value\)"),
        ("[", r"\[0\]: broken JSON"),
        ("[1 2]", r"\[1\]: broken JSON: neither"),
        ("[1]]", r"\[1\]: something stands after the end of the list"),
        ("<html>", r"\[0\]: broken JSON \(Expecting value\)"),
        ("[" * 100_000, r"\[0\]: broken JSON \(a number or nesting too long\)"),
        ("[" + "1" * 5000 + "]", r"\[0\]: broken JSON \(a number or nesting too long\)"),
        (b'["\xff"]', r"\[0\]: byte 0xff is not UTF-8; save the file as UTF-8"),
        ('["\u00e9"'.encode()[:-2], r"\[0\]: byte 0xc3 is not UTF-8"),
    ],
)
def test_what_is_broken_is_told_with_its_number(write, content, complaint):
    with pytest.raises(DataError, match=rf"values\.json: {complaint}") as caught:
        list(read_values(write(content)))
    assert "\n" not in str(caught.value)


def test_what_comes_before_a_broken_place_is_read(write):
    values = read_values(write("[1, 2, }"))
    assert [next(values), next(values)] == [1, 2]
    with pytest.raises(DataError, match=r"\[2\]: broken JSON"):
        next(values)


def test_a_value_longer_than_the_limit_does_not_fill_the_memory(write, monkeypatch):
    monkeypatch.setattr(json_values, "_PIECE", 10)
    monkeypatch.setattr(json_values, "LONGEST_LINE", 50)
    assert list(read_values(write('["' + "x" * 40 + '"]'))) == ["x" * 40]
    with pytest.raises(DataError, match=r"\[0\]: broken JSON \(Unterminated string starting at\)"):
        list(read_values(write('["' + "x" * 1000)))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(read_values(tmp_path / "none.json"))
