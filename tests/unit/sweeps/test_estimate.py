import pytest

from polyprag.sweeps import estimate
from polyprag.sweeps.estimate import ANSWER_TOKENS, START_SECONDS, expected_seconds
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


def test_time_goes_with_tokens_and_answers(make_sweep, measured):
    sweep = make_sweep({"training.epochs": [1, 3]})
    short, long = expected_seconds([(run, True) for run in sweep.runs], [])
    [tokens] = measured
    answers = 8 * 2 * ANSWER_TOKENS / 100
    assert short == pytest.approx(tokens / 100 + answers + START_SECONDS)
    assert long == pytest.approx(3 * tokens / 100 + answers + START_SECONDS)
    [only_answers, _] = expected_seconds([(run, False) for run in sweep.runs], [])
    assert only_answers == pytest.approx(answers + START_SECONDS)


def test_a_limit_of_steps_and_prags_own_training_count(make_sweep, measured):
    sweep = make_sweep({"training.max_steps": [1], "training.batch_tokens": [200]}, "evaluation.methods=[prag]")
    [seconds] = expected_seconds([(run, True) for run in sweep.runs], [])
    [tokens] = measured
    assert tokens > 200
    assert seconds == pytest.approx((200 + tokens + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_adapters_of_single_questions_grow_with_them(make_sweep, measured):
    sweep = make_sweep({"prag.per": ["passage", "question_passage"]}, "evaluation.methods=[prag]")
    shared, single = expected_seconds([(run, False) for run in sweep.runs], [])
    [tokens] = measured
    assert shared == pytest.approx((tokens + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)
    assert single == pytest.approx((tokens * 8 // 6 + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_controls_are_trained_like_the_pool(make_sweep, measured):
    sweep = make_sweep({"training.epochs": [2]}, "evaluation.methods=[global_lora]")
    [seconds] = expected_seconds([(run, True) for run in sweep.runs], [])
    [tokens] = measured
    assert seconds == pytest.approx((4 * tokens + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_a_translator_costs_the_adapters_that_it_learns_from(make_sweep, measured):
    sweep = make_sweep({"translator.passages": [12]}, "prag.epochs=2", "evaluation.methods=[dyprag]")
    [seconds] = expected_seconds([(run, False) for run in sweep.runs], [])
    [tokens] = measured
    assert seconds == pytest.approx((2 * tokens * 12 // 6 + 8 * ANSWER_TOKENS) / 100 + START_SECONDS)


def test_finished_runs_tell_the_speed(make_sweep, run_all, outcomes_of, measured):
    sweep = make_sweep({"experts.count": [2, 3, 4]})
    run_all(sweep, sweep.runs[:2])  # 12.5 seconds each, as their stores say
    [seconds] = expected_seconds([(sweep.runs[2], True)], list(outcomes_of(sweep).values()))
    assert not measured
    assert 12.5 + START_SECONDS < seconds < 25 + START_SECONDS


def test_nothing_to_do_takes_no_time(measured):
    assert expected_seconds([], []) == []
    assert not measured


def test_a_real_step_is_timed(make_sweep):
    [seconds] = expected_seconds([(run, True) for run in make_sweep({"experts.count": [2]}).runs], [])
    assert seconds > START_SECONDS
