"""Questions from what a sentence says that its subject is: its makers, genre and date, its place, or its family."""

from __future__ import annotations

import re
from collections.abc import Iterator

from polyprag.augmentation.lexicon import (
    DEMONYMS,
    FAMILY,
    FUNCTION_WORDS,
    GENRES,
    MALE_TITLES,
    PERSON_NOUNS,
    PLACE_KINDS,
    PLAIN_MODIFIERS,
    WORK_KINDS,
)
from polyprag.augmentation.sentences import DATE, NAME, YEAR
from polyprag.augmentation.slot_patterns import ENDS, LED_BY, PEOPLE, PERSON, PLACE
from polyprag.augmentation.statements import Statement
from polyprag.augmentation.topics import Nature

Found = Iterator[tuple[str, str, int]]
"""Questions with `{s}` for the subject, their answers and ranks."""

_COPULA = re.compile(r"(is|was|are|were) (an?|the|one of the) (.+)")
_DAY = rf"(?:{DATE}|{YEAR})"
_DEMONYM = re.compile(rf"(?:[a-z-]+ |{YEAR} ){{0,2}}?({'|'.join(sorted(DEMONYMS, key=len, reverse=True))})(?:-born)?\b")
_KIND = "|".join(WORK_KINDS)
_WORK_HEAD = re.compile(rf"(?:(?P<year>{YEAR})\b )?(?P<before>(?:[\w-]+,? )*?)(?P<kind>{_KIND})\b(?! (?:{_KIND})\b)")
_PLACE_HEAD = re.compile(
    rf"(?:[\w-]+,? ){{0,6}}?(?:{'|'.join(PLACE_KINDS)}) (?:located |situated |lying )?(?:in|on|of) "
    rf"(?:the (?:U\.S\. )?(?:state|province|region|county|district|department) of )?(?P<a>{PLACE})"
)
_MADE = (
    "directed|written|produced|composed|created|developed|published|recorded|performed|sung|illustrated|edited|"
    "distributed"
)
_MAKER = re.compile(
    rf"\b(?P<verbs>(?:co-)?(?:{_MADE})(?:,? and (?:co-)?(?:{_MADE})|, (?:co-)?(?:{_MADE}))*) by {LED_BY}(?P<a>{PEOPLE})"
)
_PASTS = {"written": "wrote", "sung": "sang"}
_OTHER_WORK = re.compile(
    r"(?:novels?|books?|plays?|stor(?:y|ies)|series|comics?|games?|songs?|poems?|musicals?|characters?|memoirs?|"
    r"screenplay|script|articles?|libretto|same name|same title|[\"”])\s*\Z"
)
_BY = re.compile(rf" by {LED_BY}(?P<a>{PERSON}(?:,? and {PERSON})?)")
_CAST = re.compile(rf"\b(?:starring|stars) {LED_BY}(?P<a>{NAME})")
_BASIS = re.compile(r"\bbased (?:up)?on (?P<a>[^,;.]{4,60}?)(?=,|;| and | which | about |$)")
_RELEASED = re.compile(rf"\b(?P<how>released|published|issued)\b[^;.]{{0,40}}? (?:on|in) (?P<a>{DATE})")
_RELATION = re.compile(
    rf"(?:(?:is|was) )?(?:the |an? )?(?:[a-z-]+ ){{0,3}}?(?P<n>{'|'.join((*FAMILY, 'child'))}) of "
    rf"{LED_BY}(?P<a>{PERSON})(?P<more>,? and "
    rf"(?!(?:[a-z-]+ )*(?:{'|'.join(FAMILY)}) of\b)(?:his (?:\w+ )?wife,? )?{LED_BY}(?P<b>{PERSON}{ENDS}))?"
)
_OFFICE = re.compile(
    r"(?:the |an? )?(?:[a-z-]+ )*?(?P<n>capital|seat|largest city|county seat|member|author|founder|mayor|president|"
    rf"king|queen|governor|leader|director|patron saint|owner|editor|archbishop|bishop|ruler) of (?P<a>(?:the )?{NAME})"
)
_PLAIN = rf"(?!(?:{'|'.join(sorted(FUNCTION_WORDS))}|former|current|retired|noted|famous)\b)[a-z-]+ "
_PROFESSIONS = sorted(PERSON_NOUNS - {*FAMILY, "lord", "lady", "heir", "member"})
_PROFESSION = re.compile(rf"(?<![\w-])(?P<a>(?:{_PLAIN}){{0,2}}(?:{'|'.join(_PROFESSIONS)}))(?![\w-])")
_LIFE = re.compile(
    rf"(?P<born>{_DAY})\b(?:, ?(?:in )?(?P<where>{PLACE}))? ?[-–—−] ?(?:c\. )?(?P<died>{_DAY})\b"
    rf"(?:, ?(?:in )?(?P<end>{PLACE}))?"
)


def questions_of_definition(statement: Statement) -> Found:
    """What "X is a ..." tells."""
    match = _COPULA.match(statement.predicate)
    if match is None:
        return
    verb, article, rest = match.groups()
    nature = statement.subject.nature
    if nature is Nature.PERSON:
        yield from _of_person(verb, rest)
    elif nature is Nature.WORK and article != "the":
        yield from _of_work(rest)
    elif match := _PLACE_HEAD.match(rest):
        yield "Where is {s}?", match["a"], 0
    if match := _OFFICE.match(rest):
        article = "a " if match["n"] in ("member", "patron saint") else "the "
        yield f"What {verb} {{s}} {article}{match['n']} of?", match["a"], 1


def questions_of_aside(statement: Statement) -> Found:
    """What the brackets behind a person's name tell: birth and death."""
    aside = statement.aside
    life = _LIFE.match(aside)
    if life and statement.subject.nature is Nature.PERSON:
        yield "When was {s} born?", life["born"], 0
        yield "When did {s} die?", life["died"], 0
        if life["where"]:
            yield "Where was {s} born?", life["where"], 0
        if life["end"]:
            yield "Where did {s} die?", life["end"], 0
    born = re.search(rf"\bborn (?:[A-Z][^,;()\d]*?[,;]? )?(?:on |in )?(?P<a>{_DAY})\b", aside)
    if born:
        yield "When was {s} born?", born["a"], 0
    if born_in := re.search(rf"\bborn\b[^;()]*? in (?P<a>{PLACE})", aside):
        yield "Where was {s} born?", born_in["a"], 0
    if died := re.search(rf"\bdied (?:on |in )?(?P<a>{_DAY})\b", aside):
        yield "When did {s} die?", died["a"], 0


def questions_of_family(statement: Statement) -> Found:
    """Parents and other relations, where the predicate says that the subject is one's child, brother and so on."""
    if statement.subject.nature is not Nature.PERSON:
        return
    apposition = re.search(
        r"\bborn\b[^;]*?, ((?:the )?(?:[a-z-]+ ){0,3}(?:son|daughter|child) of .+)", statement.predicate
    )
    match = _RELATION.match(apposition[1] if apposition else statement.predicate)
    if match is None:
        return
    relation, of, other = match["n"], match["a"], match["b"]
    if relation in ("son", "daughter", "child"):
        if other:
            yield "Who were the parents of {s}?", f"{of}{match['more']}", 1
            yield "Who was the mother of {s}?", other, 1
        father = other or of.split()[0] in MALE_TITLES
        yield ("Who was the father of {s}?" if father else "Whose child was {s}?"), of, 0
    elif relation in ("wife", "husband", "spouse"):
        yield "Who was {s} married to?", of, 0
    elif not other:
        yield f"Who was {{s}} the {relation} of?", of, 0


def _of_person(verb: str, rest: str) -> Found:
    if match := _DEMONYM.match(rest):
        yield f"What {verb} the nationality of {{s}}?", match[1], 1
        rest = rest[match.end() :]
    clause = re.split(r" (?:who|which|that|best|known|from|of|in|for)\b|[;(.]", rest, maxsplit=1)[0]
    if match := _PROFESSION.search(clause):
        yield f"What {verb} the profession of {{s}}?", match["a"], 2


def _of_work(rest: str) -> Found:
    match = _WORK_HEAD.match(rest)
    if match is None:
        return
    kind, after = match["kind"], rest[match.end() :]
    literary = kind in ("novel", "novella", "book", "poem", "comic", "manga", "play")
    if match["year"]:
        yield f"When was {{s}} {'published' if literary else 'released'}?", match["year"], 1
    before = match["before"].strip()
    if demonym := _DEMONYM.match(before):
        before = before[demonym.end() :].strip()
    if kind in GENRES:
        before = f"{before} {kind}".strip()
    modifiers = before.split()
    if modifiers and all(word.islower() for word in modifiers) and not PLAIN_MODIFIERS.intersection(modifiers):
        yield "What genre is {s}?", before, 3
    if by := _BY.match(after):
        verb = (
            "wrote"
            if literary
            else "composed"
            if kind == "opera"
            else "recorded"
            if kind in ("song", "single", "album", "EP")
            else "made"
        )
        yield f"Who {verb} {{s}}?", by["a"], 0
    for maker in _MAKER.finditer(after):
        if not _OTHER_WORK.search(after[: maker.start()]):
            for made in re.findall(rf"(?:co-)?(?:{_MADE})", maker["verbs"]):
                plain = made.removeprefix("co-")
                yield f"Who {made[: -len(plain)]}{_PASTS.get(plain, plain)} {{s}}?", maker["a"], 0
    if cast := _CAST.search(after):
        yield "Who stars in {s}?", cast["a"], 1
    if basis := _BASIS.search(after):
        yield "What is {s} based on?", basis["a"], 1
    if released := _RELEASED.search(after):
        yield f"When was {{s}} {released['how']}?", released["a"], 1
