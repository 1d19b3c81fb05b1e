"""The typed results of an evaluation: one `Answer` a line of answers.jsonl, one `Results` a results.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np

from polyprag.errors import DataError
from polyprag.evaluation.statistics import Values, bootstrap_ci, paired_difference
from polyprag.methods.workbench import Confidence
from polyprag.metrics import Scores

SCHEMA = 1
STEPS = ("retrieve", "route", "load_merge", "generate")
UNTYPED = "untyped"  # where a set has types, the questions that carry none

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
        prompt_tokens: tokens of the prompt.
        new_tokens: tokens generated.
        seconds: by step, exactly the keys of `STEPS`; a batch's time is shared equally by its questions.
        own_first: whether the first of `retrieved` is a gold passage; None where either is unknown.
        confidence: of the routing, by the names of `Confidence`; None for methods without one.
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

    @property
    def total_seconds(self) -> float:
        """Sum over the steps."""
        return sum(self.seconds.values())


class TypeResult(TypedDict):
    """Means over the questions of one type, with the 95 % interval of F1.

    `own_first` is the share of questions whose first chosen passage is a gold one, where that is known.
    """

    n: int
    f1: float
    em: float
    contains: float
    f1_ci95: list[float]
    own_first: NotRequired[float]


class MethodResult(TypedDict):
    """What a method achieved and what it cost, in means per question."""

    n: int
    f1: float
    em: float
    contains: float
    prag_f1: float
    f1_ci95: list[float]
    own_first: NotRequired[float]
    abstained: NotRequired[float]
    by_type: NotRequired[dict[str, TypeResult]]
    seconds_per_question: dict[str, float]
    prompt_tokens: float
    new_tokens: float
    bytes_per_passage: float
    train_seconds: float
    choice: dict[str, Any]


class Difference(TypedDict):
    """Mean F1 of method `a` minus that of `b` over the questions both answered."""

    a: str
    b: str
    mean: float
    ci95: list[float]
    p: float


class Results(TypedDict):
    """results.json as a whole."""

    schema: int
    run: dict[str, Any]
    data: dict[str, Any]
    methods: dict[str, MethodResult]
    differences: list[Difference]


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
    )


def _confidence(row: dict[str, Any], where: str) -> Confidence | None:
    found = _take(row, "confidence", _MAYBE_OBJECT, where)
    if found is None:
        return None
    entropy, margin = (float(_take(found, key, _NUMBER, where)) for key in ("entropy", "margin"))
    return Confidence(entropy, margin, bool(_take(found, "abstained", _MAYBE, where)))


def summarise(
    answers: Sequence[Answer],
    resamples: int,
    seed: int,
    bytes_per_passage: float,
    train_seconds: float,
    choice: Mapping[str, Any],
) -> MethodResult:
    """Condense one method's answers to its entry in results.json.

    Args:
        answers: of one method, each question once, at least one.
        resamples: bootstrap resamples behind each interval.
        seed: of the bootstrap.
        bytes_per_passage: storage that the method needs for each passage.
        train_seconds: what training the method took.
        choice: the settings chosen on validation questions, with what was tried under "tried".

    Returns:
        The entry; "by_type" is there only when the questions have types.

    Raises:
        ValueError: no answers.
        DataError: a question is answered twice.
    """
    if not answers:
        raise ValueError("there is nothing to summarise without answers")
    _by_question(answers)
    overall = _means(answers, resamples, seed)
    result = MethodResult(
        n=overall["n"],
        f1=overall["f1"],
        em=overall["em"],
        contains=overall["contains"],
        prag_f1=_mean(answer.scores.prag_f1 for answer in answers),
        f1_ci95=overall["f1_ci95"],
        seconds_per_question=_seconds(answers),
        prompt_tokens=_mean(answer.prompt_tokens for answer in answers),
        new_tokens=_mean(answer.new_tokens for answer in answers),
        bytes_per_passage=bytes_per_passage,
        train_seconds=train_seconds,
        choice=dict(choice),
    )
    if "own_first" in overall:
        result["own_first"] = overall["own_first"]
    routed = [answer.confidence for answer in answers if answer.confidence is not None]
    if routed:
        result["abstained"] = _mean(confidence.abstained for confidence in routed)
    groups = _by_type(answers)
    if groups:
        result["by_type"] = {name: _means(groups[name], resamples, seed) for name in sorted(groups)}
    return result


def differences(
    answers_by_method: Mapping[str, Sequence[Answer]], pairs: Iterable[tuple[str, str]], resamples: int, seed: int
) -> list[Difference]:
    """Paired F1 differences over the questions that both methods of a pair answered.

    Args:
        answers_by_method: each method's answers, each question once.
        pairs: methods (a, b) to compare; a pair that shares no question is left out.
        resamples: bootstrap resamples behind each interval.
        seed: of the bootstrap.

    Raises:
        DataError: a method answered a question twice.
    """
    indexed = {method: _by_question(answers) for method, answers in answers_by_method.items()}
    found = []
    for a, b in pairs:
        ours, theirs = indexed.get(a, {}), indexed.get(b, {})
        shared = [question for question in ours if question in theirs]
        if shared:
            pair = paired_difference(_f1(ours[q] for q in shared), _f1(theirs[q] for q in shared), resamples, seed)
            found.append(Difference(a=a, b=b, mean=pair.mean, ci95=[pair.low, pair.high], p=pair.p_value))
    return found


def merge_results(
    existing: Results | None,
    run: Mapping[str, Any],
    data: Mapping[str, Any],
    methods: Mapping[str, MethodResult],
    comparisons: Iterable[Difference],
) -> Results:
    """Add one call's results to those of earlier calls on the same data.

    Args:
        existing: results.json as it stands; None when there is none.
        run: what this call says about the run; replaces what stands.
        data: what this call says about the data, with its fingerprint under "sha256".
        methods: this call's methods; each replaces an earlier entry of that name.
        comparisons: this call's differences; earlier ones stay unless a method of theirs has run again.

    Raises:
        DataError: the existing results have another schema or belong to other data.
    """
    if existing is not None:
        _check_same_data(existing, data)
    earlier = existing["methods"] if existing is not None else {}
    fresh = list(comparisons)
    compared = {frozenset((entry["a"], entry["b"])) for entry in fresh}
    kept = [
        entry
        for entry in (existing["differences"] if existing is not None else [])
        if methods.keys().isdisjoint((entry["a"], entry["b"])) and frozenset((entry["a"], entry["b"])) not in compared
    ]
    return Results(
        schema=SCHEMA, run=dict(run), data=dict(data), methods={**earlier, **methods}, differences=kept + fresh
    )


def without_methods(results: Results, names: Collection[str]) -> Results:
    """The results but for some methods and what they were compared with."""
    kept: Results = {**results}
    kept["methods"] = {name: result for name, result in results.get("methods", {}).items() if name not in names}
    kept["differences"] = [
        entry for entry in results.get("differences", []) if entry["a"] not in names and entry["b"] not in names
    ]
    return kept


def _check_same_data(existing: Results, data: Mapping[str, Any]) -> None:
    """Refuse results that cannot be put into one table with this call's."""
    remedy = "use another run.dir, or move the old evaluation folder away"
    missing = [key for key in Results.__annotations__ if key not in existing]
    if missing or existing["schema"] != SCHEMA:
        found = f"key {missing[0]!r} is missing" if missing else f"schema is {existing['schema']!r}"
        raise DataError(f"results.json: {found}, expected schema {SCHEMA} with all its keys; {remedy}")
    before, now = existing["data"].get("sha256"), data["sha256"]
    if before != now:
        raise DataError(f"results.json: data.sha256 is {before!r}, but these results are on {now!r}; {remedy}")


def _means(answers: Sequence[Answer], resamples: int, seed: int) -> TypeResult:
    f1_N = _f1(answers)
    result = TypeResult(
        n=len(answers),
        f1=_mean(f1_N),
        em=_mean(answer.scores.em for answer in answers),
        contains=_mean(answer.scores.contains for answer in answers),
        f1_ci95=list(bootstrap_ci(f1_N, resamples, seed)),
    )
    known = [answer.own_first for answer in answers if answer.own_first is not None]
    if known:
        result["own_first"] = _mean(known)
    return result


def _seconds(answers: Sequence[Answer]) -> dict[str, float]:
    steps = {step: _mean(answer.seconds[step] for answer in answers) for step in STEPS}
    return {"total": sum(steps.values()), **steps}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _f1(answers: Iterable[Answer]) -> Values:
    return np.array([answer.scores.f1 for answer in answers], dtype=np.float64)


def _by_question(answers: Iterable[Answer]) -> dict[str, Answer]:
    """Answers by question id."""
    found: dict[str, Answer] = {}
    for answer in answers:
        if answer.question_id in found:
            raise DataError(
                f"answers.jsonl: {answer.method} answers question {answer.question_id!r} twice; delete one of the lines"
            )
        found[answer.question_id] = answer
    return found


def _by_type(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Answers by question type; empty when no question has one."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.type or UNTYPED, []).append(answer)
    return {} if groups.keys() == {UNTYPED} else groups


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
_AMOUNT = _Kind(lambda value: _is_number(value) and value >= 0, "a number from 0")
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
