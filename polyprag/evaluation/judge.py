"""A language model as a judge: is an answer correct, given the question and the accepted answers?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from rich.console import Console
from rich.progress import track

from polyprag.augmentation.parsing import ReplyError, checked_reply, json_objects
from polyprag.augmentation.report import Usage
from polyprag.chat.answers import Completion
from polyprag.chat.asker import Asker
from polyprag.chat.prompts import Message, read_prompt
from polyprag.chat.replies import ReplyCache
from polyprag.chat.settings import ServerSettings
from polyprag.config import EvaluationConfig, OnBadRow, Structured
from polyprag.errors import DataError
from polyprag.evaluation.answers import Answer
from polyprag.evaluation.statistics import bootstrap_ci
from polyprag.files import cache_folder

OWN_PROMPT = Path(__file__).parent / "prompts" / "judge.md"
PLACEHOLDERS = {"question", "gold", "answer"}
WORDS = {"correct": True, "incorrect": False}
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": list(WORDS)}},
    "required": ["verdict"],
    "additionalProperties": False,
}
"""What a verdict looks like, as JSON Schema."""
GIVE_UP_AFTER = 10
"""Failures in a row after which judging is given up where no failure may pass."""
_SECTION = "evaluation.judge_"
_AROUND = re.compile(r"^[\W_]+|[\W_]+$")


class Judged(TypedDict):
    """What a judge's verdicts on a method's answers come to, as results hold it.

    `judge` is the share of the `judge_n` answers with a verdict that are judged correct, `judge_agreement` the share of
    them on which verdict and exact match are the same, and `judge_by` the judge's model and prompt.
    """

    judge: NotRequired[float]
    judge_ci95: NotRequired[list[float]]
    judge_n: NotRequired[int]
    judge_agreement: NotRequired[float]
    judge_by: NotRequired[str]


@dataclass(frozen=True)
class Case:
    """A request for a verdict.

    Attributes:
        key: tells it from all others, also in later runs.
        messages: the chat.
        question: the question, for errors and for people who read the cache.
    """

    key: str
    messages: tuple[Message, ...]
    question: str


class Judge:
    """Asks a server for verdicts, and keeps them for all runs; equal cases are asked for once.

    Args:
        config: the evaluation section; `judge` names the model.
        console: where progress goes.

    Raises:
        DataError: the prompt file cannot be used.
        OSError: the cache cannot be read.
    """

    def __init__(self, config: EvaluationConfig, console: Console) -> None:
        self.config, self.console = config, console
        self.prompt = read_prompt(Path(config.judge_prompt or OWN_PROMPT), PLACEHOLDERS, set())
        folder = Path(config.judge_cache) if config.judge_cache else cache_folder() / "verdicts"
        self.cache = ReplyCache(folder, config.judge)

    @property
    def name(self) -> str:
        """The model's name and the prompt's version."""
        return f"{self.config.judge}, {self.prompt.version}"

    def verdicts(self, answers: Sequence[Answer]) -> list[bool | None]:
        """Whether each answer is correct; an empty one never is, and nobody is asked about it.

        Returns:
            A verdict for each answer; None where there is none, which only `evaluation.judge_on_failure=skip` allows.

        Raises:
            ConfigError: the server refuses all requests, or the key cannot be sent.
            DataError: verdicts could not be had; all others are kept.
            ModelError: the server cannot be reached, is lost, or asks for too long a pause.
        """
        cases = [self.case(answer) for answer in answers]
        different = {case.key: case for case in cases if case is not None}
        missing = {key: case for key, case in different.items() if self._known(key) is None}
        before = len(different) - len(missing)
        if missing:
            self._ask(missing, before > 0)
        if different:
            self.console.print(
                f"judge: {len(answers):,} answers, {len(different):,} different, {before:,} judged before"
            )
        return [False if case is None else self._known(case.key) for case in cases]

    def case(self, answer: Answer) -> Case | None:
        """What is asked about an answer; None where it is empty."""
        if not answer.prediction.strip():
            return None
        values = {"question": answer.question, "gold": list(answer.gold), "answer": answer.prediction}
        shown = {name: _as_json(value) for name, value in values.items()}
        messages = self.prompt.messages(**shown)
        asked = [messages, self.config.judge, self.prompt.version, self.config.judge_max_tokens]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return Case(key, tuple(messages), _storable(answer.question))

    def _known(self, key: str) -> bool | None:
        """The verdict that the cache holds."""
        reply = self.cache.get(key)
        try:
            return None if reply is None else read_verdict(reply.text)
        except ReplyError:
            return None

    def _ask(self, missing: dict[str, Case], some_known: bool) -> None:
        """Have verdicts given that are not yet known; each is on the disk before the next one is waited for."""
        asker = Asker[Case](_settings(self.config), lambda case: SCHEMA, _fault)
        usage, failures, in_a_row = Usage(), dict[str, tuple[str, str]](), 0
        fails = self.config.judge_on_failure is OnBadRow.FAIL
        with closing(asker.ask(missing.values())) as replies:
            shown = f"{self.config.judge} judges"
            for reply in track(replies, shown, len(missing), console=self.console, transient=True):
                usage.add(reply)
                question = missing[reply.key].question
                if reply.failure:
                    failures[reply.key] = (question, reply.failure)
                    in_a_row += 1
                else:
                    in_a_row = 0
                    self.cache.add(reply, {"kind": "verdict", "question": question})
                if in_a_row == GIVE_UP_AFTER and fails:
                    break
        self.console.print(f"judge: {usage.prompt_tokens:,} tokens in, {usage.reply_tokens:,} out")
        if failures and (fails or (len(failures) == len(missing) and not some_known)):
            first, reason = next(iter(failures.values()))
            raise DataError(
                f"evaluation.judge: {len(failures):,} of {usage.replies:,} verdicts could not be had, the first on "
                f"{first!r}: {reason}; all others and all answers are kept: run again to ask for these, or set "
                "evaluation.judge_on_failure=skip"
            )


def read_verdict(text: str) -> bool:
    """The verdict of a reply: an object {"verdict": …}, in whatever wrapping, or nothing but the word.

    Args:
        text: the reply; a reasoning model's thoughts in <think> do not count.

    Raises:
        ReplyError: there is no verdict, or there are several.
    """
    reply = checked_reply(text)
    said = {_word(item["verdict"]) for item in json_objects(reply) if "verdict" in item} or {_word(reply)}
    if len(said) > 1:
        raise ReplyError("several verdicts")
    (word,) = said
    if word not in WORDS:
        raise ReplyError("no verdict")
    return WORDS[word]


def judged(answers: Sequence[Answer], verdicts: Sequence[bool | None], resamples: int, seed: int, judge: str) -> Judged:
    """What verdicts on one method's answers come to; nothing where there is none.

    Args:
        answers: of one method.
        verdicts: on each of them; those without one are left out.
        resamples: bootstrap resamples behind the interval.
        seed: of the bootstrap.
        judge: the judge's name.
    """
    known = [
        (float(said), answer.scores.em) for answer, said in zip(answers, verdicts, strict=True) if said is not None
    ]
    if not known:
        return Judged()
    said_N2 = np.array(known)
    return Judged(
        judge=float(said_N2[:, 0].mean()),
        judge_ci95=list(bootstrap_ci(said_N2[:, 0], resamples, seed)),
        judge_n=len(known),
        judge_agreement=float((said_N2[:, 0] == said_N2[:, 1]).mean()),
        judge_by=judge,
    )


def _settings(config: EvaluationConfig) -> ServerSettings:
    return ServerSettings(
        url=config.judge_url,
        model=config.judge,
        key_env=config.judge_key_env,
        structured=Structured.AUTO,
        temperature=0.0,
        max_tokens=config.judge_max_tokens,
        concurrency=config.judge_concurrency,
        requests_per_minute=config.judge_requests_per_minute,
        retries=config.judge_retries,
        timeout=config.judge_timeout,
        section=_SECTION,
        model_key="evaluation.judge",
    )


def _fault(case: Case, completion: Completion) -> str:
    """Why a reply is no verdict; empty if it is one."""
    try:
        read_verdict(completion.text)
    except ReplyError as error:
        return f"cut off at {_SECTION}max_tokens" if completion.is_cut else error.reason
    return ""


def _word(value: object) -> str:
    return _AROUND.sub("", value).lower() if isinstance(value, str) else ""


def _as_json(value: object) -> str:
    """A value as a prompt shows it, in one line."""
    return _storable(json.dumps(value, ensure_ascii=False))


def _storable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()
