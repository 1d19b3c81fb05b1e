import json
import logging
from pathlib import Path

import pytest

from polyprag.config import OnBadRow
from polyprag.errors import DataError
from polyprag.knowledge.augmentations import read_augmentation
from polyprag.knowledge.bad_rows import BadRows
from polyprag.records import Augmentation, Passage, QAPair

PASSAGES = (Passage("a", "", "one"), Passage("b", "", "two"))
CANONICAL = {"a": "a", "b": "b", "c": "a"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(number: int) -> dict[str, str]:
    return {"question": f"question {number}?", "answer": f"answer {number}"}


def test_rows_merge_by_distinct_passage(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {"passage_id": "a", "rewrites": ["r", "s"], "qa": [pair(1)], "by": "model", "prompt_version": 2},
        {"passage_id": "c", "rewrites": ["s", "t"]},
        {"passage_id": "b", "qa": [{"question": "q", "answer": "a", "full_answer": "It is a."}]},
    )
    assert read_augmentation(path, PASSAGES, CANONICAL) == {
        "a": Augmentation("a", ("r", "s", "t"), (QAPair("question 1?", "answer 1"),)),
        "b": Augmentation("b", (), (QAPair("q", "a", "It is a."),)),
    }


@pytest.mark.parametrize(
    ("row", "complaint", "reason"),
    [
        ({"rewrites": ["r"]}, '"passage_id" is missing', "passage_id missing"),
        (
            {"passage_id": "z", "rewrites": ["r"]},
            "passage id 'z' is not in the corpus; correct it or add the passage",
            "unknown passage id",
        ),
        ({"passage_id": "a"}, 'neither "rewrites" nor "qa" holds anything', "neither rewrites nor pairs"),
        ({"passage_id": "a", "rewrites": "r"}, '"rewrites" must be a list', "rewrites of the wrong type"),
        (
            {"passage_id": "a", "qa": [{"question": "q", "answer": 3}]},
            r'"qa"\[0\]: "answer" must be a string, not 3',
            "answer of the wrong type",
        ),
    ],
)
def test_bad_rows_are_errors_or_counted(tmp_path, row, complaint, reason):
    path = write(tmp_path / "a.jsonl", row, {"passage_id": "b", "rewrites": ["r"]})
    with pytest.raises(DataError, match=r"a\.jsonl:1: " + complaint):
        read_augmentation(path, PASSAGES, CANONICAL)
    bad = BadRows(OnBadRow.SKIP)
    assert read_augmentation(path, PASSAGES, CANONICAL, bad) == {"b": Augmentation("b", ("r",))}
    assert bad.counts == {reason: 1}


def test_other_passages_are_passed_over_where_not_all_are_known(tmp_path, caplog):
    path = write(tmp_path / "a.jsonl", {"passage_id": "z", "rewrites": ["r"]}, {"passage_id": "b", "rewrites": ["r"]})
    with caplog.at_level(logging.WARNING, "polyprag"):
        assert read_augmentation(path, PASSAGES) == {"b": Augmentation("b", ("r",))}
    assert "1 rows are about other passages" in caplog.text
    with pytest.raises(DataError, match=r"a\.jsonl: none of its 2 rows is about a passage of the corpus"):
        read_augmentation(path, [Passage("y", "", "other")])


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.jsonl: there are no rows; write the file again"):
        read_augmentation(write(tmp_path / "a.jsonl"), PASSAGES)
