"""Answered and scored questions, one `Answer` a line of answers.jsonl."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from polyprag.config import MethodName
from polyprag.errors import DataError
from polyprag.methods.workbench import STEPS, Answered, Confidence
from polyprag.metrics import Scores, score
from polyprag.records import Question

_SCORE_KEYS = ("f1", "em", "contains", "prag_f1")


@dataclass(frozen=True)
class Answer:
    """One answered and scored question: a line of answers.jsonl.

    Attributes:
        method: name of the method that answered.
        question_id: unique within the question set.
        question: the question, as plain text.
        type: the question type; empty when the set has none.
        gold: all accepted answers.
        prediction: the answer that is scored.
        raw_prediction: what the model generated, before clean-up.
        scores: of the prediction.
        retrieved: ids of the passages used, best first.
        top_experts: (expert index, mean gate over the routed groups), largest first; empty without experts.
        prompt_tokens: tokens of the prompt; of all prompts where a method writes several.
        new_tokens: tokens of the answer as generated.
        seconds: by step, exactly the keys of `STEPS`; a batch's time is shared equally by its questions.
        own_first: whether the first of `retrieved` is a gold passage; None where either is unknown.
        confidence: of the routing, by the names of `Confidence`; None for methods without one.
        retrievals: times that the index was searched for the question; None in lines that do not tell.
        generated_tokens: all tokens generated, those discarded as well; None in lines that do not tell.
        first_token_seconds: from the beginning of its batch to the first generated token, see `Answered`; None in lines
            that do not tell.
        peak_memory_bytes: the most memory in use while its batch was answered, see `polyprag.evaluation.memory`; None
            where that is not known.
    """

    method: str
    question_id: str
    question: str
    type: str
    gold: tuple[str, ...]
    prediction: str
    raw_prediction: str
    scores: Scores
    retrieved: tuple[str, ...]
    top_experts: tuple[tuple[int, float], ...]
    prompt_tokens: int
    new_tokens: int
    seconds: dict[str, float]
    own_first: bool | None = None
    confidence: Confidence | None = None
    retrievals: int | None = None
    generated_tokens: int | None = None
    first_token_seconds: float | None = None
    peak_memory_bytes: int | None = None

    @property
    def total_seconds(self) -> float:
        """Sum over the steps."""
        return sum(self.seconds.values())


def scored_answer(name: MethodName, question: Question, answered: Answered, peak_memory_bytes: int | None) -> Answer:
    """A method's answer to a question, scored against all gold answers.

    Args:
        name: of the method.
        question: with its gold answers.
        answered: what the method gave.
        peak_memory_bytes: the most memory in use while its batch was answered; None where that is not known.
    """
    own_first = None
    if answered.retrieved and question.passage_ids:
        own_first = answered.retrieved[0] in question.passage_ids
    return Answer(
        method=name.value,
        question_id=question.id,
        question=question.text,
        type=question.type,
        gold=question.answers,
        prediction=answered.generated.text,
        raw_prediction=answered.generated.raw,
        scores=score(answered.generated.text, question.answers),
        retrieved=answered.retrieved,
        top_experts=answered.top_experts,
        prompt_tokens=answered.prompt_tokens,
        new_tokens=answered.generated.new_tokens,
        seconds=answered.seconds,
        own_first=own_first,
        confidence=answered.confidence,
        retrievals=answered.retrievals,
        generated_tokens=answered.generated_tokens,
        first_token_seconds=answered.first_token_seconds,
        peak_memory_bytes=peak_memory_bytes,
    )


def answer_to_json(answer: Answer) -> str:
    """The answer as one line of JSON, without the newline; `answer_from_json` gives the same answer back.

    Raises:
        ValueError: a number is not finite.
    """
    line = json.dumps(asdict(answer), ensure_ascii=False, allow_nan=False)
    # A lone surrogate, which UTF-8 cannot hold, becomes \udxxx: that is JSON's own escape for it.
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def answer_from_json(line: str, where: str) -> Answer:
    """Read one line of answers.jsonl.

    Args:
        line: the line, with or without its newline.
        where: file:line, for the message of an error.

    Raises:
        DataError: the line is no JSON object, a key is missing, or a value has the wrong type or range.
    """
    row = _parse(line, where)
    scores, seconds = _take(row, "scores", _OBJECT, where), _take(row, "seconds", _OBJECT, where)
    return Answer(
        method=_take(row, "method", _TEXT, where),
        question_id=_take(row, "question_id", _TEXT, where),
        question=_take(row, "question", _TEXT, where),
        type=_take(row, "type", _TEXT, where),
        gold=tuple(_take(row, "gold", _TEXTS, where)),
        prediction=_take(row, "prediction", _TEXT, where),
        raw_prediction=_take(row, "raw_prediction", _TEXT, where),
        scores=Scores(**{key: float(_take(scores, key, _SCORE, where)) for key in _SCORE_KEYS}),
        retrieved=tuple(_take(row, "retrieved", _TEXTS, where)),
        top_experts=tuple((expert, float(weight)) for expert, weight in _take(row, "top_experts", _EXPERTS, where)),
        prompt_tokens=_take(row, "prompt_tokens", _COUNT, where),
        new_tokens=_take(row, "new_tokens", _COUNT, where),
        seconds={key: float(_take(seconds, key, _AMOUNT, where)) for key in STEPS},
        own_first=_take({"own_first": None, **row}, "own_first", _MAYBE, where),
        confidence=_confidence({"confidence": None, **row}, where),
        retrievals=_take({"retrievals": None, **row}, "retrievals", _MAYBE_COUNT, where),
        generated_tokens=_take({"generated_tokens": None, **row}, "generated_tokens", _MAYBE_COUNT, where),
        first_token_seconds=_take({"first_token_seconds": None, **row}, "first_token_seconds", _MAYBE_AMOUNT, where),
        peak_memory_bytes=_take({"peak_memory_bytes": None, **row}, "peak_memory_bytes", _MAYBE_COUNT, where),
    )


def by_question(answers: Iterable[Answer]) -> dict[str, Answer]:
    """A method's answers by question id, in their order.

    Raises:
        DataError: a question is answered twice.
    """
    found: dict[str, Answer] = {}
    for answer in answers:
        if answer.question_id in found:
            raise DataError(
                f"answers.jsonl: {answer.method} answers question {answer.question_id!r} twice; delete one of the lines"
            )
        found[answer.question_id] = answer
    return found


def _confidence(row: dict[str, Any], where: str) -> Confidence | None:
    found = _take(row, "confidence", _MAYBE_OBJECT, where)
    if found is None:
        return None
    entropy, margin = (float(_take(found, key, _NUMBER, where)) for key in ("entropy", "margin"))
    return Confidence(entropy, margin, bool(_take(found, "abstained", _MAYBE, where)))


def _is_number(value: Any) -> bool:
    # The bounds also turn away NaN, infinities and integers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(accepts(item) for item in value)


def _is_expert(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_count(value[0]) and _is_number(value[1])


class _Kind(NamedTuple):
    """What a value of answers.jsonl must be, as a test and in words."""

    accepts: Callable[[Any], bool]
    name: str


_NUMBER = _Kind(_is_number, "a number")
_MAYBE = _Kind(lambda value: value is None or isinstance(value, bool), "true, false or null")
_MAYBE_OBJECT = _Kind(lambda value: value is None or isinstance(value, dict), "an object or null")
_TEXT = _Kind(lambda value: isinstance(value, str), "a text")
_TEXTS = _Kind(_is_list_of(_TEXT.accepts), "a list of texts")
_OBJECT = _Kind(lambda value: isinstance(value, dict), "an object")
_COUNT = _Kind(_is_count, "a whole number from 0")
_MAYBE_COUNT = _Kind(lambda value: value is None or _is_count(value), "a whole number from 0 or null")
_AMOUNT = _Kind(lambda value: _is_number(value) and value >= 0, "a number from 0")
_MAYBE_AMOUNT = _Kind(lambda value: value is None or _AMOUNT.accepts(value), "a number from 0 or null")
_SCORE = _Kind(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
_EXPERTS = _Kind(_is_list_of(_is_expert), "a list of [expert, weight]")

_REMEDY = "delete the line and its question is answered again"


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: broken JSON ({error}); {_REMEDY}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, not {_short(row)}; {_REMEDY}")
    return row


def _take(row: dict[str, Any], key: str, kind: _Kind, where: str) -> Any:
    if key not in row:
        raise DataError(f"{where}: key {key!r} is missing; {_REMEDY}")
    if not kind.accepts(row[key]):
        raise DataError(f"{where}: {key!r} must be {kind.name}, not {_short(row[key])}; {_REMEDY}")
    return row[key]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
