import pytest

from polyprag.markdown import code, escape, markdown_table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who wrote *Mill*?", r"Who wrote \*Mill\*?"),
        ("a|b", r"a\|b"),
        ("[x](y) <b> `c` ~d~", r"\[x\](y) \<b\> \`c\` \~d\~"),
        ("one_hop and _this_", r"one_hop and \_this\_"),
        ("two\nlines\x1b[31m", "two�lines�\\[31m"),
    ],
)
def test_nothing_is_read_as_markup(text, expected):
    assert escape(text) == expected


def test_names_are_code():
    assert code("a`b|c\n") == "`a'b\\|c�`"


def test_a_table():
    assert markdown_table(["a", "b"], [["x", "1"], ["y", "2"]]).splitlines() == [
        "| a | b |",
        "| :-- | --: |",
        "| x | 1 |",
        "| y | 2 |",
    ]
