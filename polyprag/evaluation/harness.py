"""One harness for all methods: choose on validation questions, answer, score, sum up; every step survives a kill."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import Any, cast

from rich.console import Console
from rich.progress import track

from polyprag.config import MethodName
from polyprag.config.sharding import WHOLE, Shard
from polyprag.errors import DataError
from polyprag.evaluation.about import about_data, about_run
from polyprag.evaluation.answers import Answer, answer_from_json, answer_to_json, scored_answer
from polyprag.evaluation.cost import offline_seconds
from polyprag.evaluation.data import MEASURED, data_sha, measure_data
from polyprag.evaluation.grounds import answers_key, grounds, trained_digests, void_methods
from polyprag.evaluation.judge import Judge
from polyprag.evaluation.memory import peak_memory
from polyprag.evaluation.report import to_csv, to_latex, to_markdown
from polyprag.evaluation.results import ANSWERS, RESULTS, MethodResult, Results, without_methods
from polyprag.evaluation.shards import TRIALS, Ledger, Unfinished, trial
from polyprag.evaluation.summary import summarise
from polyprag.evaluation.tally import Tally, judge_answers
from polyprag.files import write_json, write_text
from polyprag.knowledge.selection import NO_TEST_QUESTIONS, stratified_sample
from polyprag.methods.catalogue import build_method
from polyprag.methods.method import Method
from polyprag.methods.workbench import Setting, Workbench
from polyprag.records import Question

CHOICES, VERDICTS = "choices.json", "verdicts.jsonl"
TABLE, TABLE_CSV, TABLE_TEX = "table.md", "table.csv", "table.tex"
BATCHES_AT_ONCE = 4
"""Batches that a method is given together, so that rows whose answers end early have other questions to take up."""


class Harness:
    """Runs methods on the test questions of a workbench.

    Args:
        bench: what the methods share.
        console: where progress goes.
        shard: which questions are answered here; the others have been, or will be, elsewhere.

    Raises:
        DataError: there is no test question.
    """

    def __init__(self, bench: Workbench, console: Console, shard: Shard = WHOLE) -> None:
        self.bench, self.console, self.shard = bench, console, shard
        self.config = bench.config
        self.folder = bench.folder / self.config.evaluation.dir
        self.ledger = Ledger(self.folder, shard)
        self.test = bench.knowledge.test
        if not self.test:
            raise DataError(f"{NO_TEST_QUESTIONS}; `evaluate.py inspect question=…` needs none")
        self.data_sha = data_sha(self.test, bench.passages)
        wanted = self.config.evaluation.choose_questions
        validation = bench.knowledge.validation
        self.validation = stratified_sample(validation, min(wanted, len(validation)), self.config.evaluation.seed)

    def run(self, names: Sequence[MethodName]) -> Results:
        """Answer all test questions by the named methods, and merge the results into `results.json`.

        What the run, the questions or earlier results make impossible is refused before any question is answered. The
        results are there after every method; what they say of the data, and the judge's verdicts, come last.

        Raises:
            ConfigError: a method needs a store and there is none, or the judge's server refuses all requests.
            DataError: the results in the folder are of other questions, a control lacks gold passages, adapters that
                gave answers are not there, or verdicts could not be had.
            ModelError: the judge's server cannot be reached or is lost.
            StoreError: the store is damaged or belongs to another base model.
            Unfinished: answers are missing that are not to be made here.
        """
        existing, evaluation = self._existing(), self.config.evaluation
        trained = trained_digests(self.bench.folder)
        run = about_run(self.bench, self._store_digest(), trained["router"]) | trained
        methods = self._checked(names)
        earlier = self._earlier_answers(existing, names)
        tally = Tally(existing, run, self._data(existing), evaluation.bootstrap, evaluation.seed, earlier)
        judge = Judge(evaluation, self.console) if evaluation.judge else None
        for method in methods:
            choice, setting = self.choose(method)
            answers = self.answers(method, setting)
            tally.add(method.name.value, self._summary(method, answers, choice, setting), answers)
            self._write(tally)
        tally.data |= measure_data(self.bench, self.folder, tally.data)
        if judge:
            self._write(tally)
            judge_answers(judge, tally, self.folder / VERDICTS)
        return self._write(tally)

    def run_share(self, names: Sequence[MethodName]) -> list[str]:
        """Answer this shard's questions by the named methods, as far as choices can be made; see `run`.

        Returns:
            What has been done and what is to be done, a line for each method.
        """
        said = []
        for method in self._checked(names):
            own = len(self.shard.own(self.test))
            try:
                self.answers(method, self.choose(method)[1])
                said.append(f"{method.name}: all {own} questions of shard {self.shard} are answered")
            except Unfinished as others:
                said.append(f"{method.name}: waits for the choice; {others}, then with {self.shard} again")
        return said

    def plan(self, names: Sequence[MethodName]) -> list[str]:
        """What `run` would do, one line each: questions, and for each method the settings to choose among."""
        own = f"{len(self.shard.own(self.test))} of " if self.shard.is_part else ""
        lines = [f"{own}{len(self.test)} test questions, {len(self.validation)} validation questions to choose on"]
        for method in self._checked(names):
            options = method.options()
            lines.append(f"{method.name}: {len(options)} setting{'s' * (len(options) > 1)}, such as {options[0]}")
        return lines

    def choose(self, method: Method) -> tuple[dict[str, Any], Setting]:
        """The setting that answers validation questions best; the first of equals, or of all without validation.

        Returns:
            What was chosen and tried, for the results, and the setting.

        Raises:
            DataError: adapters that gave validation answers are not there.
            Unfinished: other shards have not answered their validation questions.
        """
        options = method.options()
        if len(options) == 1 or not self.validation:
            return dataclasses.asdict(options[0]), options[0]
        known = self._read_json(CHOICES)
        key = answers_key(self.config, method, self.data_sha, repr((options, self.validation)))
        if key in known:
            self._check_kept(method, self.validation, options)
        else:
            scores = self._trials(method, options, key)
            tried = [
                {**dataclasses.asdict(option), "f1": sum(scores[at]) / len(scores[at])}
                for at, option in enumerate(options)
            ]
            known[key] = {"method": method.name, "tried": tried, "questions": len(self.validation)}
            write_json(self.folder / CHOICES, known)
        tried = known[key]["tried"]
        best = max(range(len(options)), key=lambda at: (tried[at]["f1"], -at))
        return {**dataclasses.asdict(options[best]), "tried": tried}, options[best]

    def answers(self, method: Method, setting: Setting) -> list[Answer]:
        """The answers to all test questions: those on disk, and the missing ones of this shard as they are made.

        Raises:
            DataError: adapters that gave earlier answers are not there.
            Unfinished: answers are missing that no shard makes here.
        """
        key = self._key(method, setting)
        done = self._done(key)
        self._check_kept(method, [question for question in self.test if question.id in done], [setting])
        missing = [question for question in self.shard.own(self.test) if question.id not in done]
        if missing:
            method.prepare(self.test, [setting], missing)
            method.answer(missing[:1], setting)  # the first call pays for lazy set-up, so it is not timed
        size = BATCHES_AT_ONCE * self.config.answering.batch_size
        batches = [missing[at : at + size] for at in range(0, len(missing), size)]
        for batch in track(batches, description=f"{method.name}", console=self.console, disable=not batches):
            new = self._scored(method, batch, setting)
            self.ledger.add(ANSWERS, key, [json.loads(answer_to_json(answer)) for answer in new])
            done |= {answer.question_id: answer for answer in new}
        if len(done) < len(self.test) and not self.shard.is_part:
            raise self.ledger.unfinished(f"answers by {method.name} are", self.test, done)
        if not self.shard.is_part:
            self.ledger.gather(ANSWERS, key, [question.id for question in self.test])
        return [done[question.id] for question in self.test if question.id in done]

    def _checked(self, names: Sequence[MethodName]) -> list[Method]:
        """The named methods, each of which can answer the test questions."""
        methods = [build_method(name, self.bench) for name in names]
        for method in methods:
            method.check(self.test)
        return methods

    def _trials(self, method: Method, options: Sequence[Setting], key: str) -> list[list[float]]:
        """The F1 of all validation questions under each setting: those on disk, and this shard's as they are made.

        Raises:
            DataError: adapters that gave earlier answers are not there.
            Unfinished: other shards have not answered theirs.
        """
        done, size = self.ledger.trials(key), BATCHES_AT_ONCE * self.config.answering.batch_size
        self._check_kept(method, self._tried(done, options), options)
        own = self.shard.own(self.validation)
        missing = [[question for question in own if (at, question.id) not in done] for at in range(len(options))]
        if any(missing):
            left = {question.id for questions in missing for question in questions}
            method.prepare(self.validation, options, [question for question in own if question.id in left])
        for at in track(
            range(len(options)), f"{method.name}: choosing", console=self.console, disable=not any(missing)
        ):
            for start in range(0, len(missing[at]), size):
                answers = self._scored(method, missing[at][start : start + size], options[at])
                self.ledger.add(TRIALS, key, [trial(at, answer.question_id, answer.scores.f1) for answer in answers])
                done |= {(at, answer.question_id): answer.scores.f1 for answer in answers}
        whole = {question.id for question in self._tried(done, options)}
        if len(whole) < len(self.validation):
            raise self.ledger.unfinished(f"validation answers by {method.name} are", self.validation, whole)
        return [[done[at, question.id] for question in self.validation] for at in range(len(options))]

    def _tried(self, done: Collection[tuple[int, str]], options: Sequence[Setting]) -> list[Question]:
        """The validation questions that have been answered under each setting."""
        return [q for q in self.validation if all((at, q.id) in done for at in range(len(options)))]

    def _check_kept(self, method: Method, answered: Sequence[Question], settings: Sequence[Setting]) -> None:
        """Refuse to sum up answers where what they were given with is not there, since costs would be told too small.

        Shards sum up nothing, and need not have what others have answered with.

        Raises:
            DataError: something is not there.
        """
        lost = "" if self.shard.is_part else method.lost(answered, settings)
        if lost:
            raise DataError(f"{method.name}: {lost}")

    def _scored(self, method: Method, questions: Sequence[Question], setting: Setting) -> list[Answer]:
        with peak_memory(self.bench.base.device) as peak:
            answered = method.answer(questions, setting)
        return [scored_answer(method.name, q, a, peak.bytes) for q, a in zip(questions, answered, strict=True)]

    def _key(self, method: Method, setting: Setting) -> str:
        return answers_key(self.config, method, self.data_sha, repr(setting))

    def _done(self, key: str) -> dict[str, Answer]:
        """The answers under a key by question id; the whole evaluation's own before those of shards."""
        done: dict[str, Answer] = {}
        for path, row in self.ledger.rows(ANSWERS, key):
            done.setdefault(row["question_id"], answer_from_json(json.dumps(row), str(path)))
        return done

    def _earlier_answers(self, existing: Results | None, names: Sequence[MethodName]) -> dict[str, Sequence[Answer]]:
        """The answers behind earlier results that this call leaves as they are, as far as results name them."""
        results = existing["methods"] if existing is not None else {}
        named = {name: result["key"] for name, result in results.items() if name not in names and "key" in result}
        found = {name: list(self._done(key).values()) for name, key in named.items()}
        return {name: answers for name, answers in found.items() if len(answers) == results[name]["n"]}

    def _summary(
        self, method: Method, answers: Sequence[Answer], choice: dict[str, Any], setting: Setting
    ) -> MethodResult:
        evaluation = self.config.evaluation
        result = summarise(
            answers,
            evaluation.bootstrap,
            evaluation.seed,
            method.bytes_per_passage,
            method.train_seconds,
            choice,
            offline_seconds(method),
        )
        result["key"], result["grounds"] = self._key(method, setting), grounds(self.config, method.name.value)
        return result

    def _write(self, tally: Tally) -> Results:
        """Write what is known; what another call has added meanwhile stays."""
        tally.existing = self._existing()
        results = tally.merged()
        write_json(self.folder / RESULTS, results)
        for file, written in ((TABLE, to_markdown), (TABLE_CSV, to_csv), (TABLE_TEX, to_latex)):
            write_text(self.folder / file, written(results))
        return results

    def _existing(self) -> Results | None:
        """The results of earlier calls, but for those of another configuration or of what was trained anew since."""
        existing = self._read_json(RESULTS)
        if not existing or (run := existing.get("run")) is None or run.get("store") != self._store_digest():
            return None
        results = cast(Results, existing)
        void = void_methods(results, self.config, trained_digests(self.bench.folder))
        return without_methods(results, void) if void else results

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

    def _data(self, existing: Results | None) -> dict[str, Any]:
        """What results say of the data, without what is still to be measured but for what earlier results say."""
        found = about_data(self.bench, self.data_sha, len(self.validation))
        known = existing.get("data", {}) if existing else {}
        if known.get("sha256") == self.data_sha:
            found |= {key: known[key] for key in MEASURED if key in known}
        return found
