import json
import re
from dataclasses import replace

import pytest

from polyprag.knowledge.card_measures import Repeats, Source, Spread
from polyprag.knowledge.card_report import MOST_LINES, card_lines, card_markdown, write_card
from polyprag.knowledge.data_card import Asked, DataCard, LeftOut, Trained
from polyprag.knowledge.overlap import Copy, Overlap

HOSTILE = "a|b `c` *d* <e>\n# _f_ [g](h) \x1b[31m"


def spread(number: int) -> Spread:
    return Spread(n=number, of=2 * number, total=3 * number, min=1, median=2.5, p95=4, max=5)


@pytest.fixture
def card() -> DataCard:
    return DataCard(
        name="jsonl",
        seed=3,
        sources=(Source("data.path", "corpus.jsonl", 1, 12_345, "2023-11-14T22:13:20+00:00", "ab" * 32),),
        passages=1234,
        duplicates=7,
        near=Repeats(3, 1234, (("p2", "p1"),)),
        asked=Asked({"bridge": 20, "comparison": 10}, {"": 5}, with_aliases=4, with_gold=30, unknown_gold=1),
        trained=Trained(1200, spread(1234), spread(1234), "small-model", 6),
        left_out=LeftOut(rows={"answers missing": 4}, augmentation={"not grounded": 30, "repeated": 2}),
        tokens={"passages": spread(100), "training sequences": spread(200)},
        max_tokens=512,
        cut_sequences=2,
        overlap=Overlap(3600, 5, 6, 3, 2, (Copy("p1", "Who sang?", "q1", "who sang", True),)),
        recall={"1": 0.5, "10": 0.9375},
        recall_questions=30,
        warnings=("3 of 30 test questions equal to a training question",),
    )


def tables(markdown: str) -> list[list[str]]:
    return [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]


def test_the_terminal_gets_the_facts(card):
    assert card_lines(card) == [
        "data        jsonl: corpus.jsonl",
        "passages    1,234; 7 duplicates collapsed, 3 near duplicates",
        "questions   30 (bridge 20, comparison 10) for the test, 5 set apart; 30 with known gold passages, "
        "4 with aliases",
        "training    3,702 pairs (1 to 5 a passage, median 2.5) and 3,702 rewrites",
        "left out    rows: answers missing 4; augmentation: not grounded 30, repeated 2",
        "tokens      median: passages 2.5 (to 5), training sequences 2.5 (to 5)",
        "overlap     5 of 3,600 training questions equal a test question, 6 more nearly",
        "recall      @1 0.500, @10 0.938 over 30 questions",
        "note        3 of 30 test questions equal to a training question",
    ]


@pytest.mark.parametrize(("warnings", "told"), [(4, 4), (5, 3), (10, 3)])
def test_no_more_lines_than_there_is_room_for(card, warnings, told):
    lines = card_lines(replace(card, warnings=tuple(f"warning {at}" for at in range(warnings))))
    assert len(lines) <= MOST_LINES
    notes = [line.split(maxsplit=1)[1] for line in lines if line.startswith("note")]
    assert notes[:told] == [f"warning {at}" for at in range(told)]
    assert notes[told:] == ([f"{warnings - told} more in data_card.md"] if warnings > told else [])


def test_what_is_not_there_takes_no_line(card):
    bare = replace(
        card, left_out=LeftOut(), tokens={}, overlap=Overlap(), recall={}, warnings=(), asked=Asked({"": 2}, {})
    )
    assert [line.split()[0] for line in card_lines(bare)] == ["data", "passages", "questions", "training"]
    markdown = card_markdown(bare)
    for heading in ("What to know", "Left out", "Lengths in tokens", "Recall"):
        assert heading not in markdown
    assert "No training question is known here" in markdown


def test_the_markdown_holds_all_of_it(card):
    markdown = card_markdown(card)
    assert markdown.startswith("# Data card: jsonl\n\n## What to know\n\n- 3 of 30 test questions equal to")
    for row in (
        f"| `data.path` | corpus.jsonl | 1 | 12,345 | 2023-11-14T22:13:20+00:00 | `{'ab' * 32}` |",
        "| near duplicates, among 1,234 passages | 3 |",
        "| test questions of type bridge | 20 |",
        "| validation questions | 5 |",
        "| passages filled up by extractive pairs, beside small-model | 6 |",
        "| training pairs a passage | 1,234 | 2,468 | 1 | 2.5 | 4 | 5 |",
        "| augmentation | not grounded | 30 |",
        "| training sequences | 200 | 400 | 1 | 2.5 | 4 | 5 |",
        "| exact copies | 5 of 3,600 | 3 of 30 |",
        "| Who sang? | who sang | `q1` | exact |",
        "| first 10 | 0.938 |",
    ):
        assert row in markdown.splitlines()
    assert "drawn by seed 3" in markdown
    assert markdown.endswith("|\n")


def test_texts_of_users_are_not_read_as_markup(card):
    copy = Copy(HOSTILE, HOSTILE, HOSTILE, HOSTILE, False)
    markdown = card_markdown(
        replace(
            card,
            name=HOSTILE,
            sources=(Source("data.path", HOSTILE),),
            asked=Asked({HOSTILE: 1}, {HOSTILE: 1}),
            trained=replace(card.trained, by=HOSTILE),
            left_out=LeftOut(rows={HOSTILE: 1}),
            overlap=replace(card.overlap, examples=(copy,)),
            warnings=(HOSTILE,),
        )
    )
    assert "\x1b" not in markdown
    assert not re.search(r"^# _f", markdown, flags=re.MULTILINE)
    for lines in tables(markdown):
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}) == 1
    outside_code = re.sub(r"`[^`\n]*`", "", markdown.replace("\\`", ""))
    assert not re.search(r"(?<!\\)[<\[]", outside_code)
    assert "\x1b" not in "".join(card_lines(replace(card, warnings=(HOSTILE,))))


def test_both_files_are_written(card, tmp_path):
    write_card(card, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "data_card.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(card.to_json())
    )
    assert (tmp_path / "run" / "data_card.md").read_text(encoding="utf-8") == card_markdown(card)
