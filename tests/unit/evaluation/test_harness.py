import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from compatible_server import serving
from rich.console import Console

from polyprag.answering.generation import Generated
from polyprag.chat import pace
from polyprag.config import MethodName
from polyprag.config.keys import config_values
from polyprag.errors import ConfigError, DataError, ModelError, StoreError
from polyprag.evaluation.harness import CHOICES, TABLE, TABLE_CSV, TABLE_TEX, VERDICTS, Harness
from polyprag.evaluation.results import ANSWERS, RESULTS
from polyprag.evaluation.statistics import paired_difference
from polyprag.methods.method import PromptMethod
from polyprag.methods.poly_prag import PolyPrag
from polyprag.methods.workbench import STEPS, Answered, Workbench
from polyprag.training.controls import control_config, control_folder

VANILLA, RAG, POLY = MethodName.VANILLA, MethodName.STANDARD_RAG, MethodName.POLY_PRAG
QUERY = MethodName.POLY_PRAG_QUERY
SETTLED = ("answering.shots=0", "answering.passages=1", "answering.combine=sum")


def harness(bench: Workbench) -> Harness:
    return Harness(bench, Console(file=io.StringIO()))


def rows_in(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / ANSWERS).read_text(encoding="utf-8").splitlines()]


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run" / "evaluation"


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """Ids of the questions of every batch that a method answers from now on."""
    batches: list[list[str]] = []
    for family in (PromptMethod, PolyPrag):

        def recorded(self, questions, setting, answer=family.answer):
            batches.append([question.id for question in questions])
            return answer(self, questions, setting)

        monkeypatch.setattr(family, "answer", recorded)
    return batches


@pytest.fixture
def knows_with_two_shots(monkeypatch) -> None:
    """Prompt methods that answer rightly if and only if they are shown two examples."""

    def answer(self, questions, setting):
        texts = [question.answers[0] if setting.shots == 2 else "no idea" for question in questions]
        seconds = dict.fromkeys(STEPS, 0.0)
        return [Answered(Generated(text, text, 1), (), (), 1, seconds) for text in texts]

    monkeypatch.setattr(PromptMethod, "answer", answer)


class TestAnswers:
    def test_every_question_is_answered_once_and_kept(self, make_bench, folder):
        bench = make_bench(*SETTLED)
        results = harness(bench).run([VANILLA, POLY])
        rows = rows_in(folder)
        assert [row["method"] for row in rows] == ["vanilla"] * 8 + ["poly_prag"] * 8
        ids = [question.id for question in bench.knowledge.test]
        assert [row["question_id"] for row in rows] == ids + ids
        for row, question in zip(rows, bench.knowledge.test * 2, strict=True):
            assert row["gold"] == list(question.answers)
            assert (row["question"], row["type"]) == (question.text, question.type)
            assert list(row["seconds"]) == list(STEPS)
            assert len(row["top_experts"]) == (3 if row["method"] == "poly_prag" else 0)
        for name in ("vanilla", "poly_prag"):
            scores = [row["scores"]["f1"] for row in rows if row["method"] == name]
            assert results["methods"][name]["f1"] == pytest.approx(sum(scores) / len(scores))

    def test_a_choice_is_kept_with_its_confidence(self, make_bench, folder):
        bench = make_bench(*SETTLED, "answering.abstain_below=0.5", router=True)
        results = harness(bench).run([VANILLA, RAG, POLY, QUERY])
        gold = {question.id: question.passage_ids for question in bench.knowledge.test}
        rows = {name: [row for row in rows_in(folder) if row["method"] == name] for name in results["methods"]}
        assert {(row["own_first"], row["confidence"]) for row in rows["vanilla"]} == {(None, None)}
        for name in ("standard_rag", "poly_prag", "poly_prag_query"):
            own = [row["retrieved"][0] in gold[row["question_id"]] for row in rows[name]]
            assert [row["own_first"] for row in rows[name]] == own
            assert results["methods"][name]["own_first"] == pytest.approx(sum(own) / len(own))
        assert {row["confidence"] for row in rows["standard_rag"]} == {None}
        for name in ("poly_prag", "poly_prag_query"):
            said = [row["confidence"] for row in rows[name]]
            assert all(one["abstained"] == (one["margin"] < 0.5) for one in said)
            assert results["methods"][name]["abstained"] == sum(one["abstained"] for one in said) / len(said)

    def test_batches_are_as_large_as_configured(self, make_bench, asked):
        harness(make_bench(*SETTLED, "answering.batch_size=1", trained=False)).run([VANILLA])
        assert [len(batch) for batch in asked] == [1, 4, 4]  # the first call warms up, the others are four batches each

    def test_a_second_call_answers_nothing_again(self, make_bench, folder, asked):
        first = harness(make_bench(*SETTLED)).run([VANILLA, POLY])
        before = (folder / ANSWERS).read_bytes()
        asked.clear()
        second = harness(make_bench(*SETTLED)).run([VANILLA, POLY])
        assert not asked
        assert (folder / ANSWERS).read_bytes() == before
        assert second == first

    @pytest.mark.parametrize("torn", [0, 40])
    def test_after_a_cut_only_what_is_missing_is_answered(self, make_bench, folder, asked, torn):
        first = harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        lines = (folder / ANSWERS).read_bytes().splitlines(keepends=True)
        kept = b"".join(lines[:4])
        (folder / ANSWERS).write_bytes(kept + lines[4][:torn])
        (folder / RESULTS).unlink()
        asked.clear()
        second = harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        missing = [json.loads(line)["question_id"] for line in lines[4:]]
        assert asked[0] == missing[:1]
        assert [id_ for batch in asked[1:] for id_ in batch] == missing
        assert (folder / ANSWERS).read_bytes().startswith(kept)
        assert [row["question_id"] for row in rows_in(folder)] == [json.loads(line)["question_id"] for line in lines]
        for key in ("n", "f1", "em", "contains", "by_type", "choice"):
            assert second["methods"]["vanilla"][key] == first["methods"]["vanilla"][key]

    @pytest.mark.parametrize("change", ["answering.max_new_tokens=3", "answering.shots=1"])
    def test_answers_under_other_settings_are_not_taken_for_these(self, make_bench, folder, asked, change):
        harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        asked.clear()
        harness(make_bench(*SETTLED, change, trained=False)).run([VANILLA])
        assert Counter(id_ for batch in asked[1:] for id_ in batch) == Counter(
            row["question_id"] for row in rows_in(folder)[:8]
        )
        assert len(rows_in(folder)) == 16

    def test_other_batches_or_seeds_of_the_bootstrap_do_not_ask_again(self, make_bench, asked):
        harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        asked.clear()
        harness(make_bench(*SETTLED, "answering.batch_size=8", "evaluation.bootstrap=200", trained=False)).run(
            [VANILLA]
        )
        assert not asked


class TestChoices:
    def test_the_best_setting_on_validation_questions_is_taken(self, make_bench, folder, knows_with_two_shots):
        bench = make_bench("answering.passages=1", trained=False)
        results = harness(bench).run([VANILLA, RAG])
        for name in ("vanilla", "standard_rag"):
            choice = results["methods"][name]["choice"]
            assert choice["shots"] == 2
            assert [(entry["shots"], entry["f1"]) for entry in choice["tried"]] == [(0, 0.0), (2, 1.0), (4, 0.0)]
            assert results["methods"][name]["f1"] == 1.0
        recorded = list(json.loads((folder / CHOICES).read_text()).values())
        assert [(entry["method"], entry["questions"]) for entry in recorded] == [("vanilla", 2), ("standard_rag", 2)]

    def test_it_is_made_once(self, make_bench, folder, monkeypatch):
        first = harness(make_bench(trained=False)).run([VANILLA])
        before = (folder / CHOICES).read_bytes()

        def refuse(self, questions, setting):
            raise AssertionError("asked again")

        monkeypatch.setattr(PromptMethod, "answer", refuse)
        second = harness(make_bench(trained=False)).run([VANILLA])
        assert second["methods"]["vanilla"]["choice"] == first["methods"]["vanilla"]["choice"]
        assert (folder / CHOICES).read_bytes() == before

    def test_validation_questions_are_no_test_questions(self, make_bench, asked, folder):
        bench = make_bench(trained=False)
        harness(bench).run([VANILLA])
        apart = {question.id for question in bench.knowledge.validation}
        assert len(apart) == 2
        assert sum(set(batch) <= apart for batch in asked) == 3  # one batch for each number of examples
        assert not apart & {row["question_id"] for row in rows_in(folder)}

    def test_of_equals_the_first_is_taken(self, make_bench, monkeypatch, knows_with_two_shots):
        monkeypatch.setattr("polyprag.methods.method.SHOT_CHOICES", (4, 0))
        choice = harness(make_bench(trained=False)).run([VANILLA])["methods"]["vanilla"]["choice"]
        assert choice["shots"] == 4

    @pytest.mark.parametrize("override", ["evaluation.choose_questions=0", "data.validation_questions=0"])
    def test_without_validation_questions_the_first_is_taken(self, make_bench, folder, override):
        choice = harness(make_bench(override, trained=False)).run([VANILLA])["methods"]["vanilla"]["choice"]
        assert choice == {"passages": 0, "combine": "sum", "shots": 0}
        assert not (folder / CHOICES).exists()


class TestResults:
    def test_they_are_returned_and_written(self, make_bench, folder):
        bench = make_bench(*SETTLED)
        results = harness(bench).run([VANILLA, POLY])
        assert json.loads((folder / RESULTS).read_text()) == json.loads(json.dumps(results))
        assert results["run"]["store"] == bench.store.manifest.digest
        assert results["data"]["types"] == dict(sorted(Counter(q.type for q in bench.knowledge.test).items()))
        assert results["data"]["passages"] == 6
        assert [(entry["a"], entry["b"]) for entry in results["differences"]] == [("vanilla", "poly_prag")]
        assert results["run"]["config"] == json.loads(json.dumps(config_values(bench.config)))
        measured = results["data"]
        assert measured["recall"]["questions"] == 8
        assert measured["card"]["passages"] == 6
        assert json.loads((folder / "data_card.json").read_text())["recall"] == measured["recall"]["at"]
        table = (folder / TABLE).read_text()
        assert "**Data**" in table
        rows = csv.DictReader((folder / TABLE_CSV).read_text().splitlines())
        assert {row["method"]: float(row["f1"]) for row in rows} == {
            name: result["f1"] for name, result in results["methods"].items()
        }
        assert r"\texttt{poly\_prag}" in (folder / TABLE_TEX).read_text()
        assert "`vanilla`" in table
        assert "`poly_prag`" in table

    def test_several_calls_merge_by_method(self, make_bench, folder):
        first = harness(make_bench(*SETTLED)).run([VANILLA])
        second = harness(make_bench(*SETTLED)).run([RAG, POLY])
        assert list(second["methods"]) == ["vanilla", "standard_rag", "poly_prag"]
        vanilla = dict(second["methods"]["vanilla"])
        assert vanilla.pop("break_even", 0.0) in (0.0, None)  # it is there now, and rests on times
        assert vanilla == first["methods"]["vanilla"]
        again = harness(make_bench(*SETTLED)).run([VANILLA])
        assert again["methods"].keys() == second["methods"].keys()
        assert json.loads((folder / RESULTS).read_text())["methods"].keys() == second["methods"].keys()

    def test_methods_of_several_calls_are_compared_like_those_of_one(self, make_bench, tmp_path):
        harness(make_bench(*SETTLED)).run([VANILLA, RAG])
        harness(make_bench(*SETTLED)).run([POLY])
        apart = harness(make_bench(*SETTLED)).run([RAG])
        together = harness(make_bench(*SETTLED, "evaluation.dir=together")).run([VANILLA, RAG, POLY])
        pairs = {frozenset((entry["a"], entry["b"])): abs(entry["mean"]) for entry in together["differences"]}
        assert len(pairs) == 3
        assert {frozenset((e["a"], e["b"])): abs(e["mean"]) for e in apart["differences"]} == pairs
        assert {e["p_holm"] for e in apart["differences"]} == {e["p_holm"] for e in together["differences"]}

    @pytest.mark.parametrize(
        ("change", "void"),
        [
            ("flare.threshold=0.1", {"flare"}),
            ("prag.alpha=7", {"prag"}),
            ("prag.parallel=4", set()),
            ("answering.max_new_tokens=3", {"vanilla", "flare", "prag"}),
            ("evaluation.bootstrap=200", set()),
        ],
    )
    def test_results_of_other_settings_leave_the_table(self, make_bench, change, void, asked):
        first = harness(make_bench(*SETTLED)).run([VANILLA, MethodName.FLARE, MethodName.PRAG])
        now = harness(make_bench(*SETTLED, change)).run([RAG])
        assert now["methods"].keys() == first["methods"].keys() - void | {"standard_rag"}
        assert all(void.isdisjoint((entry["a"], entry["b"])) for entry in now["differences"])

    @pytest.mark.parametrize(
        ("change", "void"),
        [
            ("answering.combine_scale=0.5", {"poly_prag_combine"}),
            ("answering.abstain_below=0.5", {"poly_prag", "poly_prag_combine"}),
            ("answering.abstain_to=standard_rag", set()),
        ],
    )
    def test_so_do_those_of_another_strength_or_trust(self, make_bench, change, void):
        first = harness(make_bench(*SETTLED)).run([POLY, MethodName.POLY_PRAG_COMBINE, MethodName.POLY_PRAG_ORACLE])
        now = harness(make_bench(*SETTLED, change)).run([VANILLA])
        assert now["methods"].keys() == first["methods"].keys() - void | {"vanilla"}

    def test_two_calls_at_once_keep_each_others_results(self, make_bench, monkeypatch):
        inner = harness(make_bench(*SETTLED))

        def answer(self, questions, setting, plain=PolyPrag.answer):
            if not inner_done:
                inner_done.append(inner.run([VANILLA]))
            return plain(self, questions, setting)

        inner_done: list = []
        monkeypatch.setattr(PolyPrag, "answer", answer)
        assert harness(make_bench(*SETTLED)).run([POLY])["methods"].keys() == {"poly_prag", "vanilla"}

    def test_a_store_trained_anew_makes_earlier_results_void(self, make_bench, train_at_random, tmp_path, asked):
        bench = make_bench(*SETTLED)
        harness(bench).run([VANILLA, POLY])
        train_at_random(bench.config, tmp_path / "run", seed=1)
        asked.clear()
        results = harness(make_bench(*SETTLED)).run([POLY])
        assert list(results["methods"]) == ["poly_prag"]
        assert sorted(id_ for batch in asked[1:] for id_ in batch) == sorted(q.id for q in bench.knowledge.test)
        asked.clear()
        results = harness(make_bench(*SETTLED)).run([VANILLA])
        assert list(results["methods"]) == ["poly_prag", "vanilla"]
        assert not asked  # what the base model says does not depend on the store

    def test_so_does_a_query_router_for_its_own_methods(self, make_bench, add_router, tmp_path, asked):
        bench = make_bench(*SETTLED, router=True)
        harness(bench).run([POLY, QUERY])
        add_router(bench.config, tmp_path / "run", seed=1)
        asked.clear()
        results = harness(make_bench(*SETTLED)).run([POLY])
        assert not asked
        assert list(results["methods"]) == ["poly_prag"]  # what the old router answered is no result of this run
        assert not results["differences"]
        harness(make_bench(*SETTLED)).run([QUERY])
        assert sorted(id_ for batch in asked[1:] for id_ in batch) == sorted(q.id for q in bench.knowledge.test)

    @pytest.mark.parametrize("fate", ["trained anew", "gone"])
    def test_so_does_a_control_for_those_who_answer_by_it(self, make_bench, train_at_random, tmp_path, fate):
        apart, formatted = (*SETTLED, "data.max_passages=4", "controls.passages=2"), MethodName.STANDARD_RAG_FORMAT
        bench, folder = make_bench(*apart), control_folder(tmp_path / "run", MethodName.FORMAT_LORA)
        control = control_config(bench.config, MethodName.FORMAT_LORA)
        train_at_random(control, folder)
        harness(bench).run([RAG, formatted])
        assert list(harness(make_bench(*apart)).run([VANILLA])["methods"]) == ["standard_rag", formatted, "vanilla"]
        shutil.rmtree(folder)
        if fate == "trained anew":
            train_at_random(control, folder, seed=1)
        assert list(harness(make_bench(*apart)).run([VANILLA])["methods"]) == ["standard_rag", "vanilla"]

    def test_a_limit_is_stratified_over_types_and_stated(self, make_bench):
        results = harness(make_bench(*SETTLED, "data.limit=5", "data.limit_seed=7", trained=False)).run([VANILLA])
        assert results["data"]["types"] == {"comparison": 2, "one_hop": 3}  # of four and six
        assert (results["data"]["limit"], results["data"]["limit_seed"]) == (5, 7)
        by_type = results["methods"]["vanilla"]["by_type"]
        assert {name: entry["n"] for name, entry in by_type.items()} == {"comparison": 2, "one_hop": 3}

    def test_one_limit_draws_the_same_questions_each_time(self, make_bench, asked, folder):
        harness(make_bench(*SETTLED, "data.limit=5", trained=False)).run([VANILLA])
        asked.clear()
        harness(make_bench(*SETTLED, "data.limit=5", trained=False)).run([VANILLA])
        assert not asked
        assert len(rows_in(folder)) == 5


class TestRefusals:
    def test_other_questions_are_refused_before_any_is_answered(self, make_bench, folder, asked):
        harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        before = snapshot(folder)
        asked.clear()
        with pytest.raises(DataError, match=r"data\.sha256 .*set another evaluation\.dir, or move") as caught:
            harness(make_bench(*SETTLED, "data.limit=3", trained=False)).run([RAG])
        assert "\n" not in str(caught.value)
        assert not asked
        assert snapshot(folder) == before

    @pytest.mark.parametrize("name", ["results.json", "choices.json"])
    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_damaged_files_are_refused_by_name(self, make_bench, folder, name, content):
        bench = make_bench(trained=False)
        path = bench.folder / bench.config.evaluation.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        with pytest.raises(DataError, match=name):
            harness(bench).run([VANILLA])

    def test_another_evaluation_folder_takes_them(self, make_bench, folder):
        harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        harness(make_bench(*SETTLED, "data.limit=3", "evaluation.dir=three", trained=False)).run([VANILLA])
        assert len(rows_in(folder)) == 8
        assert len(rows_in(folder.parent / "three")) == 3

    def test_a_missing_store_is_refused_before_any_question_is_answered(self, make_bench, folder, asked):
        with pytest.raises(ConfigError, match="no store there; train one first"):
            harness(make_bench(*SETTLED, trained=False)).run([VANILLA, POLY])
        assert not asked
        assert not folder.exists()

    @pytest.mark.parametrize("name", [QUERY, MethodName.GLOBAL_LORA, MethodName.FORMAT_LORA])
    def test_so_is_what_a_later_stage_would_have_trained(self, make_bench, folder, asked, name):
        verb = "router" if name is QUERY else "controls"
        with pytest.raises((ConfigError, StoreError), match=rf"python train\.py {verb} run\.dir="):
            harness(make_bench(*SETTLED)).run([VANILLA, name])
        assert not asked
        assert not folder.exists()

    def test_a_store_of_another_base_model_likewise(self, make_bench, folder, asked, other_model_folder):
        make_bench(*SETTLED)
        with pytest.raises(StoreError, match="belongs to base model"):
            harness(make_bench(*SETTLED, f"base.model={other_model_folder}")).run([VANILLA])
        assert not asked
        assert not folder.exists()

    def test_a_control_without_gold_likewise(self, make_bench, folder, asked, library_files, tmp_path):
        questions = tmp_path / "questions.jsonl"
        questions.write_text('{"question": "Who?", "answers": ["Mira"]}\n')
        bench = make_bench(*SETTLED, f"data.questions={questions}")
        with pytest.raises(DataError, match="has no gold passage in the store; leave oracle, uniform"):
            harness(bench).run([VANILLA, MethodName.POLY_PRAG_ORACLE])
        assert not asked
        assert not folder.exists()

    def test_no_question_at_all(self, make_bench):
        says = r"^there are no test questions: name some in data\.questions, .* inspect question=…` needs none$"
        with pytest.raises(DataError, match=says):
            harness(make_bench("data.questions=", "data.train_qas=3", trained=False))


def test_a_plan_writes_nothing_and_checks_everything(make_bench, folder, tmp_path):
    bench = make_bench()
    before = snapshot(tmp_path)
    lines = harness(bench).plan([VANILLA, POLY])
    assert lines[0] == "8 test questions, 2 validation questions to choose on"
    assert lines[1].startswith("vanilla: 3 settings, such as ")
    assert lines[2].startswith("poly_prag: 7 settings, such as ")
    assert snapshot(tmp_path) == before
    untrained = Workbench(bench.config, bench.knowledge, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no store there"):
        harness(untrained).plan([POLY])


class TestCosts:
    def test_all_of_them_are_measured(self, make_bench, folder):
        results = harness(make_bench(*SETTLED, "answering.batch_size=4")).run([RAG, POLY])
        for name, found in results["methods"].items():
            rows = [row for row in rows_in(folder) if row["method"] == name]
            taken = 8 * sum(rows[0]["seconds"].values())
            waited = [row["first_token_seconds"] for row in rows]
            assert 0 < min(waited) <= max(waited) <= taken + 0.05
            assert found["seconds_to_first_token"] == pytest.approx(sum(waited) / 8)
            assert found["tokens_in"] == found["prompt_tokens"]
            assert found["tokens_out"] == found["generated_tokens"]
            peaks = [row["peak_memory_bytes"] for row in rows]
            assert found.get("peak_memory_bytes") == (max(peaks) if None not in peaks else None)
        assert results["methods"]["standard_rag"]["offline_seconds_per_passage"] == 0.0
        assert results["methods"]["poly_prag"]["offline_seconds_per_passage"] == 12.5 / 6

    def test_they_survive_a_call_that_answers_nothing(self, make_bench, folder):
        first = harness(make_bench(*SETTLED)).run([RAG, POLY])
        (folder / RESULTS).unlink()
        second = harness(make_bench(*SETTLED)).run([RAG, POLY])
        assert second["methods"] == first["methods"]

    def test_answers_of_earlier_versions_are_summed_up_without(self, make_bench, folder):
        harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        rows = rows_in(folder)
        for row in rows:
            del row["first_token_seconds"], row["peak_memory_bytes"]
        (folder / ANSWERS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        found = harness(make_bench(*SETTLED, trained=False)).run([VANILLA])["methods"]["vanilla"]
        assert not {"seconds_to_first_token", "peak_memory_bytes"} & set(found)
        assert {"tokens_in", "tokens_out"} <= set(found)


class TestEconomy:
    def test_each_pair_is_compared_once(self, make_bench, monkeypatch):
        pairs = []

        def counted(a_N, b_N, resamples, seed):
            pairs.append((a_N.tolist(), b_N.tolist()))
            return paired_difference(a_N, b_N, resamples, seed)

        monkeypatch.setattr("polyprag.evaluation.differences.paired_difference", counted)
        results = harness(make_bench(*SETTLED)).run([VANILLA, RAG, POLY])
        assert len(pairs) == 3
        order = [("vanilla", "standard_rag"), ("vanilla", "poly_prag"), ("standard_rag", "poly_prag")]
        assert [(entry["a"], entry["b"]) for entry in results["differences"]] == order

    def test_results_are_there_after_every_method(self, make_bench, folder, monkeypatch):
        def ends(self, questions, settings, own=None):
            raise KeyboardInterrupt

        monkeypatch.setattr(PolyPrag, "prepare", ends)
        with pytest.raises(KeyboardInterrupt):
            harness(make_bench(*SETTLED)).run([VANILLA, RAG, POLY])
        results = json.loads((folder / RESULTS).read_text())
        assert list(results["methods"]) == ["vanilla", "standard_rag"]
        assert len(results["differences"]) == 1
        assert "card" not in results["data"]
        monkeypatch.undo()
        assert "card" in harness(make_bench(*SETTLED)).run([VANILLA])["data"]

    def test_the_data_are_measured_once(self, make_bench, folder, monkeypatch):
        first = harness(make_bench(*SETTLED)).run([VANILLA])
        monkeypatch.setattr("polyprag.evaluation.data.card_of_run", lambda *_: pytest.fail("measured again"))
        second = harness(make_bench(*SETTLED)).run([VANILLA])
        assert second["data"] == first["data"]
        monkeypatch.undo()
        (folder / "data_card.md").unlink()
        harness(make_bench(*SETTLED)).run([VANILLA])
        assert (folder / "data_card.md").exists()

    def test_other_data_are_measured_anew(self, make_bench, folder, library_files, tmp_path):
        first = harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        more = tmp_path / "more.jsonl"
        more.write_text('{"passage_id": "p0", "qa": [{"question": "Whence came Mira?", "answer": "Arlen"}]}\n')
        second = harness(make_bench(*SETTLED, f"data.augmentation={more}", trained=False)).run([VANILLA])
        assert second["data"]["measured_on"] != first["data"]["measured_on"]
        assert second["data"]["card"] != first["data"]["card"]


class TestJudge:
    @pytest.fixture
    def judge(self, tmp_path, monkeypatch) -> tuple[str, ...]:
        """Overrides of a judge, but for its URL."""
        monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        return ("evaluation.judge=m", f"evaluation.judge_cache={tmp_path / 'cache'}", "evaluation.judge_retries=1")

    def test_verdicts_stand_in_results_and_beside_the_answers(self, make_bench, folder, judge):
        with serving() as server:
            bench = make_bench(*SETTLED, *judge, f"evaluation.judge_url={server.url}")
            results = harness(bench).run([VANILLA, POLY])
            assert harness(bench).run([VANILLA, POLY]) == results
            different = {(row["question"], row["prediction"]) for row in rows_in(folder) if row["prediction"]}
            assert len(server.bodies) == len(different)
        rows = [json.loads(line) for line in (folder / VERDICTS).read_text(encoding="utf-8").splitlines()]
        assert len(rows) == 16
        for name, found in results["methods"].items():
            own = [row["correct"] for row in rows if row["method"] == name]
            assert (found["judge"], found["judge_n"]) == (sum(own) / 8, 8)
            assert found["judge_by"].startswith("m, judge-1-")
        assert "| judge |" in (folder / TABLE).read_text()
        assert json.loads((folder / RESULTS).read_text())["methods"] == results["methods"]

    def test_without_a_server_all_answers_and_results_are_kept(self, make_bench, folder, judge, asked):
        bench = make_bench(*SETTLED, *judge, "evaluation.judge_url=http://127.0.0.1:9/v1", trained=False)
        with pytest.raises(ModelError, match=r"^evaluation\.judge_url=http://127\.0\.0\.1:9/v1: no server answers"):
            harness(bench).run([VANILLA])
        assert "judge" not in json.loads((folder / RESULTS).read_text())["methods"]["vanilla"]
        asked.clear()
        with serving() as server:
            bench = make_bench(*SETTLED, *judge, f"evaluation.judge_url={server.url}", trained=False)
            assert "judge" in harness(bench).run([VANILLA])["methods"]["vanilla"]
        assert not asked

    def test_a_judge_is_no_part_of_what_answers_depend_on(self, make_bench, folder, judge, asked):
        harness(make_bench(*SETTLED, trained=False)).run([VANILLA])
        asked.clear()
        with serving() as server:
            bench = make_bench(*SETTLED, *judge, f"evaluation.judge_url={server.url}", trained=False)
            harness(bench).run([VANILLA])
        assert not asked
