import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.config import Combine, MethodName
from polyprag.errors import ConfigError, DataError, StoreError
from polyprag.knowledge.prompts import with_title
from polyprag.knowledge.records import Question
from polyprag.methods.poly_prag import GIVEN_GOLD, PolyPrag, other_passages, top_experts
from polyprag.methods.workbench import STEPS, Setting

FAMILY = [name for name in MethodName if name.startswith("poly_prag")]
UNHEARD_OF = Question("x", "Xyzzy?", ("nothing",))
POSITIONS = {f"p{index}": index for index in range(6)}


def gates_of_passages(bench) -> torch.Tensor:
    """The normalised sigmoid of the stored rows, written out in float64."""
    sigmoid_NGK = 1 / (1 + torch.exp(-bench.store.rows_NGK.double()))
    return sigmoid_NGK / sigmoid_NGK.sum(-1, keepdim=True)


def asked(position: int, *gold: str) -> Question:
    return Question(f"q{position}", "?", ("a",), passage_ids=gold)


class TestOptions:
    @pytest.mark.parametrize("name", [MethodName.POLY_PRAG, MethodName.POLY_PRAG_COMBINE])
    def test_one_passage_needs_no_way_to_combine(self, make_bench, name):
        options = PolyPrag(name, make_bench(trained=False)).options()
        expected = [(1, "sum"), *((n, how) for n in (2, 3) for how in ("sum", "mean", "score"))]
        assert [(option.passages, option.combine) for option in options] == expected
        assert {option.shots for option in options} == {0}

    @pytest.mark.parametrize(
        ("overrides", "expected"),
        [
            (["answering.passages=2"], [(2, "sum"), (2, "mean"), (2, "score")]),
            (["answering.combine=mean"], [(1, "mean"), (2, "mean"), (3, "mean")]),
            (["answering.passages=3", "answering.combine=score", "answering.shots=4"], [(3, "score")]),
            (["answering.passages=1"], [(1, "sum")]),
        ],
    )
    def test_the_configuration_closes_what_it_names(self, make_bench, overrides, expected):
        options = PolyPrag(MethodName.POLY_PRAG, make_bench(*overrides, trained=False)).options()
        assert [(option.passages, option.combine) for option in options] == expected

    @pytest.mark.parametrize("name", sorted(GIVEN_GOLD))
    def test_controls_choose_the_way_to_combine_alone(self, make_bench, name):
        options = PolyPrag(name, make_bench(trained=False)).options()
        assert options == [Setting(combine=how) for how in (Combine.SUM, Combine.MEAN, Combine.SCORE)]
        closed = make_bench("answering.combine=mean", "answering.passages=2", trained=False)
        assert PolyPrag(name, closed).options() == [Setting(combine=Combine.MEAN)]


class TestGates:
    @pytest.mark.parametrize("how", [Combine.SUM, Combine.MEAN, Combine.SCORE])
    def test_they_combine_the_rows_of_the_retrieved_passages(self, make_bench, generations, how):
        bench = make_bench()
        method = PolyPrag(MethodName.POLY_PRAG, bench)
        questions = bench.knowledge.test
        answered = method.answer(questions, Setting(passages=2, combine=how))
        (seen,) = generations
        gates_NGK = gates_of_passages(bench)
        for row, (question, one) in enumerate(zip(questions, answered, strict=True)):
            (hits,) = bench.retriever.search([question.text], 2)
            assert one.retrieved == tuple(bench.passages[hit.position].id for hit in hits)
            total = sum(hit.score for hit in hits)
            weights = {
                Combine.SUM: [1.0 for _ in hits],
                Combine.MEAN: [1 / len(hits) for _ in hits],
                Combine.SCORE: [hit.score / total for hit in hits],
            }[how]
            expected_GK = sum(w * gates_NGK[hit.position] for w, hit in zip(weights, hits, strict=True))
            torch.testing.assert_close(seen.gates_BGK[row].double(), expected_GK, rtol=0, atol=1e-5)

    def test_the_oracle_takes_the_gold_passages(self, make_bench, generations):
        bench = make_bench()
        questions = bench.knowledge.test
        answered = PolyPrag(MethodName.POLY_PRAG_ORACLE, bench).answer(questions, Setting())
        gates_NGK = gates_of_passages(bench)
        for row, (question, one) in enumerate(zip(questions, answered, strict=True)):
            assert one.retrieved == question.passage_ids
            expected_GK = sum(gates_NGK[bench.positions[passage]] for passage in question.passage_ids)
            torch.testing.assert_close(generations[0].gates_BGK[row].double(), expected_GK, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("how", [Combine.SUM, Combine.MEAN, Combine.SCORE])
    def test_uniform_spreads_the_mass_of_the_oracle(self, make_bench, generations, how):
        bench = make_bench()
        for name in (MethodName.POLY_PRAG_ORACLE, MethodName.POLY_PRAG_UNIFORM):
            PolyPrag(name, bench).answer(bench.knowledge.test, Setting(combine=how))
        oracle_BGK, uniform_BGK = (seen.gates_BGK for seen in generations)
        assert oracle_BGK.std(-1).min() > 0.01
        assert torch.equal(uniform_BGK, uniform_BGK[..., :1].expand_as(uniform_BGK))
        torch.testing.assert_close(uniform_BGK.sum(-1), oracle_BGK.sum(-1))

    def test_shuffled_never_takes_an_own_passage(self, make_bench, generations):
        bench = make_bench()
        method = PolyPrag(MethodName.POLY_PRAG_SHUFFLED, bench)
        questions = bench.knowledge.test
        method.prepare(questions, method.options())
        answered = method.answer(questions, Setting())
        for question, one in zip(questions, answered, strict=True):
            assert one.retrieved
            assert not set(one.retrieved) & set(question.passage_ids)
        gates_NGK = gates_of_passages(bench)
        for row, one in enumerate(answered):
            expected_GK = sum(gates_NGK[bench.positions[passage]] for passage in one.retrieved)
            torch.testing.assert_close(generations[0].gates_BGK[row].double(), expected_GK, rtol=0, atol=1e-5)

    def test_a_question_that_finds_nothing_is_answered_by_the_base_model(self, make_bench, generations):
        bench = make_bench()
        (one,) = PolyPrag(MethodName.POLY_PRAG, bench).answer([UNHEARD_OF], Setting(passages=3))
        assert one.retrieved == ()
        assert not generations[0].gates_BGK.any()
        assert [one.generated] == bench.plain_generator.answer([bench.writer.question(UNHEARD_OF.text)])

    def test_the_gates_change_the_answers(self, make_bench):
        bench = make_bench()
        questions = bench.knowledge.test
        answered = PolyPrag(MethodName.POLY_PRAG, bench).answer(questions, Setting(passages=1))
        plain = bench.plain_generator.answer([bench.writer.question(question.text) for question in questions])
        assert [one.generated for one in answered] != plain


class TestPrompts:
    @pytest.mark.parametrize("name", [name for name in FAMILY if name is not MethodName.POLY_PRAG_COMBINE])
    def test_no_passage_is_shown(self, make_bench, generations, name):
        bench = make_bench()
        method = PolyPrag(name, bench)
        method.prepare(bench.knowledge.test, method.options())
        answered = method.answer(bench.knowledge.test, Setting(passages=2))
        (seen,) = generations
        for question, one, prompt in zip(bench.knowledge.test, answered, seen.prompts, strict=True):
            assert question.text in prompt
            assert "Passage" not in prompt
            assert all(passage.text not in prompt for passage in bench.passages)
            assert one.prompt_tokens == len(bench.writer.question(question.text))

    def test_combine_shows_the_passages_whose_gates_it_takes(self, make_bench, generations):
        bench = make_bench()
        method = PolyPrag(MethodName.POLY_PRAG_COMBINE, bench)
        answered = method.answer(bench.knowledge.test, Setting(passages=2))
        PolyPrag(MethodName.POLY_PRAG, bench).answer(bench.knowledge.test, Setting(passages=2))
        combined, alone = generations
        assert torch.equal(combined.gates_BGK, alone.gates_BGK)
        for one, prompt in zip(answered, combined.prompts, strict=True):
            shown = [bench.passages[bench.positions[id_]] for id_ in one.retrieved]
            assert all(f"Passage {at}: {with_title(passage)}" in prompt for at, passage in enumerate(shown, 1))
            assert all(p.text not in prompt for p in bench.passages if p.id not in one.retrieved)


class TestControls:
    @pytest.mark.parametrize("name", sorted(GIVEN_GOLD))
    @pytest.mark.parametrize("gold", [(), ("elsewhere",)])
    def test_without_gold_they_are_refused_before_answering(self, make_bench, name, gold):
        bench = make_bench()
        method = PolyPrag(name, bench)
        questions = [*bench.knowledge.test, Question("lost", "Who?", ("a",), passage_ids=gold)]
        with pytest.raises(DataError, match=r"'lost' has no gold passage in the store; leave the oracle"):
            method.prepare(questions, method.options())
        with pytest.raises(DataError, match="'lost'"):
            method.check(questions)

    def test_methods_that_retrieve_do_not_ask_for_gold(self, make_bench):
        bench = make_bench()
        method = PolyPrag(MethodName.POLY_PRAG, bench)
        method.check([UNHEARD_OF])
        method.prepare([UNHEARD_OF], method.options())

    @settings(max_examples=60, deadline=None)
    @given(
        gold=st.lists(st.lists(st.sampled_from(sorted(POSITIONS)), min_size=1, max_size=2, unique=True), max_size=8),
        seed=st.integers(0, 3),
    )
    def test_others_are_foreign_of_the_same_number_where_there_are_such(self, gold, seed):
        questions = [asked(position, *ids) for position, ids in enumerate(gold)]
        foreign = [[mine for mine in gold if not set(mine) & set(own)] for own in gold]
        if not all(foreign):
            with pytest.raises(DataError, match="no question about other passages"):
                other_passages(questions, POSITIONS, seed)
            return
        others = other_passages(questions, POSITIONS, seed)
        assert others == other_passages(questions, POSITIONS, seed)
        assert list(others) == [question.id for question in questions]
        for own, theirs, chosen in zip(gold, foreign, others.values(), strict=True):
            allowed = [mine for mine in theirs if len(mine) == len(own)] or theirs
            assert chosen in [[POSITIONS[id_] for id_ in mine] for mine in allowed]


class TestTopExperts:
    def test_the_largest_mean_gates_first(self):
        gates_GK = torch.tensor([[0.1, 0.5, 0.0, 0.4], [0.3, 0.7, 0.0, 0.0]])
        best = top_experts(gates_GK)
        assert [expert for expert, _ in best] == [1, 0, 3] or [expert for expert, _ in best] == [1, 3, 0]
        assert [round(gate, 6) for _, gate in best] == [0.6, 0.2, 0.2]

    def test_a_small_pool_has_no_more_than_its_experts(self):
        assert top_experts(torch.tensor([[1.0], [3.0]])) == ((0, 2.0),)
        assert len(top_experts(torch.ones(2, 2))) == 2

    def test_answers_carry_them(self, make_bench, generations):
        bench = make_bench()
        (one, *_) = PolyPrag(MethodName.POLY_PRAG, bench).answer(bench.knowledge.test, Setting(passages=1))
        assert one.top_experts == top_experts(generations[0].gates_BGK[0])
        assert list(one.seconds) == list(STEPS)
        assert one.seconds["load_merge"] == 0


class TestStore:
    def test_without_one_the_remedy_is_named(self, make_bench):
        method = PolyPrag(MethodName.POLY_PRAG, make_bench(trained=False))
        with pytest.raises(ConfigError, match=r"no store there; train one first: python train\.py run\.dir="):
            method.prepare([UNHEARD_OF], method.options())
        with pytest.raises(ConfigError, match="no store there"):
            method.check([UNHEARD_OF])

    def test_one_of_another_base_model_is_refused(self, make_bench, other_model_folder):
        make_bench()
        bench = make_bench(f"base.model={other_model_folder}")
        with pytest.raises(StoreError, match=r"belongs to base model .*set base\.model to the former"):
            PolyPrag(MethodName.POLY_PRAG, bench).check([UNHEARD_OF])

    def test_what_is_stored_is_counted_per_passage(self, make_bench, tmp_path):
        bench = make_bench()
        files = [path for path in (tmp_path / "run" / "store").rglob("*") if path.is_file()]
        whole = sum(path.stat().st_size for path in files if path.name != "passages.jsonl") / len(bench.passages)
        texts = sum(len(f"{passage.title}{passage.text}".encode()) for passage in bench.passages) / len(bench.passages)
        assert PolyPrag(MethodName.POLY_PRAG, bench).bytes_per_passage == pytest.approx(whole)
        assert PolyPrag(MethodName.POLY_PRAG_COMBINE, bench).bytes_per_passage == pytest.approx(whole + texts)

    def test_identity_and_cost_are_those_of_the_store(self, make_bench, train_at_random, tmp_path):
        bench = make_bench()
        method = PolyPrag(MethodName.POLY_PRAG, bench)
        assert method.train_seconds == 12.5
        train_at_random(bench.config, tmp_path / "run", seed=1)
        assert PolyPrag(MethodName.POLY_PRAG, make_bench()).identity != method.identity
