import dataclasses
import io
import json
import math

import pytest
import torch
from rich.console import Console

from polyprag.answering.query_router import QueryRouter, measure_keys
from polyprag.answering.question_encoder import build_encoder
from polyprag.answering.question_routing import CONSIDERED
from polyprag.config import Combine, MethodName, RouterDesign
from polyprag.errors import ConfigError, DataError, StoreError
from polyprag.evaluation.gate_measures import ExpertUse, without_strongest
from polyprag.evaluation.inspection import Inspection, asked, inspect, routings, setting_of
from polyprag.evaluation.inspection_report import MOST_EXPERTS, inspection_grids, print_inspection
from polyprag.knowledge.prompts import with_title
from polyprag.methods.poly_prag import PolyPrag
from polyprag.methods.workbench import Setting, Workbench
from polyprag.router_store import RouterFacts, write_router

KNOWN = "Which town did Ilse Quarn come from?"
COMPARED = "Who was older, Mira Tolk or Jon Veld?"
UNKNOWN = "Which craft was Runa Hale known for?"
GROUPS, EXPERTS = 9, 3


def add_router(bench: Workbench, design: RouterDesign = RouterDesign.ATTENTION) -> Workbench:
    """Leave an untrained query router beside the store."""
    config, store = bench.config, bench.store
    encoder = build_encoder(config.router, bench.base)
    passages, groups, experts = store.rows_NGK.shape
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = QueryRouter(
            design,
            passages=passages,
            groups=groups,
            experts=experts,
            size=encoder.size,
            vocabulary=encoder.vocabulary,
            hidden=8,
            routing=config.routing,
        )
    router.start_from(measure_keys(encoder, [[with_title(passage)] for passage in store.passages]))
    facts = RouterFacts(
        store=store.manifest.digest,
        design=design,
        encoder="",
        layers=0,
        hidden=8,
        passages=passages,
        groups=groups,
        experts=experts,
        normalisation=config.routing.normalisation,
        top_k=config.routing.top_k,
        settings={},
        training={"seconds": 1.0},
    )
    write_router(bench.folder / "router", router, facts)
    return bench


def snapshot(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def gates_of_rows(bench: Workbench) -> torch.Tensor:
    """The normalised sigmoid of the stored rows, written out in float64."""
    sigmoid_NGK = 1 / (1 + torch.exp(-bench.store.rows_NGK.double()))
    return sigmoid_NGK / sigmoid_NGK.sum(-1, keepdim=True)


def write_choice(bench: Workbench, method: str, store: str | None = None, **choice: object) -> None:
    folder = bench.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    digest = bench.store.manifest.digest if store is None else store
    content = {"run": {"store": digest}, "methods": {method: {"choice": {"tried": [], **choice}}}}
    (folder / "results.json").write_text(json.dumps(content))


def printed(inspection: Inspection, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_inspection(inspection, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestQuestion:
    def test_a_known_question_brings_its_gold_passages(self, make_bench):
        question = asked(make_bench(trained=False), f"  {KNOWN.upper()} ")
        assert question.text == KNOWN.upper()
        assert (question.answers, question.passage_ids) == (("Corvo",), ("p2",))

    def test_an_unknown_one_has_none(self, make_bench):
        question = asked(make_bench(trained=False), UNKNOWN)
        assert (question.text, question.passage_ids) == (UNKNOWN, ())

    @pytest.mark.parametrize("text", ["", "  \t "])
    def test_an_empty_one_is_refused(self, make_bench, text):
        with pytest.raises(ConfigError, match=r"^evaluation\.question is empty; give .*: question='Where was …\?'$"):
            inspect(make_bench(trained=False), text)


class TestRoutings:
    def names(self, bench: Workbench, text: str) -> list[str]:
        return [method.name.value for method in routings(bench, asked(bench, text))]

    def test_what_the_run_and_the_question_allow(self, make_bench):
        bench = make_bench()
        assert self.names(bench, UNKNOWN) == ["poly_prag"]
        assert self.names(bench, KNOWN) == ["poly_prag", "poly_prag_oracle"]
        add_router(bench)
        assert self.names(bench, UNKNOWN) == ["poly_prag", "poly_prag_query", "poly_prag_hybrid"]
        assert self.names(bench, KNOWN) == ["poly_prag", "poly_prag_query", "poly_prag_hybrid", "poly_prag_oracle"]

    def test_no_store(self, make_bench):
        with pytest.raises(ConfigError, match="no store there; train one first"):
            inspect(make_bench(trained=False), UNKNOWN)

    def test_a_damaged_router(self, make_bench):
        bench = add_router(make_bench())
        path = bench.folder / "router" / "router.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(StoreError, match="is damaged"):
            inspect(bench, UNKNOWN)


class TestSetting:
    def method(self, bench: Workbench) -> PolyPrag:
        return PolyPrag(MethodName.POLY_PRAG, bench)

    def test_the_first_without_an_evaluation(self, make_bench):
        assert setting_of(self.method(make_bench())) == Setting(1, Combine.SUM)

    def test_what_the_evaluation_has_chosen(self, make_bench):
        bench = make_bench()
        write_choice(bench, "poly_prag", passages=3, combine="mean", shots=0)
        assert setting_of(self.method(bench)) == Setting(3, Combine.MEAN)

    def test_the_configuration_goes_before_it(self, make_bench):
        bench = make_bench("answering.passages=2")
        write_choice(bench, "poly_prag", passages=3, combine="mean", shots=0)
        assert setting_of(self.method(bench)) == Setting(2, Combine.SUM)

    @pytest.mark.parametrize(("method", "store"), [("vanilla", None), ("poly_prag", "another")])
    def test_other_methods_and_other_stores_do_not_count(self, make_bench, method, store):
        bench = make_bench()
        write_choice(bench, method, store, passages=3, combine="mean", shots=0)
        assert setting_of(self.method(bench)) == Setting(1, Combine.SUM)

    @pytest.mark.parametrize("content", ["{", "[]", "{}"])
    def test_damaged_results(self, make_bench, content):
        bench = make_bench()
        (bench.folder / "evaluation").mkdir()
        (bench.folder / "evaluation" / "results.json").write_text(content)
        with pytest.raises(DataError, match=r"results\.json: not the results of an evaluation; delete the file"):
            setting_of(self.method(bench))


class TestInspection:
    @pytest.mark.parametrize("text", [COMPARED, UNKNOWN])
    def test_passage_routing_shows_weights_and_gates(self, make_bench, text):
        bench = make_bench("answering.passages=2", "answering.combine=mean")
        view = inspect(bench, text).routings[0]

        hits = bench.retriever.search([text], CONSIDERED)[0]
        mass = sum(math.exp(hit.score) for hit in hits)
        weights = [math.exp(hit.score) / mass for hit in hits]
        shown = hits[:5]
        assert [candidate.passage for candidate in view.candidates] == [bench.passages[hit.position] for hit in shown]
        assert [candidate.weight for candidate in view.candidates] == pytest.approx(weights[:5], abs=1e-5)
        assert [candidate.chosen for candidate in view.candidates] == [True, True, False, False, False][: len(shown)]
        assert [candidate.gold for candidate in view.candidates] == [
            text == COMPARED and bench.passages[hit.position].id in {"p0", "p1"} for hit in shown
        ]
        assert view.margin == pytest.approx(weights[0] - weights[1], abs=1e-5)
        entropy = -sum(weight * math.log(weight) for weight in weights) / math.log(len(weights))
        assert view.entropy == pytest.approx(entropy, abs=1e-5)

        gates_GK = gates_of_rows(bench)[[hit.position for hit in hits[:2]]].mean(0)
        assert [use.mean_gate for use in view.experts] == pytest.approx(gates_GK.mean(0).tolist(), abs=1e-4)
        strongest = gates_GK.argmax(-1).tolist()
        shares = [strongest.count(expert) / GROUPS for expert in range(EXPERTS)]
        assert [use.strongest for use in view.experts] == pytest.approx(shares)
        assert view.active == EXPERTS
        order = sorted(range(GROUPS), key=lambda group: -float(gates_GK[group].max()))[:3]
        assert [group.name for group in view.groups] == [bench.store.manifest.group_names[at] for at in order]
        assert [group.expert for group in view.groups] == [strongest[at] for at in order]
        assert [group.share for group in view.groups] == pytest.approx(gates_GK.amax(-1)[order].tolist(), abs=1e-4)

    def test_each_answer_is_that_under_its_gates(self, make_bench, generations):
        bench = make_bench("answering.passages=1", "answering.combine=sum")
        found = inspect(bench, COMPARED)
        assert (found.question, found.gold) == (COMPARED, ("Mira Tolk",))
        (hit,) = bench.retriever.search([COMPARED], 1)[0]
        rows_NGK = gates_of_rows(bench).float()
        chosen_GK, oracle_GK = rows_NGK[hit.position], rows_NGK[0] + rows_NGK[1]
        expected_BGK = torch.stack(
            [
                *(chosen_GK, without_strongest(chosen_GK), torch.full((GROUPS, EXPERTS), 1 / EXPERTS)),
                *(oracle_GK, without_strongest(oracle_GK), torch.full((GROUPS, EXPERTS), 2 / EXPERTS)),
            ]
        )
        (gated, alone) = generations
        torch.testing.assert_close(gated.gates_BGK, expected_BGK, atol=1e-4, rtol=0)
        assert alone.gates_BGK is None
        assert len(set(gated.prompts) | set(alone.prompts)) == 1
        answers = [answer.text for answer in gated.answers]
        shown = [text for view in found.routings for text in (view.answer, view.without, view.uniform)]
        assert shown == answers
        assert found.base == alone.answers[0].text

    def test_its_answers_are_those_of_the_methods(self, make_bench):
        bench = add_router(make_bench("answering.passages=2", "answering.combine=sum"))
        question = asked(bench, KNOWN)
        for view, method in zip(inspect(bench, KNOWN).routings, routings(bench, question), strict=True):
            method.prepare([question], [])
            (answered,) = method.answer([question], view.setting)
            assert view.answer == answered.generated.text
            chosen = [candidate.passage.id for candidate in view.candidates if candidate.chosen]
            assert chosen == list(answered.retrieved)
            assert (view.entropy, view.margin) == pytest.approx(
                (answered.confidence.entropy, answered.confidence.margin), abs=1e-6
            )

    @pytest.mark.parametrize("design", RouterDesign)
    def test_the_query_router_weighs_passages_by_its_attention(self, make_bench, design):
        bench = add_router(make_bench(), design)
        query = inspect(bench, UNKNOWN).routings[1]
        router = bench.stored_router.router
        questions_BD = router.represent(bench.question_encoder.encode([UNKNOWN]))
        attention_N = router.logits(questions_BD, bench.gates_NGK)[0].double().softmax(-1)
        best = attention_N.topk(5)
        assert [c.passage.id for c in query.candidates] == [bench.passages[at].id for at in best.indices]
        assert [c.weight for c in query.candidates] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [c.chosen for c in query.candidates] == [True, False, False, False, False]

    def test_one_chosen_passage_is_the_nearest_row_to_itself(self, make_bench):
        bench = make_bench("answering.passages=1")
        found = inspect(bench, KNOWN)
        assert len(found.nearest) == 5
        assert found.nearest[0].passage == found.routings[0].candidates[0].passage
        assert found.nearest[0].cosine == pytest.approx(1.0, abs=1e-4)
        cosines = [neighbour.cosine for neighbour in found.nearest]
        assert cosines == sorted(cosines, reverse=True)

    def test_a_question_that_finds_nothing_gets_the_base_model(self, make_bench):
        found = inspect(make_bench(), "Xyzzy?")
        (view,) = found.routings
        assert view.candidates == view.groups == found.nearest == found.gold == ()
        assert view.answer == view.without == view.uniform == found.base
        assert view.active == 0
        assert view.experts == tuple(ExpertUse(expert, 0.0, 0.0) for expert in range(EXPERTS))

    def test_a_margin_below_the_threshold_abstains(self, make_bench):
        margin = inspect(make_bench(), UNKNOWN).routings[0].margin
        assert 0.01 < margin < 0.99
        for below, expected in ((margin - 0.01, False), (margin + 0.01, True)):
            (passage,) = inspect(make_bench(f"answering.abstain_below={below}"), UNKNOWN).routings
            assert passage.abstains == expected
        passage, oracle = inspect(make_bench("answering.abstain_below=1.0"), COMPARED).routings
        assert (passage.abstains, oracle.abstains) == (True, False)

    def test_top_k_counts_the_active_experts(self, make_bench):
        (view,) = inspect(make_bench("routing.top_k=1"), UNKNOWN).routings
        assert view.active == 1
        assert all(group.share == pytest.approx(1, abs=1e-4) for group in view.groups)
        assert sum(use.strongest for use in view.experts) == pytest.approx(1)

    def test_it_writes_nothing(self, make_bench):
        bench = add_router(make_bench())
        before = snapshot(bench.folder)
        inspect(bench, KNOWN)
        assert snapshot(bench.folder) == before


class TestTables:
    @pytest.fixture
    def inspection(self, make_bench) -> Inspection:
        return inspect(add_router(make_bench("answering.passages=2")), KNOWN)

    def test_they_show_everything_in_a_hundred_columns(self, inspection):
        text = printed(inspection)
        for expected in (
            *("Answers", "How sure each routing is", "Passages considered", "Experts", "Most decided groups"),
            *("Nearest task rows", KNOWN, "gold", "Corvo", "base model alone"),
            *("passage", "query", "hybrid", "oracle", "uniform gates", "Ilse Quarn"),
        ):
            assert expected in text
        assert max(map(len, text.splitlines())) <= 100
        assert printed(inspection, width=60) == text

    def test_square_brackets_are_no_markup(self, inspection):
        text = printed(dataclasses.replace(inspection, question="[red]Who?[/red]"))
        assert "[red]Who?[/red]" in text

    def test_no_answer_is_a_dash(self, inspection):
        rows = inspection_grids(dataclasses.replace(inspection, base=""))[0].rows
        assert ("none", "base model alone", "–") in rows

    def test_what_is_empty_is_left_out(self, make_bench):
        text = printed(inspect(make_bench(), "Xyzzy?"))
        assert "Passages considered" not in text
        assert "Nearest" not in text
        assert "gold" not in text

    def test_of_a_large_pool_the_most_used_experts(self, inspection):
        experts = tuple(ExpertUse(expert, expert / 100, 0.0) for expert in range(40))
        views = tuple(dataclasses.replace(view, experts=experts) for view in inspection.routings)
        grid = inspection_grids(dataclasses.replace(inspection, routings=views))[3]
        assert [row[0] for row in grid.rows] == [str(expert) for expert in range(39, 39 - MOST_EXPERTS, -1)]
        assert grid.note.endswith("16 of 40 experts.")
