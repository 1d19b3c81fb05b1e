"""Augmentation without a language model: slot questions and fill-in questions by patterns, made for English.

It knows nothing but the words that it sees. Its questions are about names, dates and numbers only, its rewrite is the
passage's sentences in another order with their subject named, and in other languages it finds little.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from polyprag.augmentation.cloze import cloze_questions
from polyprag.augmentation.grounding import contains_run, tokens
from polyprag.augmentation.slot_patterns import Candidate
from polyprag.augmentation.slots import slot_questions
from polyprag.augmentation.statements import Statement, StatementReader
from polyprag.records import Augmentation, Passage, QAPair

_LEANS = re.compile(
    r"(?:However|Thus|Therefore|Hence|Also|Another|Other|Later|Then|Yet|But|And|So|Both|Such|Instead|Moreover|Similarly|"
    r"Consequently|Furthermore|Additionally|Meanwhile|Afterwards?)\b|"
    r"(?:\S+ ){0,7}?(?:this|these|that|those|he|she|it|they|his|her|its|their|there|such|same|latter|former)\b",
    re.IGNORECASE,
)


def extract(passage: Passage, rewrites: int, pairs: int) -> Augmentation:
    """At most so many rewrites and question-answer pairs of a passage; the same passage always gives the same.

    Args:
        passage: what is asked about.
        rewrites: 0 or more; there is never more than one.
        pairs: 0 or more; there are fewer where the passage gives no more.
    """
    reader = StatementReader(passage)
    statements = reader.read()
    slots = [candidate for statement in statements for candidate in slot_questions(statement)]
    chosen = choose([*slots, *cloze_questions(reader, statements)], pairs)
    qa = tuple(QAPair(candidate.question, candidate.answer, candidate.sentence) for candidate in chosen)
    rewrite = _reordered(reader, statements) if rewrites else ""
    is_new = bool(rewrite) and tokens(rewrite) != tokens(passage.text)
    return Augmentation(passage.id, (rewrite,) if is_new else (), qa)


def choose(candidates: Iterable[Candidate], count: int) -> list[Candidate]:
    """The best candidates, spread over sentences, with no question and no answer twice.

    Each further question from the same sentence counts as two ranks worse than the one before.
    """
    left = [candidate for candidate in candidates if not _gives_away(candidate)]
    used, chosen = Counter[int](), list[Candidate]()
    questions, answers = set[str](), set[str]()
    while left and len(chosen) < count:
        best = min(left, key=lambda candidate: candidate.rank + 2 * used[candidate.place])
        chosen.append(best)
        used[best.place] += 1
        questions.add(best.question)
        answers.add(" ".join(tokens(best.answer)))
        left = [one for one in left if one.question not in questions and " ".join(tokens(one.answer)) not in answers]
    return chosen


def _gives_away(candidate: Candidate) -> bool:
    return contains_run(tokens(candidate.question), tokens(candidate.answer))


def _reordered(reader: StatementReader, statements: list[Statement]) -> str:
    """The sentences with their subjects named, the last first; one that leans on the one before stays behind it."""
    resolved = {statement.place: statement.sentence for statement in statements}
    blocks: list[list[str]] = []
    for place, sentence in enumerate(reader.sentences):
        if not sentence[0].isupper() or sentence[-1] not in '.!?"”)':
            continue  # cut off where the passage begins or ends
        if blocks and place not in resolved and _LEANS.match(sentence):
            blocks[-1].append(sentence)
        else:
            blocks.append([resolved.get(place, sentence)])
    return " ".join(sentence for block in reversed(blocks) for sentence in block)
