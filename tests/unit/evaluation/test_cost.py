import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.config import MethodName
from polyprag.errors import DataError
from polyprag.evaluation.cost import Cost, augmentation_seconds, break_even, break_evens, cost_of, offline_seconds
from polyprag.methods.catalogue import build_method

SECONDS = st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000)
COSTS = st.builds(Cost, SECONDS, SECONDS)


class TestBreakEven:
    @pytest.mark.parametrize(
        ("ours", "theirs", "expected"),
        [
            (Cost(12.0, 0.5), Cost(0.0, 2.0), 8.0),
            (Cost(12.0, 0.5), Cost(10.0, 1.5), 2.0),
            (Cost(12.0, 2.5), Cost(0.0, 2.0), None),
            (Cost(12.0, 2.0), Cost(0.0, 2.0), None),
            (Cost(0.0, 2.0), Cost(0.0, 2.0), 0.0),
            (Cost(1.0, 0.5), Cost(3.0, 2.0), 0.0),
            (Cost(0.0, 2.5), Cost(5.0, 2.0), None),
        ],
    )
    def test_cases(self, ours, theirs, expected):
        assert break_even(ours, theirs) == expected

    @given(ours=COSTS, theirs=COSTS, more=st.floats(0.0, 1e6))
    def test_from_there_on_ours_is_never_dearer(self, ours, theirs, more):
        def spent(cost: Cost, questions: float) -> float:
            return cost.offline + questions * cost.question

        begin = break_even(ours, theirs)
        if begin is None:
            questions = 1e12
            assert spent(ours, questions) >= spent(theirs, questions)
            return
        scale = max(spent(ours, begin + more), 1.0)
        assert spent(ours, begin + more) <= spent(theirs, begin + more) + 1e-9 * scale
        if 0 < begin < 1e12:
            assert spent(ours, begin * 0.999) >= spent(theirs, begin * 0.999) - 1e-9 * scale

    def test_what_is_held_against_what(self):
        names = ("vanilla", "standard_rag", "prag", "prag_combine", "poly_prag_query", "dyprag", "global_lora")
        found = break_evens({name: Cost(1.0, 1.0) for name in names})
        assert {name for name in names if "break_even" in found[name]} == set(names) - {"standard_rag"}
        assert {name for name in names if "break_even_prag" in found[name]} == {"poly_prag_query", "dyprag"}
        assert break_evens({"prag": Cost(1.0, 1.0)}) == {"prag": {}}

    def test_results_of_earlier_versions_tell_no_cost(self):
        seconds = {"seconds_per_question": {"total": 2.0}}
        assert cost_of(seconds) is None
        assert cost_of({**seconds, "offline_seconds_per_passage": 3.0}) == Cost(3.0, 2.0)


def report(**changes) -> dict:
    usage = {"replies": 4, "seconds": 6.0}
    return {"passages": 3, "seconds": 9.0, "this_run": usage, "all_runs": usage, **changes}


@pytest.fixture
def augmented(make_bench):
    """`augmented(report)`: a bench whose run has made its own augmentation, with this report."""

    def make(content: object, *overrides: str, **kwargs):
        bench = make_bench(*overrides, **kwargs)
        bench.folder.mkdir(parents=True, exist_ok=True)
        (bench.folder / "augmentation.jsonl").touch()
        text = content if isinstance(content, str) else json.dumps(content)
        (bench.folder / "augmentation_report.json").write_text(text)
        return bench

    return make


class TestAugmentation:
    def test_its_seconds_are_spread_over_the_passages(self, augmented):
        bench = augmented(report(), trained=False)
        assert augmentation_seconds(bench.config, bench.folder) == 3.0

    @pytest.mark.parametrize(("at_once", "expected"), [(4, (9.0 + 12.0 / 4) / 3), (1, (9.0 + 12.0) / 3)])
    def test_replies_of_earlier_runs_count_as_many_at_a_time_as_were_asked(self, augmented, at_once, expected):
        bench = augmented(report(at_once=at_once, all_runs={"seconds": 18.0}), trained=False)
        assert augmentation_seconds(bench.config, bench.folder) == expected

    def test_reports_of_earlier_versions_tell_their_own_run_alone(self, augmented):
        bench = augmented(report(this_run={}, all_runs={}), trained=False)
        assert augmentation_seconds(bench.config, bench.folder) == 3.0

    def test_what_others_have_made_costs_nothing_here(self, augmented, tmp_path, make_bench):
        other = tmp_path / "other.jsonl"
        (passage, *_) = make_bench(trained=False).passages
        other.write_text(json.dumps({"passage_id": passage.id, "rewrites": ["So it is."]}) + "\n")
        bench = augmented(report(), f"data.augmentation={other}", trained=False)
        assert augmentation_seconds(bench.config, bench.folder) == 0.0
        assert augmentation_seconds(make_bench(trained=False).config, tmp_path / "elsewhere") == 0.0

    @pytest.mark.parametrize("content", ["{", "[]", {"seconds": 1}, report(seconds="long"), report(all_runs=3)])
    def test_a_damaged_report_is_refused_in_one_line(self, augmented, content):
        bench = augmented(content, trained=False)
        with pytest.raises(DataError, match=r"run train\.py augment again") as raised:
            augmentation_seconds(bench.config, bench.folder)
        assert "\n" not in str(raised.value)


class TestOffline:
    @pytest.mark.parametrize(
        ("name", "seconds"),
        [
            ("vanilla", 0.0),
            ("standard_rag", 0.0),
            ("flare", 0.0),
            ("da_rag", 3.0),
            ("poly_prag", 12.5 / 6 + 3.0),
            ("poly_prag_oracle", 12.5 / 6 + 3.0),
            ("poly_prag_query", (12.5 + 3.5) / 6 + 3.0),
            ("prag", 3.0),
        ],
    )
    def test_training_and_augmentation_count_where_they_are_needed(self, augmented, name, seconds):
        bench = augmented(report(), router=True)
        assert offline_seconds(build_method(MethodName(name), bench)) == pytest.approx(seconds)

    def test_expanding_the_index_needs_augmentation_too(self, augmented):
        bench = augmented(report(), "answering.expand_index=true")
        standard, vanilla = (build_method(MethodName(name), bench) for name in ("standard_rag", "vanilla"))
        assert (offline_seconds(standard), offline_seconds(vanilla)) == (3.0, 0.0)

    def test_prag_is_spread_over_the_passages_that_have_an_adapter(self, make_bench):
        bench = make_bench("prag.learning_rate=0.01", trained=False)
        prag = build_method(MethodName.PRAG, bench)
        bench.adapters.encode(bench.passages[:2])
        assert prag.trained_passages == 2
        assert offline_seconds(prag) == pytest.approx(prag.train_seconds / 2)

    def test_an_index_counts_where_the_store_tells_its_seconds(self):
        store = SimpleNamespace(manifest=SimpleNamespace(training={"seconds": 1.0, "index_seconds": 0.5}))
        bench = SimpleNamespace(has_store=True, store=store, passages=(1, 2))
        told = {"bench": bench, "train_seconds": 4.0, "trained_passages": 2, "needs_augmentation": False}
        assert offline_seconds(SimpleNamespace(**told, retrieves=True)) == 2.25
        assert offline_seconds(SimpleNamespace(**told, retrieves=False)) == 2.0
