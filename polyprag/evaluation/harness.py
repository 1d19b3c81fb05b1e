"""One harness for all methods: choose on validation questions, answer, score, sum up; every step survives a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any, cast

from rich.console import Console
from rich.progress import track

from polyprag.cli import environment
from polyprag.config import MethodName
from polyprag.config.keys import config_values
from polyprag.errors import DataError
from polyprag.evaluation.answers import Answer, answer_from_json, answer_to_json
from polyprag.evaluation.data import measure_data
from polyprag.evaluation.differences import differences
from polyprag.evaluation.report import to_csv, to_latex, to_markdown
from polyprag.evaluation.results import (
    MethodResult,
    Results,
    merge_results,
    summarise,
    without_methods,
)
from polyprag.files import append_jsonl, read_jsonl_tolerant, write_json, write_text
from polyprag.knowledge.selection import count_types, stratified_sample
from polyprag.methods.catalogue import build_method
from polyprag.methods.method import Method
from polyprag.methods.poly_prag import needs_router
from polyprag.methods.workbench import Answered, Setting, Workbench
from polyprag.metrics import score
from polyprag.records import Question
from polyprag.router_store import router_digest

ANSWERS, CHOICES, RESULTS = "answers.jsonl", "choices.json", "results.json"
TABLE, TABLE_CSV, TABLE_TEX = "table.md", "table.csv", "table.tex"
SHARED_KEYS = (
    *("base.", "answering.max_new_tokens", "answering.expand_index"),
    *("retrieval.backend", "retrieval.titles", "retrieval.encoder"),
)
"""Configuration on which every method's answers depend."""


class Harness:
    """Runs methods on the test questions of a workbench.

    Args:
        bench: what the methods share.
        console: where progress goes.

    Raises:
        DataError: there is no test question.
    """

    def __init__(self, bench: Workbench, console: Console) -> None:
        self.bench, self.console = bench, console
        self.config = bench.config
        self.folder = bench.folder / self.config.evaluation.dir
        self.test = bench.knowledge.test
        if not self.test:
            raise DataError("there are no test questions; set data.questions, or lower data.train_qas")
        self.measured: dict[str, Any] = {}
        self.data_sha = hashlib.sha256(repr((self.test, bench.passages)).encode()).hexdigest()
        wanted = self.config.evaluation.choose_questions
        validation = bench.knowledge.validation
        self.validation = stratified_sample(validation, min(wanted, len(validation)), self.config.evaluation.seed)

    def run(self, names: Sequence[MethodName]) -> Results:
        """Answer all test questions by the named methods, and merge the results into `results.json`.

        What the run, the questions or earlier results make impossible is refused before any question is answered.

        Raises:
            ConfigError: a method needs a store and there is none.
            DataError: the results in the folder are of other questions, or a control lacks gold passages.
            StoreError: the store is damaged or belongs to another base model.
        """
        answers: dict[str, list[Answer]] = {}
        results: dict[str, MethodResult] = {}
        merged = self._merged(self._existing(), results, answers)
        methods = self._checked(names)
        self.measured = measure_data(self.bench, self.folder)
        for method in methods:
            choice, setting = self.choose(method)
            name = method.name.value
            answers[name] = self.answers(method, setting)
            results[name] = self._summary(method, answers[name], choice)
            merged = self._merged(merged, results, answers)
            write_json(self.folder / RESULTS, merged)
            for file, written in ((TABLE, to_markdown), (TABLE_CSV, to_csv), (TABLE_TEX, to_latex)):
                write_text(self.folder / file, written(merged))
        return merged

    def plan(self, names: Sequence[MethodName]) -> list[str]:
        """What `run` would do, one line each: questions, and for each method the settings to choose among."""
        lines = [f"{len(self.test)} test questions, {len(self.validation)} validation questions to choose on"]
        for method in self._checked(names):
            options = method.options()
            lines.append(f"{method.name}: {len(options)} setting{'s' * (len(options) > 1)}, such as {options[0]}")
        return lines

    def choose(self, method: Method) -> tuple[dict[str, Any], Setting]:
        """The setting that answers validation questions best; the first of equals, or of all without validation.

        Returns:
            What was chosen and tried, for the results, and the setting.
        """
        options = method.options()
        if len(options) == 1 or not self.validation:
            return dataclasses.asdict(options[0]), options[0]
        known = self._read_json(CHOICES)
        key = self._identity(method, repr((options, self.validation)))
        if key not in known:
            method.prepare(self.validation, options)
            tried = [
                {**dataclasses.asdict(option), "f1": self._validation_f1(method, option)}
                for option in track(options, description=f"{method.name}: choosing", console=self.console)
            ]
            known[key] = {"method": method.name, "tried": tried, "questions": len(self.validation)}
            write_json(self.folder / CHOICES, known)
        tried = known[key]["tried"]
        best = max(range(len(options)), key=lambda at: (tried[at]["f1"], -at))
        return {**dataclasses.asdict(options[best]), "tried": tried}, options[best]

    def answers(self, method: Method, setting: Setting) -> list[Answer]:
        """The answers to all test questions: those on disk, and the missing ones as they are made."""
        path = self.folder / ANSWERS
        key = self._identity(method, repr(setting))
        done = {
            row["question_id"]: answer_from_json(json.dumps(row), str(path))
            for row in read_jsonl_tolerant(path)
            if row.get("key") == key
        }
        missing = [question for question in self.test if question.id not in done]
        if missing:
            method.prepare(self.test, [setting])
            method.answer(missing[:1], setting)  # the first call pays for lazy set-up, so it is not timed
        size = self.config.answering.batch_size
        batches = [missing[at : at + size] for at in range(0, len(missing), size)]
        for batch in track(batches, description=f"{method.name}", console=self.console, disable=not batches):
            new = self._scored(method, batch, setting)
            append_jsonl(path, [{"key": key, **json.loads(answer_to_json(answer))} for answer in new])
            done |= {answer.question_id: answer for answer in new}
        return [done[question.id] for question in self.test]

    def _checked(self, names: Sequence[MethodName]) -> list[Method]:
        """The named methods, each of which can answer the test questions."""
        methods = [build_method(name, self.bench) for name in names]
        for method in methods:
            method.check(self.test)
        return methods

    def _validation_f1(self, method: Method, setting: Setting) -> float:
        size = self.config.answering.batch_size
        batches = [self.validation[at : at + size] for at in range(0, len(self.validation), size)]
        scores = [answer.scores.f1 for batch in batches for answer in self._scored(method, batch, setting)]
        return sum(scores) / len(scores)

    def _scored(self, method: Method, questions: Sequence[Question], setting: Setting) -> list[Answer]:
        answered = method.answer(questions, setting)
        return [_scored(method.name, q, a) for q, a in zip(questions, answered, strict=True)]

    def _identity(self, method: Method, detail: str) -> str:
        """A hash of all that a method's answers depend on."""
        values = config_values(self.config)
        shared = {key: str(value) for key, value in values.items() if key.startswith(SHARED_KEYS)}
        parts = [method.name.value, detail, method.identity, self.data_sha, self.config.evaluation.seed, shared]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _summary(self, method: Method, answers: Sequence[Answer], choice: dict[str, Any]) -> MethodResult:
        evaluation = self.config.evaluation
        return summarise(
            answers, evaluation.bootstrap, evaluation.seed, method.bytes_per_passage, method.train_seconds, choice
        )

    def _existing(self) -> Results | None:
        """The results of earlier calls, but for those of a pool or query router that was replaced since."""
        existing = self._read_json(RESULTS)
        if not existing or existing.get("run", {}).get("store") != self._store_digest():
            return None
        results = cast(Results, existing)
        if existing["run"].get("router") == self._router_digest():
            return results
        return without_methods(results, {name.value for name in MethodName if needs_router(name)})

    def _read_json(self, name: str) -> dict[str, Any]:
        """A JSON object of the evaluation's folder, empty when there is no such file."""
        path = self.folder / name
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON ({error}); delete the file, its answers are kept") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: not a JSON object; delete the file, its answers are kept")
        return content

    def _store_digest(self) -> str:
        return self.bench.store.manifest.digest if self.bench.has_store else ""

    def _router_digest(self) -> str:
        return router_digest(self.bench.folder / "router")

    def _merged(
        self, existing: Results | None, results: dict[str, MethodResult], answers: dict[str, list[Answer]]
    ) -> Results:
        evaluation = self.config.evaluation
        pairs = list(combinations(answers, 2))
        compared = differences(answers, pairs, evaluation.bootstrap, evaluation.seed)
        run = {
            "dir": str(self.bench.folder),
            "store": self._store_digest(),
            "router": self._router_digest(),
            "base": self.config.base.model,
            "quantisation": self.config.base.quantisation.value,
            "seed": self.config.run.seed,
            "config": config_values(self.config),
            "environment": environment(),
        }
        data = {
            "name": self.config.data.name.value,
            "sha256": self.data_sha,
            "passages": len(self.bench.passages),
            "questions": len(self.test),
            "types": count_types(self.test),
            "limit": self.config.data.limit,
            "limit_seed": self.config.data.limit_seed,
            "validation": len(self.validation),
            **self.measured,
        }
        return merge_results(existing, run, data, results, compared)


def _scored(name: MethodName, question: Question, answered: Answered) -> Answer:
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
        own_first=answered.retrieved[0] in question.passage_ids
        if answered.retrieved and question.passage_ids
        else None,
        confidence=answered.confidence,
        retrievals=answered.retrievals,
        generated_tokens=answered.generated_tokens,
    )
