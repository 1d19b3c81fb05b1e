import functools
import json
from collections.abc import Callable

import pytest

from polyprag.files import write_jsonl
from polyprag.sweeps import estimate
from polyprag.sweeps.estimate import ANSWER_TOKENS, START_SECONDS, expected_seconds
from polyprag.sweeps.outcomes import run_folder
from polyprag.training.trainer import Sizes


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """Every timed step says 100 tokens a second; the tokens of a pass that were timed."""
    seen: list[int] = []

    def sizes(module, data, pool, router) -> Sizes:
        tokens = sum(map(len, data.packs))
        seen.append(tokens)
        passes = data.config.training.epochs
        return Sizes(6, len(data.packs), tokens, 1, 1, 1, 1, passes, tokens * passes / 100)

    monkeypatch.setattr(estimate, "measure_sizes", sizes)
    return seen


@pytest.fixture
def expected(tmp_path) -> Callable[..., list[float]]:
    """`expected(pending, finished)`: the seconds that runs of the sweep take."""
    return functools.partial(expected_seconds, folder=tmp_path / "sweep")


def test_time_goes_with_tokens_and_answers(make_sweep, measured, expected):
    sweep = make_sweep({"training.epochs": [1, 3]})
    short, long = expected([(run, True) for run in sweep.runs], [])
    [tokens] = measured
    answers = 8 * 2 * ANSWER_TOKENS / 100
    assert short == pytest.approx(tokens / 100 + answers + START_SECONDS)
    assert long == pytest.approx(3 * tokens / 100 + answers + START_SECONDS)
    [only_answers, _] = expected([(run, False) for run in sweep.runs], [])
    assert only_answers == pytest.approx(answers + START_SECONDS)


def test_a_limit_of_steps_and_prags_own_training_count(make_sweep, measured, expected):
    sweep = make_sweep({"training.max_steps": [1], "training.batch_tokens": [200]}, "evaluation.methods=[prag]")
    [seconds] = expected([(run, True) for run in sweep.runs], [])
    [tokens] = measured
    assert tokens > 200
    assert seconds == pytest.approx((200 + tokens + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_adapters_of_single_questions_grow_with_them(make_sweep, measured, expected):
    sweep = make_sweep({"prag.per": ["passage", "question_passage"]}, "evaluation.methods=[prag]")
    shared, single = expected([(run, False) for run in sweep.runs], [])
    [tokens] = measured
    assert shared == pytest.approx((tokens + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)
    assert single == pytest.approx((tokens * 8 // 6 + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_controls_are_trained_like_the_pool(make_sweep, measured, expected):
    sweep = make_sweep({"training.epochs": [2]}, "evaluation.methods=[global_lora]")
    [seconds] = expected([(run, True) for run in sweep.runs], [])
    [tokens] = measured
    assert seconds == pytest.approx((4 * tokens + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_a_translator_costs_the_adapters_that_it_learns_from(make_sweep, measured, expected):
    sweep = make_sweep({"translator.passages": [12]}, "prag.epochs=2", "evaluation.methods=[dyprag]")
    [seconds] = expected([(run, False) for run in sweep.runs], [])
    [tokens] = measured
    assert seconds == pytest.approx((2 * tokens * 12 // 6 + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_finished_runs_tell_the_speed(make_sweep, run_all, outcomes_of, measured, expected):
    sweep = make_sweep({"experts.count": [2, 3, 4]})
    run_all(sweep, sweep.runs[:2])  # 12.5 seconds each, as their stores say
    [seconds] = expected([(sweep.runs[2], True)], list(outcomes_of(sweep).values()))
    assert not measured
    assert 12.5 + START_SECONDS < seconds < 25 + START_SECONDS


def test_nothing_to_do_takes_no_time(measured, expected):
    assert expected([], []) == []
    assert not measured


def test_a_real_step_is_timed(make_sweep, expected):
    [seconds] = expected([(run, True) for run in make_sweep({"experts.count": [2]}).runs], [])
    assert seconds > START_SECONDS


def test_pairs_that_a_run_still_has_to_write_count_by_their_number(
    make_sweep, measured, expected, library_files, tmp_path
):
    rows = [json.loads(line) for line in library_files[0].read_text().splitlines()]
    bare = tmp_path / "bare.jsonl"
    write_jsonl(bare, [{key: row[key] for key in ("id", "title", "text")} for row in rows])
    by = (f"data.path={bare}", "augmentation.by=extractive", "tasks.passage_text=false")
    tokens = {}
    for pairs, rewrites in ((1, 0), (2, 0), (2, 1)):
        sweep = make_sweep(
            {"experts.count": [2]}, *by, f"augmentation.pairs={pairs}", f"augmentation.rewrites={rewrites}"
        )
        expected([(run, True) for run in sweep.runs], [])
        tokens[pairs, rewrites] = measured.pop()
    assert 0 < tokens[1, 0] < tokens[2, 0] < tokens[2, 1]
    sweep = make_sweep(
        {"experts.count": [2]}, *by, "augmentation.pairs=2", "augmentation.rewrites=1", "data.max_pairs=1"
    )
    expected([(run, True) for run in sweep.runs], [])
    assert tokens[1, 0] < measured.pop() < tokens[2, 1], "as many as the run trains on"


def test_pairs_that_a_run_has_written_count_as_they_are(make_sweep, measured, expected, library_files, tmp_path):
    sweep = make_sweep({"experts.count": [2]}, "augmentation.by=extractive", "augmentation.rewrites=0")
    folder = run_folder(tmp_path / "sweep", sweep.runs[0])
    tokens = []
    for question in ("Why?", "Why in the world would anybody want to know that of all things?"):
        write_jsonl(
            folder / "augmentation.jsonl", [{"passage_id": "p0", "qa": [{"question": question, "answer": "so"}]}]
        )
        expected([(run, True) for run in sweep.runs], [])
        tokens.append(measured.pop())
    assert tokens[0] < tokens[1]
