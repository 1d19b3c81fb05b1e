"""What a call of the evaluation has found so far, merged with what earlier calls have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from polyprag.evaluation.answers import Answer
from polyprag.evaluation.differences import Difference, differences
from polyprag.evaluation.judge import Judge, judged
from polyprag.evaluation.results import MethodResult, Results, merge_results
from polyprag.files import read_jsonl_tolerant, write_jsonl


class Tally:
    """Grows by a method at a time; each pair of methods is compared once.

    Args:
        existing: results.json as earlier calls have left it; None where there is none.
        run: what this call says about the run.
        data: what it says about the data; see `merge_results`.
        resamples: bootstrap resamples behind each interval.
        seed: of the bootstrap.
        earlier: the answers behind existing results of other methods than this call's, by method.

    Raises:
        DataError: the existing results have another schema or belong to other data.
    """

    def __init__(
        self,
        existing: Results | None,
        run: Mapping[str, Any],
        data: Mapping[str, Any],
        resamples: int,
        seed: int,
        earlier: Mapping[str, Sequence[Answer]],
    ) -> None:
        self.existing, self.run, self.data = existing, dict(run), dict(data)
        self.resamples, self.seed = resamples, seed
        self.earlier, self.answers = dict(earlier), dict[str, Sequence[Answer]]()
        self.methods: dict[str, MethodResult] = {}
        self.compared: dict[tuple[str, str], Difference] = {}
        self.merged()

    def add(self, name: str, result: MethodResult, answers: Sequence[Answer]) -> None:
        """Add a method, and compare it with those of earlier calls and those that came before it in this one.

        Raises:
            DataError: a question is answered twice.
        """
        pairs = [(other, name) for other in (*self.earlier, *self.answers)]
        self.answers[name], self.methods[name] = answers, result
        found = differences({**self.earlier, **self.answers}, pairs, self.resamples, self.seed)
        self.compared |= {(difference["a"], difference["b"]): difference for difference in found}

    def judge(self, name: str, verdicts: Sequence[bool | None], judge: str) -> None:
        """Add what a judge says of a method's answers."""
        said = judged(self.answers[name], verdicts, self.resamples, self.seed, judge)
        self.methods[name] = {**self.methods[name], **said}

    def merged(self) -> Results:
        """All results; pairs in the order of their methods, those of earlier calls first."""
        ordered = [
            self.compared[pair] for pair in combinations((*self.earlier, *self.answers), 2) if pair in self.compared
        ]
        return merge_results(self.existing, self.run, self.data, self.methods, ordered)


def judge_answers(judge: Judge, tally: Tally, path: Path) -> None:
    """Have the answers of a call judged, all together, since many are the same.

    Args:
        judge: who is asked.
        tally: holds the answers, and gets what the verdicts come to.
        path: a file of JSON lines with a verdict for each answer; those of other methods that stand there stay.

    Raises:
        PolyPragError: see `Judge.verdicts`.
    """
    verdicts = iter(judge.verdicts([answer for answers in tally.answers.values() for answer in answers]))
    rows = [row for row in read_jsonl_tolerant(path) if row.get("method") not in tally.answers]
    for name, answers in tally.answers.items():
        own = list(islice(verdicts, len(answers)))
        tally.judge(name, own, judge.name)
        rows += [
            {"method": name, "question_id": answer.question_id, "correct": verdict, "by": judge.name}
            for answer, verdict in zip(answers, own, strict=True)
        ]
    write_jsonl(path, rows)
