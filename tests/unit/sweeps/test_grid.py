import pytest

from polyprag.config.keys import keys
from polyprag.errors import ConfigError
from polyprag.sweeps.grid import trains
from polyprag.sweeps.outcomes import evaluation_folder, run_folder


def values_of(sweep) -> list[list[tuple]]:
    return [[point.values for point in group.points] for group in sweep.groups]


def test_a_grid_has_every_combination_and_every_seed(make_sweep):
    sweep = make_sweep({"experts.count": [2, 4], "routing.granularity": ["shared", "block"], "run.seed": [0, 1]})
    [group] = sweep.groups
    assert group.keys == ("experts.count", "routing.granularity")
    assert values_of(sweep) == [[(2, "shared"), (2, "block"), (4, "shared"), (4, "block")]]
    assert len(sweep.runs) == 8
    assert [run.config.run.seed for run in sweep.runs] == [0] * 4 + [1] * 4
    assert sweep.runs[0].label == "count=2 granularity=shared seed=0"
    assert sweep.runs[0].name == "count-2-granularity-shared-seed-0"
    assert len({run.training_id for run in sweep.runs}) == 8
    assert len({run.evaluation_id for run in sweep.runs}) == 1
    for point in group.points:
        assert [run.config.run.seed for run in point.runs] == [0, 1]
        assert {run.config.experts.count for run in point.runs} == {point.values[0]}


def test_the_key_across_the_figure_comes_first(make_sweep):
    sweep = make_sweep({"experts.count": [2, 4], "experts.rank": [1, 2]}, x="experts.rank")
    assert sweep.groups[0].keys == ("experts.rank", "experts.count")


def test_one_at_a_time_shares_the_centre(make_sweep):
    axes = {"experts.count": [1, 3, 6], "experts.rank": [2, 4], "run.seed": [0, 1]}
    sweep = make_sweep(axes, design="one_at_a_time")
    assert [group.keys for group in sweep.groups] == [("experts.count",), ("experts.rank",)]
    assert values_of(sweep) == [[(1,), (3,), (6,)], [(2,), (4,)]]
    assert len(sweep.runs) == 8
    centre = sweep.groups[0].points[1].runs
    assert sweep.groups[1].points[0].runs == centre
    assert {(run.config.experts.count, run.config.experts.rank) for run in sweep.runs} == {
        *((1, 2), (3, 2), (6, 2)),
        (3, 4),
    }


def test_equal_runs_collapse(make_sweep):
    sweep = make_sweep({"experts.count": [2, 2, 3], "run.seed": [0, 0]})
    assert values_of(sweep) == [[(2,), (3,)]]
    assert len(sweep.runs) == 2


def test_without_swept_keys_a_run_for_each_seed(make_sweep):
    sweep = make_sweep({"run.seed": [3, 4]})
    assert values_of(sweep) == [[()]]
    assert [run.label for run in sweep.runs] == ["seed=3", "seed=4"]
    assert [run.label for run in make_sweep({"data.limit": 5}).runs] == ["base"]


def test_overrides_hold_for_all_runs_and_end_the_sweep_of_their_key(make_sweep):
    sweep = make_sweep(
        {"experts.count": [2, 4], "run.seed": [0, 1], "experts.rank": 3}, "run.seed=5", "experts.rank=1", "data.limit=4"
    )
    assert [(run.config.experts.count, run.config.experts.rank, run.config.run.seed) for run in sweep.runs] == [
        (2, 1, 5),
        (4, 1, 5),
    ]
    assert {run.config.data.limit for run in sweep.runs} == {4}
    pinned = make_sweep({"experts.count": [2, 4], "run.seed": [0, 1]}, "experts.count=3")
    assert (pinned.groups[0].keys, len(pinned.runs)) == ((), 2)


def test_what_only_answers_depend_on_shares_a_training(make_sweep):
    sweep = make_sweep({"answering.passages": [1, 2], "evaluation.seed": [0, 1], "experts.count": [2, 4]})
    assert len(sweep.runs) == 8
    assert len({run.training_id for run in sweep.runs}) == 2
    assert len({run.evaluation_id for run in sweep.runs}) == 4
    assert {run.name for run in sweep.runs} == {"count-2", "count-4"}


def test_methods_share_an_evaluation(make_sweep):
    sweep = make_sweep({"evaluation.methods": [["poly_prag"], ["poly_prag_oracle", "vanilla"]]})
    assert [run.methods for run in sweep.runs] == [("poly_prag",), ("poly_prag_oracle", "vanilla")]
    assert len({(run.training_id, run.evaluation_id) for run in sweep.runs}) == 1


def test_a_run_is_known_by_what_it_trains_not_by_the_sweep(make_sweep, tmp_path):
    one = make_sweep({"experts.count": [2, 3]}).runs[1]
    other = make_sweep({"experts.rank": [2, 4]}, "logging.project=else", "run.threads=1").runs[0]
    assert (one.name, other.name) == ("count-3", "rank-2")
    assert (one.training_id, one.evaluation_id) == (other.training_id, other.evaluation_id)
    folder = run_folder(tmp_path, one)
    assert folder == tmp_path / "runs" / f"count-3-{one.training_id}"
    folder.mkdir(parents=True)
    assert run_folder(tmp_path, other) == folder
    assert evaluation_folder(one) == evaluation_folder(other)


def test_training_depends_on_all_but_running_logging_and_answering():
    idle = {key for key in keys() if not trains(key)}
    assert {"run.dir", "logging.group", "evaluation.methods", "answering.passages", "prag.rank"} <= idle
    assert "translator.composition" in idle
    training = {"run.seed", "experts.count", "routing.top_k", "data.limit", "router.steps", "translator.epochs"}
    assert not {*training, "answering.expand_index"} & idle


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (
            {"experts.count": [2, 4], "routing.top_k": [0, 3]},
            r"sweep\.yaml: count=2 top_k=3 cannot run: routing\.top_k is 3, but there are 2 experts; use 0 to 2$",
        ),
        (
            {"experts.count": [2, "many"], "run.seed": [1]},
            r"sweep\.yaml: count=many seed=1 cannot run: experts\.count is 'many', expected a whole number",
        ),
        ({"experts.rank": [0]}, r"sweep\.yaml: rank=0 cannot run: experts\.rank is 0, but must be 1 or more$"),
    ],
)
def test_an_impossible_combination_is_named(make_sweep, axes, says):
    with pytest.raises(ConfigError, match=says):
        make_sweep(axes)


def test_a_base_that_is_wrong_by_itself_says_so_in_its_own_words(make_sweep):
    with pytest.raises(
        ConfigError, match=r"^command line: unknown key 'experts\.cuont'; did you mean experts\.count\?"
    ):
        make_sweep({"experts.count": [2]}, "experts.cuont=2")
    with pytest.raises(ConfigError, match=r"^experts\.rank is 0, but must be 1 or more$"):
        make_sweep({"data.limit": 3}, "experts.rank=0")


def test_the_seed_must_leave_the_questions_alone(make_sweep):
    with pytest.raises(
        ConfigError, match=r"data\.limit_seed depends on run\.seed, but all seeds of a combination must"
    ):
        make_sweep({"experts.count": [2], "run.seed": [0, 1]}, "data.limit_seed=${run.seed}")
