"""From augmentation files to what training knows of each passage."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from polyprag.errors import DataError
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.corpus import merge_into, pairs_of, resolve
from polyprag.knowledge.released import is_released, read_released
from polyprag.knowledge.rows import Row, read_rows
from polyprag.records import Augmentation, Passage

logger = logging.getLogger(__name__)


def read_augmentation(
    path: Path,
    passages: Iterable[Passage],
    canonical: Mapping[str, str] | None = None,
    bad: BadRows | None = None,
) -> dict[str, Augmentation]:
    """Read augmentations `{"passage_id", "rewrites"?: [..], "qa"?: [{"question", "answer", "full_answer"?}]}`.

    Files and folders in PRAG's released layout are read too, see `polyprag.knowledge.released`.

    Args:
        path: the file or folder; several rows of one passage are merged.
        passages: the passages that matter.
        canonical: `Corpus.canonical`, in which each row's passage must be. Without it rows of other passages than
            those given are passed over, and their number is logged.
        bad: what happens to rows that cannot be used; without it such a row is an error.

    Returns:
        Augmentations by passage id.

    Raises:
        DataError: the file cannot be read, is empty, or nothing in it is about the passages.
        RowError: a row is malformed, empty or about an unknown passage, and such rows are not left out.
    """
    if path.is_dir() or is_released(path):
        return read_released(path, passages, bad)
    known = {passage.id: passage.id for passage in passages} if canonical is None else canonical
    bad = bad or BadRows()
    augmentations: dict[str, Augmentation] = {}
    others = 0
    for row in read_rows(path, bad):
        with bad.tolerated():
            id_ = row.identifier("passage_id") or row.text("passage_id")
            if canonical is None and id_ not in known:
                others += 1
                continue
            merge_into(augmentations, _augmentation(row, resolve(known, id_, row.place)))
    if not (augmentations or others or bad.counts):
        raise DataError(f"{path}: there are no rows; write the file again")
    if others and not augmentations:
        raise DataError(f"{path}: none of its {others} rows is about a passage of the corpus; correct passage_id")
    if others:
        logger.warning("%s: %d rows are about other passages and are passed over", path, others)
    return augmentations


def _augmentation(row: Row, passage_id: str) -> Augmentation:
    read = Augmentation(passage_id, row.texts("rewrites"), pairs_of(row, "qa"))
    if not read.rewrites and not read.qa:
        complaint = 'neither "rewrites" nor "qa" holds anything; give one of them or remove the row'
        raise row.error(complaint, "neither rewrites nor pairs")
    return read
