"""Augmentation in the layout that PRAG has released (arXiv 2501.15915, github.com/oneal2000/PRAG, `data_aug`).

A folder `DATA_SET/MODEL/` holds a JSON list for each question type, and `total.json`, which is an index without
passages where there are several types. An entry is a question with the passages that PRAG retrieved for it::

    {"test_id", "question", "answer", "type"?, "passages": [..],
     "augment": [{"pid", "passage", "MODEL_rewrite", "MODEL_qa": [{"question", "answer", "full_answer"}]}]}

Passages are texts of DPR's collection without their titles, so they are found in a corpus by their text.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polyprag.config import BENCHMARKS
from polyprag.errors import DataError
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.corpus import merge_into, pairs_of
from polyprag.knowledge.lines import open_bytes
from polyprag.knowledge.rows import Row, read_rows
from polyprag.records import Augmentation, Passage

REWRITE, QA = "_rewrite", "_qa"
"""Ends of the keys that begin with the model's name."""
_DEPTH = 3
"""Names at the end of a path that can be of a set: `SET/MODEL/FILE`."""
_START = 2**18
"""Bytes of a file that are looked at to tell its layout."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """What all models wrote about a passage for a question that retrieves it.

    Attributes:
        question: its text; empty where the files leave it out.
        text: the passage.
        written: by model.
    """

    question: str
    text: str
    written: dict[str, Augmentation]


def is_released(path: Path) -> bool:
    """Whether a file, or some file of a folder, begins as PRAG's do; what cannot be read does not."""
    try:
        return any(_begins_as_released(file) for file in _files(path))
    except DataError:
        return False


def set_of(path: Path) -> str:
    """The benchmark that PRAG's files are of, after which they name a folder: `SET/MODEL/FILE`.

    Args:
        path: a file, the folder of a model, or the folder of a set.

    Returns:
        A name of `BENCHMARKS`; empty where no folder has one.
    """
    return next((part for part in reversed(path.absolute().parts[-_DEPTH:]) if part in set(BENCHMARKS)), "")


def read_released(path: Path, passages: Iterable[Passage], bad: BadRows | None = None) -> dict[str, Augmentation]:
    """What PRAG's files tell of passages, which are compared by their words.

    Where several models have written, the one that has written about the most passages is taken, and named in the log.

    Args:
        path: a file, or the folder of a model.
        passages: the corpus; other passages in the files are passed over, and their number is logged.
        bad: what happens to entries that cannot be used; without it such an entry is an error.

    Returns:
        Augmentations by passage id.

    Raises:
        DataError: nothing can be read, or none of the files' passages is in the corpus.
        RowError: an entry cannot be used, and such entries are not left out.
    """
    entries, model = read_entries(path, bad or BadRows())
    known = ids_by_words(passages)
    augmentations: dict[str, Augmentation] = {}
    strange: set[str] = set()
    for entry in entries:
        words = words_of(entry.text)
        for id_ in known.get(words, ()):
            written = entry.written.get(model, Augmentation(id_))
            merge_into(augmentations, Augmentation(id_, written.rewrites, written.qa))
        if words not in known:
            strange.add(words)
    if not augmentations:
        remedy = "name the passages that they were written for, or data.questions in the same layout"
        raise DataError(f"{path}: none of its {len(strange)} passages is in the corpus; {remedy}")
    if strange:
        logger.warning("%s: %d of its passages are not in the corpus and are passed over", path, len(strange))
    return augmentations


def read_entries(path: Path, bad: BadRows) -> tuple[list[Entry], str]:
    """All entries, and the model that has written about the most passages, which is named in the log if not alone.

    Args:
        path: a file, or the folder of a model.
        bad: what happens to entries that cannot be used.

    Raises:
        DataError: nothing can be read.
        RowError: an entry cannot be used, and such entries are not left out.
    """
    entries = [entry for row in _rows(path, bad) for entry in _entries(row, bad)]
    models = Counter(model for entry in entries for model in entry.written)
    if not models:
        raise DataError(f"{path}: no entry has both passages and what a model wrote about them; name another file")
    model = max(sorted(models), key=lambda name: models[name])
    if len(models) > 1:
        logger.info("%s: %s of the models %s is taken", path, model, ", ".join(sorted(models)))
    return entries, model


def released_questions(path: Path, bad: BadRows) -> Iterator[Row]:
    """The questions of PRAG's files, as rows `{"id", "question", "answers", "type", "passages": [{"text"}]}`.

    Args:
        path: a file, or the folder of a model.
        bad: what happens to entries that cannot be used.

    Raises:
        DataError: nothing can be read.
        RowError: an entry cannot be used, and such entries are not left out.
    """
    for row in _rows(path, bad):
        found: Row | None = None
        with bad.tolerated():
            answers = row.values.get("answer")
            found = Row(
                row.place,
                {
                    "id": row.values.get("qid") or row.identifier("test_id"),
                    "question": row.text("question"),
                    "answers": answers if isinstance(answers, list) else [row.text("answer")],
                    "type": row.optional_text("type") or _type_of(row.place),
                    "passages": [{"text": text} for text in _texts(row)],
                },
            )
        if found is not None:
            yield found


def _begins_as_released(file: Path) -> bool:
    with open_bytes(file) as content:
        start = content.read(_START)
    return start.lstrip().startswith(b"[") and re.search(rb'"augment"\s*:', start) is not None


def _rows(path: Path, bad: BadRows) -> Iterator[Row]:
    """The entries of all files that have passages; an index without any is passed over."""
    found = False
    for file in _files(path):
        for row in read_rows(file, bad):
            if "augment" in row.values:
                found = True
                yield row
    if not found:
        raise DataError(f'{path}: no entry has "augment"; name a file or folder in the layout of PRAG\'s data_aug')


def _files(path: Path) -> list[Path]:
    """The files to read: one, or all of a model's folder.

    Raises:
        DataError: a folder holds no such files, or the folders of several models.
    """
    if not path.is_dir():
        return [path]
    try:
        files = sorted(file for file in path.iterdir() if _is_json(file))
        models = sorted(inner for inner in path.iterdir() if inner.is_dir() and any(map(_is_json, inner.iterdir())))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if files:
        return files
    if len(models) > 1:
        names = ", ".join(inner.name for inner in models)
        raise DataError(f"{path}: holds folders of several models ({names}); name one of them")
    if not models:
        raise DataError(f"{path}: holds no JSON files; name the folder that PRAG's files of one model lie in")
    return _files(models[0])


def _is_json(path: Path) -> bool:
    return path.is_file() and path.name.endswith((".json", ".json.gz"))


def _entries(row: Row, bad: BadRows) -> Iterator[Entry]:
    question = str(row.values.get("question") or "")
    for entry in _tolerated_objects(row, bad):
        text, written = "", {}
        with bad.tolerated():
            text = entry.optional_text("passage")
            models = {key.removesuffix(end) for key in entry.values for end in (REWRITE, QA) if key.endswith(end)}
            written = {model: _written(entry, model) for model in sorted(models) if text}
        if written:
            yield Entry(question, text, written)


def _tolerated_objects(row: Row, bad: BadRows) -> list[Row]:
    with bad.tolerated():
        return row.objects("augment")
    return []


def _written(entry: Row, model: str) -> Augmentation:
    """A model's rewrite and pairs; answers that are lists or numbers become text, and those that are null are none."""
    rewrite, pairs = entry.optional_text(model + REWRITE), entry.values.get(model + QA)
    usable = []
    for pair in pairs if isinstance(pairs, list) else []:
        if isinstance(pair, dict) and pair.get("answer") not in (None, "", []):
            usable.append({**pair, **{key: _text(pair.get(key)) for key in ("answer", "full_answer")}})
    qa = pairs_of(Row(f"{entry.place}: {model}", {"qa": usable}), "qa")
    return Augmentation("", (rewrite,) if rewrite else (), qa)


def _text(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value) if isinstance(value, int | float) else value


def _texts(row: Row) -> list[str]:
    """The passages of an entry that are not blank."""
    texts = [entry.optional_text("passage") for entry in row.objects("augment")]
    return list(dict.fromkeys(text for text in texts if text))


def _type_of(place: str) -> str:
    """The question type that a file is named after; none for all of them together."""
    name = re.sub(r"\.json(?:\.gz)?\Z", "", Path(place.rsplit(":", 1)[0]).name)
    return "" if name == "total" else name


def ids_by_words(passages: Iterable[Passage]) -> dict[str, list[str]]:
    """Ids of passages by the words of their text, and by those of title and text."""
    known: dict[str, list[str]] = {}
    for passage in passages:
        for words in {words_of(passage.text), words_of(f"{passage.title} {passage.text}")}:
            known.setdefault(words, []).append(passage.id)
    return known


def words_of(text: str) -> str:
    """A text without capitals, punctuation and line ends, by which texts are compared."""
    return " ".join(re.findall(r"\w+", text.casefold()))
