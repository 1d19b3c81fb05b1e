"""From a language model's reply to a rewrite or to question-answer pairs, tolerant of how models really answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from polyprag.errors import PolyPragError
from polyprag.records import QAPair

Item = Mapping[str, object]


class ReplyError(PolyPragError):
    """A reply that nothing can be made of.

    Args:
        reason: a short phrase, by which such replies are counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_QUESTION = ("question", "q", "query")
_ANSWER = ("answer", "short_answer", "shortanswer", "a", "ans")
_FULL = ("full_answer", "fullanswer", "long_answer", "complete_answer", "explanation")
_REWRITE = ("rewrite", "rewritten_passage", "rewritten_text", "rewritten", "passage", "text", "content")
_KINDS = {name: names[0] for names in (_QUESTION, _ANSWER, _FULL) for name in names}

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_HTML = re.compile(r"\s*(?:<\?xml|<!doctype html|<html\b|<head\b|<body\b)", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]m |i am )?(?:very )?sorry\b|i (?:can['’]?t|cannot|can not|won['’]?t|am unable|am not able)\b|"
    r"i['’]m (?:unable|not able)\b|as an ai\b|unfortunately, i\b|please provide\b)",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"[{\[]")
_NAMES = "|".join(sorted((name.replace("_", "[_ ]?") for name in _KINDS), key=len, reverse=True))
_QUOTED_KEY = re.compile(rf"(?:[\"'“”‘’]({_NAMES})\s?\d*[\"'“”‘’]|(?<=[{{,\s])({_NAMES}))\s*:\s*", re.IGNORECASE)
_QUOTED_VALUE = re.compile(
    r"(?:[\"“”]((?:\\.|[^\\])*?)[\"“”]|['‘’]((?:\\.|[^\\])*?)['‘’]|([\d.]+))\s*(?:[,}\]\n]|\Z|(?=[\"“”'‘’]\w))",
    re.DOTALL,
)
_LABEL = re.compile(
    rf"(?:^[\s\d.)(*#>•-]*|(?<=[\s*]))({_NAMES})[ ]?#?\d*[ *_]*[:：][ *_]*", re.IGNORECASE | re.MULTILINE
)
_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|[*•-])\s+([^\n?]+\?)[\s*]*[-–—:→]*\s*([^\n]*[^\n?\s])[ \t]*$", re.MULTILINE)
_PREFACE = re.compile(
    r"\A\W*(?:(?:sure|certainly|of course|okay|ok|here|below)\b[^\n]{0,200}:\**\s*\n|"
    r"(?:sure|certainly|of course|okay|ok|here|below)\b[^\n:]{0,80}\b(?:rewr|version|paraphras)[^\n:]{0,80}:\**|"
    r"(?:rewrite|(?:rewritten|revised|paraphrased)(?: passage| text| version)?)\**\s*(?::|\n)\**)\s*",
    re.IGNORECASE,
)
_TITLE = re.compile(r"\A\W*title\**:[^\n]*\n+(?:\W*(?:passage|text)\**:)?\s*", re.IGNORECASE)
_REMARKS = re.compile(
    r"\n\s*\W*(?:note\b|let me know\b|i hope\b|i['’]ve\b|i have\b|this (?:rewrit|revis|version)|please\b).*\Z",
    re.IGNORECASE | re.DOTALL,
)


def parse_rewrite(text: str) -> str:
    """The rewrite that a reply holds, on one line, without code fences, labels, a preface or closing remarks.

    Raises:
        ReplyError: the reply is empty, a page of HTML or a refusal.
    """
    reply = checked_reply(text)
    found = next((value for item in json_objects(reply) if (value := _value(item, _REWRITE))), "")
    rewrite = found or _clean(_without_remarks(_unfenced(reply)))
    if not re.search(r"\w", rewrite):
        raise ReplyError("empty")
    if _REFUSAL.match(rewrite):
        raise ReplyError("refusal")
    return rewrite


def parse_pairs(text: str) -> list[QAPair]:
    """The complete question-answer pairs that a reply holds, in its order; what is cut off or incomplete is left out.

    JSON is read in whatever wrapping it comes: fences, prose around it, a list, a single object, below any key. JSON
    that is broken (commas missing or too many, typographic quotes, no end) is read key by key, and a reply without
    JSON by its labels ("Question: ... Answer: ..."), or as numbered questions with the answer after the question mark.

    Raises:
        ReplyError: the reply is empty, a page of HTML or a refusal, or holds no complete pair.
    """
    reply = checked_reply(text)
    pairs = max(_pairs(json_objects(reply)), _pairs(_broken_objects(reply)), key=len)
    pairs = pairs or _pairs(_labelled(reply)) or _pairs(_numbered(reply))
    if not pairs:
        raise ReplyError("refusal" if _REFUSAL.match(reply) else "no question-answer pairs")
    return pairs


def checked_reply(text: str) -> str:
    """The reply without a reasoning model's thoughts and without characters that are no text.

    Raises:
        ReplyError: nothing is left, or it is a page of HTML.
    """
    reply = _UNPRINTABLE.sub(" ", _THINKING.sub("", text.replace("\r\n", "\n"))).strip()
    if not reply:
        raise ReplyError("empty")
    if _HTML.match(reply):
        raise ReplyError("HTML")
    return reply


def _pairs(items: Iterable[Item]) -> list[QAPair]:
    """The items that have both a question and an answer, without repeats."""
    found = (QAPair(_value(item, _QUESTION), _value(item, _ANSWER), _value(item, _FULL)) for item in items)
    return list(dict.fromkeys(pair for pair in found if pair.question and pair.answer))


def _value(item: Item, names: Iterable[str]) -> str:
    """The text under the first of some keys that has one; numbers, truth values and lists become text."""
    values = {re.sub(r"[\W_]+", "_", key.strip().lower()).rstrip("_0123456789"): value for key, value in item.items()}
    texts = (_clean(_shown(values.get(name))) for name in names)
    return next((text for text in texts if text), "")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(text for item in value if (text := _shown(item)))
    return str(value) if isinstance(value, str | int | float) else ""


def _clean(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def json_objects(reply: str) -> Iterator[Item]:
    """All objects, outer ones first, of the JSON values in a reply; brackets that begin none are passed over."""
    decoder = json.JSONDecoder(strict=False)
    place = 0
    while match := _BRACKET.search(reply, place):
        try:
            value, place = decoder.raw_decode(reply, match.start())
        except ValueError:
            place = match.end()
            continue
        except RecursionError:
            rest = reply[match.start() :]
            place = len(reply) - len(rest.lstrip("[{ \n\t"))
            continue
        stack: list[object] = [value]
        while stack:
            inner = stack.pop()
            if isinstance(inner, dict):
                yield inner
                stack += reversed(inner.values())
            elif isinstance(inner, list):
                stack += reversed(inner)


def _broken_objects(reply: str) -> Iterator[Item]:
    """Objects put together from the quoted keys and values of JSON that does not parse."""

    def fields() -> Iterator[tuple[str, str, bool]]:
        """Each key with its value, and whether an object ends behind it."""
        for key, segment in _segments(_QUOTED_KEY, reply):
            match = _QUOTED_VALUE.match(segment)
            value = next(filter(None, match.groups()), "") if match else ""
            ends = "}" in segment[match.end() - 1 if match else 0 :]
            yield key[1] or key[2], value.replace('\\"', '"').replace("\\n", " "), ends

    return _grouped(fields())


def _labelled(reply: str) -> Iterator[Item]:
    """Objects put together from lines such as "Question: ...", in which labels may also follow each other."""

    def fields() -> Iterator[tuple[str, str, bool]]:
        for label, segment in _segments(_LABEL, reply):
            yield label[1], segment.strip().split("\n")[0].strip(' \t*_|"'), False

    return _grouped(fields())


def _segments(pattern: re.Pattern[str], text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Every match of a pattern with the text from there to the next match."""
    matches = list(pattern.finditer(text))
    ends = [*(match.start() for match in matches[1:]), len(text)]
    for match, end in zip(matches, ends[: len(matches)], strict=True):
        yield match, text[match.end() : end]


def _grouped(fields: Iterable[tuple[str, str, bool]]) -> Iterator[Item]:
    """Gather fields (key, value, whether its object ends) to objects: the first kind of key begins each of them."""
    first, current = "", dict[str, str]()
    for key, value, ends in fields:
        kind = _KINDS[re.sub(r"\s", "_", key.lower())]
        first = first or kind
        if kind == first or kind in current:
            yield current
            current = {}
        current[kind] = value
        if ends:
            yield current
            current = {}
    yield current


def _numbered(reply: str) -> Iterator[Item]:
    """Numbered or bulleted questions with the answer behind the question mark or on the next line."""
    for match in _NUMBERED.finditer(reply):
        yield {"question": match[1].strip(" *_"), "answer": match[2].strip(" *_-–•|")}


def _unfenced(reply: str) -> str:
    """What stands in a code fence, if that is most of the reply; else all of it."""
    fenced = _FENCED.search(reply)
    return fenced[1] if fenced and len(fenced[1]) > len(reply) / 2 else reply


def _without_remarks(reply: str) -> str:
    body = _REMARKS.sub("", _TITLE.sub("", _PREFACE.sub("", reply.strip(), count=1), count=1)).strip()
    quoted = len(body) > 1 and body[0] in '"“' and body[-1] in '"”' and not re.search(r"[\"“”]", body[1:-1])
    return body[1:-1] if quoted else body
