from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyprag.knowledge.documents import Section, markdown_sections, text_sections

WORD = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=6)
LINE = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
MARKUP = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            ["# ", "---\n", "```\n", "\n", "> ", "- ", "|", "[a](b)", "<b>", "<!--", "-->", "&amp;", "    "]
        ),
    ),
    max_size=40,
).map("".join)

GUIDE = """---
title: The   Guide
tags: [a, b]
---
Before *any* heading, with [a link](https://example.org "tip").

# Mills of `Tave`

One paragraph
wrapped &amp; continued, ![a wheel](wheel.png).

```python
# no heading
    x = 1
```

## Grain ##

- rye
- **wheat**
  1. white

| kind | price |
|------|-------|
| rye  | *2*   |

> # quoted heading
> quoted text

<!-- hidden -->
<div class="x">Seen <b>too</b> &lt;</div>
<script>hidden()</script>

Second Part
===========
first<br>second ~~struck~~

### Deep

deep `<br>` text

# Empty
"""


def titles_and_lines(content: str, name: str = "guide") -> list[tuple[str, list[str]]]:
    return [(section.title, section.text.split("\n")) for section in markdown_sections(content, name)]


def test_markdown_becomes_titled_text_without_markup():
    assert titles_and_lines(GUIDE) == [
        ("The Guide", ["Before any heading, with a link."]),
        ("Mills of Tave", ["One paragraph wrapped & continued, a wheel.", "# no heading", "    x = 1"]),
        (
            "Mills of Tave > Grain",
            ["rye", "wheat", "white", "kind | price", "rye | 2", "quoted heading", "quoted text", "Seen too <"],
        ),
        ("Second Part", ["first second struck"]),
        ("Second Part > Deep", ["deep <br> text"]),
    ]


def test_what_names_a_document():
    assert titles_and_lines("text") == [("guide", ["text"])]
    assert titles_and_lines("## A\ntext\n# B\nmore\n## C\nrest") == [
        ("guide > A", ["text"]),
        ("B", ["more"]),
        ("B > C", ["rest"]),
    ]
    assert titles_and_lines("---\ntitle: T\n---\n## A\n### B\ntext") == [("T > A > B", ["text"])]
    assert titles_and_lines("---\ntitle: [T]\n...\ntext") == [("guide", ["text"])]
    assert titles_and_lines("#\ntext") == [("guide", ["text"])]


def test_what_only_looks_like_a_front_matter_is_text():
    assert titles_and_lines("---\n\ntext\n\n---\nmore") == [("guide", ["text", "more"])]
    assert titles_and_lines("---\na: [\n---\n") == []
    assert titles_and_lines("text\n\n---\ntitle: T\n\n---\n") == [("guide", ["text", "title: T"])]


def test_line_breaks_of_any_system():
    for breaks in ("\n", "\r\n", "\r"):
        content = GUIDE.replace("\n", breaks)
        assert list(markdown_sections(content, "guide")) == list(markdown_sections(GUIDE, "guide"))
        assert list(text_sections(f"a{breaks}b{breaks} {breaks}c", "t")) == [Section("t", "a b\nc")]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), LINE), max_size=12))
def test_headings_and_paragraphs_come_back_in_order(blocks):
    """Level 0 is a paragraph; the expected titles come from a list of six slots."""
    content = "".join(f"{'#' * level} {line}\n\n" if level else f"{line}\n\n" for level, line in blocks)
    slots, expected = [""] * 6, []
    for level, line in blocks:
        if level:
            slots[level - 1 :] = [line] + [""] * (6 - level)
        else:
            title = " > ".join(name for name in (slots[0] or "guide", *slots[1:]) if name)
            expected.append((title, line))
    read = [
        (section.title, line) for section in markdown_sections(content, "guide") for line in section.text.split("\n")
    ]
    assert read == expected


@settings(max_examples=200, deadline=None)
@given(MARKUP)
@example("---\n" + '"\\UFFFFFFFF": 1' + "\n---\n")
@example("---\n" + "[" * 3000 + "\n---\n")
@example("> " * 500 + "deep")
@example("![" * 300 + "x" + "](y)" * 300)
@example("<![x")
def test_any_markdown_gives_sections_that_hold_text(content):
    for section in markdown_sections(content, "guide"):
        assert section.text.strip()
        assert section.title


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_plain_text_keeps_its_words(content):
    sections = list(text_sections(content, "t"))
    assert [word for section in sections for word in section.text.split()] == content.split()
    assert len(sections) == bool(content.strip())
