"""Questions from statements: "X was born in Y on D" gives "Where was X born?" and "When was X born?"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from polyprag.augmentation.definitions import (
    Found,
    questions_of_aside,
    questions_of_definition,
    questions_of_family,
)
from polyprag.augmentation.lexicon import DEMONYMS, MONTHS, PARTICIPLES, PAST, PEOPLE_OF, PERSONAL_VERBS
from polyprag.augmentation.sentences import DATE, NAME, VERB
from polyprag.augmentation.slot_patterns import ENDS, LED_BY, PATTERNS, PEOPLE, PERSON, PLACE, Candidate
from polyprag.augmentation.statements import Statement
from polyprag.augmentation.topics import Nature

LONGEST_ANSWER = 8
SHORT_ANSWER = 5
"""In words; a longer answer makes a question worse."""
LONGEST_REST = 9
"""Words of a sentence that a question repeats behind the verb."""
FEWEST_TOLD, LONGEST_STATEMENT = 6, 16
"""Words of what is said of somebody about whom is asked."""

_CLAUSE = re.compile(
    rf"(?:,|;)? and (?:was |were |is )?(?:later |then |also |subsequently )?(?=(?:{VERB})\b(?! by\b))|; "
)
_TURN = re.compile(r"; |, but |, while |,? (?:who|which|that|where|whose|when) ")
_PASSIVE = re.compile(
    r"(?P<be>is|was|are|were) (?P<part>(?:(?:first|originally|formally|officially) )?"
    rf"(?:{'|'.join(sorted(PARTICIPLES, key=len, reverse=True))}|[a-z-]+ed))\b(?P<rest>.*)"
)
_ACTIVE = re.compile(rf"(?P<verb>{'|'.join(sorted(PAST, key=len, reverse=True))})\b(?P<rest>.*)")
_WHEN = re.compile(rf",? (?:on|in) (?P<a>{DATE})")
_INTRO_WHEN = re.compile(rf"(?:In|On) (?P<a>{DATE})\Z")
_AGENT = re.compile(rf" by {LED_BY}(?P<a>{PEOPLE})")
_WHERE = re.compile(rf" (?:in|at|near) (?P<a>{PLACE})")
_POSSESSED = re.compile(
    rf"'s (?P<n>(?:[a-z-]+ ){{0,2}}[a-z-]+)(?:, (?P<name>{PERSON})(?: \([^()]*\))?,)? (?P<be>is|was|are|were) "
    r"(?P<rest>.+)"
)
_OWNED = re.compile(rf"(?P<owned>'s (?!parents\b)(?:[a-z-]+ ){{0,3}}?[a-z-]+) (?P<predicate>(?:{VERB})\b.+)")
_UNCLEAR = re.compile(
    r"\b(?:it|its|they|their|them|this|these|that|those|such|latter|former|there|which|who|he|she|his|her|him|same|"
    r"where|when|while|other|another|both|more|most)\b|[\"“(:;]|\bthe (?:film|movie|song|album|book|novel|series|show|"
    r"band|team|group|game|city|town|company|war|school)\b(?! of\b)",
    re.IGNORECASE,
)
_ABBREVIATED = re.compile(r"(?:\b[A-Z]\.[A-Z]\.|\b[JS]r\.)\Z")
_DANGLING = re.compile(r"\s(?:and|or|but|of|in|on|at|to|for|with|by|from|as|the|an?|,)\Z")
_SETTLED = frozenset(("born", "known", "named", "based", "set", "used", "located", "called", "included", "divided"))
_ALONE = frozenset(("die", "retire", "resign", "open", "close", "premiere", "debut", "dissolve", "retire", "graduate"))
_NO_PLACES = frozenset(
    (*MONTHS, *DEMONYMS, "World", "War", "Battle", "Spring", "Summer", "Autumn", "Winter", "Latin", "I", "II")
)


def slot_questions(statement: Statement) -> Iterator[Candidate]:
    """All questions that the patterns find in a statement; answers are words of its sentence."""
    for question, found, rank in _found(statement):
        answer = found if _ABBREVIATED.search(found) else found.strip(" ,;.")
        answer = answer.strip('"“”') if re.fullmatch(r'["“][^"“”]*["”]?', answer) else answer
        if _fits(question, answer, statement):
            asked = question.replace("{s}", statement.subject.shown)
            rank += 2 * (len(answer.split()) > SHORT_ANSWER)
            yield Candidate(asked, answer, statement.sentence, statement.place, rank)


def _fits(question: str, answer: str, statement: Statement) -> bool:
    """Whether an answer is short, says something, and is not a part of a longer name or of a sentence cut off."""
    if not 1 <= len(answer.split()) <= LONGEST_ANSWER:
        return False
    if answer.split(" ", 1)[0] in _NO_PLACES and question.startswith("Where"):
        return False
    if answer in DEMONYMS and "nationality" not in question:
        return False
    after = statement.sentence.partition(answer)[2]
    if not after.strip() or (answer.startswith("the ") and not re.search(r"[A-Z\d]", answer)):
        return False
    ends_in_name = answer.rsplit(" ", 1)[-1][0].isupper() and "nationality" not in question
    return (
        not ends_in_name or re.match(ENDS, after.lstrip('."”')) is not None or _ABBREVIATED.search(answer) is not None
    )


def _found(statement: Statement) -> Found:
    yield from questions_of_aside(statement)
    yield from questions_of_definition(statement)
    yield from questions_of_family(statement)
    yield from _of_intro(statement)
    yield from _of_possession(statement)
    owned, predicate = _owned(statement.predicate)
    nature = Nature.OTHER if owned else statement.subject.nature
    for number, clause in enumerate(_clauses(predicate)):
        intro = statement.intro if number == 0 else ""
        for question, answer, rank in (
            *_of_patterns(clause, nature),
            *_of_passive(clause, intro),
            *_of_active(clause, intro),
        ):
            yield question.replace("{s}", f"{{s}}{owned}"), answer, rank
    yield from _of_subject(statement)


def _owned(predicate: str) -> tuple[str, str]:
    """Of "'s first bridge was built", the part that belongs to the subject and the part that is said of it."""
    match = _OWNED.match(predicate)
    return (match["owned"], match["predicate"]) if match else ("", predicate)


def _clauses(predicate: str) -> list[str]:
    """The parts of a predicate that have verbs of their own, up to where it may be about another subject."""
    turn = _TURN.search(predicate)
    parts = [part.strip() for part in _CLAUSE.split(predicate[: turn.start()] if turn else predicate) if part.strip()]
    return parts[:-1] if turn and turn[0] == " that " else parts


def _of_patterns(clause: str, nature: Nature) -> Found:
    for pattern in PATTERNS:
        match = pattern.expression.match(clause) if pattern.nature in (None, nature) else None
        if match:
            groups = {name: value or "" for name, value in match.groupdict().items()}
            base = PAST.get(clause.split()[0], "")
            question = pattern.question.replace("{base}", base).replace("{t}", groups.get("t", ""))
            yield question.replace("{n}", groups.get("n", "")), groups["a"], pattern.rank


def _of_intro(statement: Statement) -> Found:
    """What "Born in Y, X ..." tells."""
    match = re.match(rf"Born (?:[^,]*? )?in (?P<a>{PLACE})", statement.intro)
    if match and statement.subject.nature is Nature.PERSON:
        yield "Where was {s} born?", match["a"], 0
    if match := re.match(rf"Born (?:[^,]*? )?(?:on|in) (?P<a>{DATE})", statement.intro):
        yield "When was {s} born?", match["a"], 0
    if match := re.match(rf"(?P<part>Founded|Established) (?:[^,]*? )?in (?P<a>{DATE})", statement.intro):
        yield f"When was {{s}} {match['part'].lower()}?", match["a"], 0


def _of_possession(statement: Statement) -> Found:
    """What "X's capital is Y" tells."""
    match = _POSSESSED.match(statement.predicate)
    if match is None:
        return
    noun, be = match["n"], match["be"]
    is_person = noun.split()[-1] in PEOPLE_OF
    answer = re.match(
        rf"(?P<a>{PEOPLE if noun == 'parents' else PERSON}|\d[\d,.]*)(?= and | in |,|;|\(| \(|$)", match["rest"]
    )
    name = match["name"] or (answer["a"] if answer else "")
    if name:
        who = "Who" if is_person or noun == "parents" else "What"
        yield f"{who} {be} the {noun} of {{s}}?", name, 0


def _of_passive(clause: str, intro: str) -> Found:
    """When, where and by whom something was done to the subject."""
    match = _PASSIVE.match(clause)
    if match is None or match["part"].split()[-1] in _SETTLED:
        return
    be, part, rest = match["be"], match["part"], match["rest"]
    when, agent, where = _WHEN.search(rest), _AGENT.search(rest), _WHERE.match(rest)
    told = _INTRO_WHEN.match(intro)
    if when and (said := _repeatable(rest[: when.start()])) is not None:
        yield f"When {be} {{s}} {part}{said}?", when["a"], 1
    elif told and (said := _repeatable(_first_clause(rest))) is not None:
        yield f"When {be} {{s}} {part}{said}?", told["a"], 1
    if agent and part.split()[-1] in PARTICIPLES and (said := _repeatable(rest[: agent.start()])) is not None:
        past = "" if said else PARTICIPLES.get(part, "")
        yield (f"Who {past} {{s}}?" if past else f"By whom {be} {{s}} {part}{said}?"), agent["a"], 1
    if where:
        yield f"Where {be} {{s}} {part}?", where["a"], 1


def _of_active(clause: str, intro: str) -> Found:
    """When the subject did something."""
    match = _ACTIVE.match(clause)
    if match is None or match["verb"] in ("was", "had"):
        return
    base, rest = PAST[match["verb"]], match["rest"]
    when, told = _WHEN.search(rest), _INTRO_WHEN.match(intro)
    text = rest[: when.start()] if when else _first_clause(rest)
    said, date = _repeatable(text), when or told
    if date and said is not None and (said or base in _ALONE):
        yield f"When did {{s}} {base}{said}?", date["a"], 2


def _of_subject(statement: Statement) -> Found:
    """Who or what did as the predicate says, where that says enough to tell who or what is meant."""
    subject, predicate = statement.subject, _first_clause(statement.predicate)
    said = _repeatable(f" {predicate}", LONGEST_STATEMENT)
    tells = re.search(rf" (?:the )?{NAME}", predicate) and len(predicate.split()) >= FEWEST_TOLD
    if not said or not tells or re.match(r"(?:is|was|are|were) (?:an?|one)\b|'s|has ", predicate):
        return
    personal = subject.nature is Nature.PERSON or predicate.split()[0] in PERSONAL_VERBS
    if personal:
        yield f"Who{said}?", subject.name, 4
    elif not subject.is_title and subject.shown.removeprefix("the ")[0].isupper():
        yield f"Who or what{said}?", subject.name, 5


def _first_clause(text: str) -> str:
    """The text up to where it goes on about something else."""
    return re.split(
        rf",? and (?=(?:{VERB})\b)|, |; | while | when | after | before | because | although ", text, maxsplit=1
    )[0]


def _repeatable(text: str, longest: int = LONGEST_REST) -> str | None:
    """The text, if a question may repeat it: not too long, and clear without what was said before; else None."""
    if len(text.split()) > longest or _UNCLEAR.search(text) or _DANGLING.search(text):
        return None
    return text.rstrip(" ,")
