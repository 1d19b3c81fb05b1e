"""Augmentation that was written anew for each question that retrieves a passage, as in the data that PRAG has released.

The official code trains and keeps an adapter for each question and passage. The question itself has no part in the
training; what differs is the augmentation, which is sampled anew for each of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from polyprag.config import DataConfig, DataName
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.loading import limited
from polyprag.knowledge.released import ids_by_words, is_released, read_entries, words_of
from polyprag.records import Augmentation, Passage

QuestionAugmentations = dict[tuple[str, str], Augmentation]
"""By the words of a question and the id of a passage."""


def read_question_augmentations(data: DataConfig, passages: Iterable[Passage]) -> QuestionAugmentations:
    """What the files of PRAG's released layout tell of passages for each of their questions.

    Questions and passages are compared by their words; of several entries for the same two the first counts. As when
    all are read together, the model that has written the most is taken, and `data.max_pairs` and `data.max_rewrites`
    hold.

    Args:
        data: names the files, as `data.augmentation`, or as `data.path` where that is all.
        passages: the corpus; other passages in the files are passed over.

    Returns:
        Nothing where the augmentation is in another layout, which does not tell questions apart.

    Raises:
        DataError: the files cannot be read.
    """
    named = data.augmentation or (data.path if data.name is DataName.JSONL and not data.questions else "")
    if not named or not is_released(Path(named)):
        return {}
    entries, model = read_entries(Path(named), BadRows(data.on_bad_row))
    known = ids_by_words(passages)
    own: QuestionAugmentations = {}
    for entry in entries:
        written = entry.written.get(model)
        if written is not None and (written.rewrites or written.qa):
            for id_ in known.get(words_of(entry.text), ()):
                limits = limited({id_: dataclasses.replace(written, passage_id=id_)}, data)
                own.setdefault((words_of(entry.question), id_), limits[id_])
    return own
