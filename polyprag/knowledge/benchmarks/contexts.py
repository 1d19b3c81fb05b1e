"""Questions that come with paragraphs and supporting facts, as HotpotQA publishes them and others after it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from polyprag.knowledge.rows import Row

REASON = "context or supporting facts in another form"


def context_of(row: Row) -> dict[str, object]:
    """What our own form of a question says of its paragraphs: `passages`, and `gold_titles` of those that are missing.

    A supporting fact names a paragraph by its title and one of its sentences by its number. Where several paragraphs
    have the title, the first one that has the sentence is meant, or else the first. Paragraphs without text are left
    out.

    Args:
        row: with `context` as pairs of title and sentences, or as columns `{"title": [..], "sentences": [[..]]}`, and
            `supporting_facts` as pairs of title and number, or as columns `{"title": [..], "sent_id": [..]}`; either
            may be a string that holds this as JSON, and may be missing.

    Raises:
        RowError: one of them has another form.
    """
    paragraphs = [(title, _sentences(row, value)) for title, value in _pairs(row, "context", ("sentences", "content"))]
    supporting: set[int] = set()
    missing: dict[str, None] = {}
    for title, number in _pairs(row, "supporting_facts", ("sent_id",)):
        places = [place for place, (own, _) in enumerate(paragraphs) if own == title]
        if places:
            supporting.add(_meant(places, paragraphs, number))
        else:
            missing[title] = None
    texts = [" ".join(sentence.strip() for sentence in sentences if sentence.strip()) for _, sentences in paragraphs]
    passages = [
        {"title": title, "text": texts[place], "is_support": place in supporting}
        for place, (title, _) in enumerate(paragraphs)
        if texts[place]
    ]
    blank = dict.fromkeys(paragraphs[place][0] for place in sorted(supporting) if not texts[place])
    return {"passages": passages, "gold_titles": [*missing, *blank]}


def _pairs(row: Row, key: str, others: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Pairs of a title and what is said of it, from any of the published forms."""
    value = _parsed(row, key)
    if isinstance(value, dict):
        other = next((value[name] for name in others if name in value), None)
        titles = value.get("title")
        if not isinstance(titles, list) or not isinstance(other, list) or len(titles) != len(other):
            raise row.error(f'"{key}" must hold lists "title" and "{others[0]}" of one length; see the docs', REASON)
        value = list(zip(titles, other, strict=True))
    if not isinstance(value, list):
        raise row.error(f'"{key}" must be a list of pairs, or an object of lists; see the docs', REASON)
    for index, pair in enumerate(value):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise row.error(f'"{key}"[{index}] must be a pair that begins with a title; see the docs', REASON)
        yield pair[0].strip(), pair[1]


def _parsed(row: Row, key: str) -> object:
    value = row.values.get(key) or []
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise row.error(f'"{key}" is a string that holds no JSON; see the docs', REASON) from error
    return value


def _sentences(row: Row, value: object) -> list[str]:
    sentences = [value] if isinstance(value, str) else value
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise row.error('"context": the sentences of a paragraph must be a list of strings; see the docs', REASON)
    return sentences


def _meant(places: Sequence[int], paragraphs: Sequence[tuple[str, list[str]]], number: object) -> int:
    """The place of the paragraph that has a sentence of this number, among those of one title."""
    having = (place for place in places if isinstance(number, int) and 0 <= number < len(paragraphs[place][1]))
    return next(having, places[0])
