import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.answering.question_routing import HybridRouting, QueryRouting, random_gates
from polyprag.config import Combine, MethodName
from polyprag.errors import ConfigError, DataError, StoreError
from polyprag.knowledge.prompts import with_title
from polyprag.methods.method import PromptMethod
from polyprag.methods.poly_prag import GIVEN_GOLD, LEARNED, Mode, PolyPrag, mode_of, other_passages, top_experts
from polyprag.methods.workbench import STEPS, Answered, Confidence, Setting
from polyprag.records import Question

FAMILY = [name for name in MethodName if name.startswith("poly_prag")]
CHOOSING = [name for name in FAMILY if mode_of(name) not in GIVEN_GOLD]
CONTROLS = [name for name in FAMILY if mode_of(name) in GIVEN_GOLD]
ROUTED_BY_QUERY = [name for name in FAMILY if mode_of(name) in LEARNED]
WAYS = [Combine.SUM, Combine.MEAN, Combine.SCORE]
UNHEARD_OF = Question("x", "Xyzzy?", ("nothing",))
POSITIONS = {f"p{index}": index for index in range(6)}


def gates_of_passages(bench) -> torch.Tensor:
    """The normalised sigmoid of the stored rows, written out in float64."""
    sigmoid_NGK = 1 / (1 + torch.exp(-bench.store.rows_NGK.double()))
    return sigmoid_NGK / sigmoid_NGK.sum(-1, keepdim=True)


def asked(position: int, *gold: str) -> Question:
    return Question(f"q{position}", "?", ("a",), passage_ids=gold)


def own_retrievals(name: MethodName) -> int:
    """How often a routing searches the index for a question."""
    return int("query" not in name)


def answers_of(name: MethodName, bench, setting: Setting, questions=None) -> list[Answered]:
    """What a method answers after it was prepared for the test questions."""
    method = PolyPrag(name, bench)
    method.prepare(bench.knowledge.test if questions is None else questions, [setting])
    return method.answer(bench.knowledge.test if questions is None else questions, setting)


def shown_in(prompt: str, bench) -> list[str]:
    """Ids of the passages that a prompt shows."""
    return [passage.id for passage in bench.passages if with_title(passage) in prompt]


def test_the_name_says_how_gates_are_chosen():
    modes = {name.removesuffix("_combine"): mode_of(name) for name in FAMILY}
    assert len(FAMILY) == 2 * len(modes) == 2 * len(Mode)
    assert modes.pop("poly_prag") is Mode.PASSAGE
    assert all(name == f"poly_prag_{mode}" for name, mode in modes.items())


class TestOptions:
    @pytest.mark.parametrize("name", CHOOSING)
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

    @pytest.mark.parametrize("name", CONTROLS)
    def test_controls_choose_the_way_to_combine_alone(self, make_bench, name):
        options = PolyPrag(name, make_bench(trained=False)).options()
        assert options == [Setting(combine=how) for how in WAYS]
        closed = make_bench("answering.combine=mean", "answering.passages=2", trained=False)
        assert PolyPrag(name, closed).options() == [Setting(combine=Combine.MEAN)]


class TestGates:
    @pytest.mark.parametrize("how", WAYS)
    def test_they_combine_the_rows_of_the_retrieved_passages(self, make_bench, generations, how):
        bench = make_bench()
        questions = bench.knowledge.test
        answered = answers_of(MethodName.POLY_PRAG, bench, Setting(passages=2, combine=how))
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
        answered = answers_of(MethodName.POLY_PRAG_ORACLE, bench, Setting())
        gates_NGK = gates_of_passages(bench)
        for row, (question, one) in enumerate(zip(questions, answered, strict=True)):
            assert one.retrieved == question.passage_ids
            expected_GK = sum(gates_NGK[bench.positions[passage]] for passage in question.passage_ids)
            torch.testing.assert_close(generations[0].gates_BGK[row].double(), expected_GK, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("how", WAYS)
    def test_uniform_spreads_the_mass_of_the_oracle(self, make_bench, generations, how):
        bench = make_bench()
        for name in (MethodName.POLY_PRAG_ORACLE, MethodName.POLY_PRAG_UNIFORM):
            answers_of(name, bench, Setting(combine=how))
        oracle_BGK, uniform_BGK = (seen.gates_BGK for seen in generations)
        assert oracle_BGK.std(-1).min() > 0.01
        assert torch.equal(uniform_BGK, uniform_BGK[..., :1].expand_as(uniform_BGK))
        torch.testing.assert_close(uniform_BGK.sum(-1), oracle_BGK.sum(-1))

    def test_shuffled_never_takes_an_own_passage(self, make_bench, generations):
        bench = make_bench()
        questions = bench.knowledge.test
        answered = answers_of(MethodName.POLY_PRAG_SHUFFLED, bench, Setting())
        for question, one in zip(questions, answered, strict=True):
            assert one.retrieved
            assert not set(one.retrieved) & set(question.passage_ids)
        gates_NGK = gates_of_passages(bench)
        for row, one in enumerate(answered):
            expected_GK = sum(gates_NGK[bench.positions[passage]] for passage in one.retrieved)
            torch.testing.assert_close(generations[0].gates_BGK[row].double(), expected_GK, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("how", WAYS)
    def test_average_takes_the_mean_gates_with_the_mass_of_the_oracle(self, make_bench, generations, how):
        bench = make_bench()
        for name in (MethodName.POLY_PRAG_ORACLE, MethodName.POLY_PRAG_AVERAGE):
            answers_of(name, bench, Setting(combine=how))
        oracle_BGK, average_BGK = (seen.gates_BGK.double() for seen in generations)
        mean_GK = gates_of_passages(bench).mean(0)
        for own_GK, ours_GK in zip(oracle_BGK, average_BGK, strict=True):
            torch.testing.assert_close(ours_GK, mean_GK * own_GK.sum(-1, keepdim=True), rtol=1e-4, atol=1e-5)

    def test_random_gates_are_those_of_the_oracle_scrambled_by_question_and_seed(self, make_bench, generations):
        bench = make_bench("routing.top_k=2")
        for name in (MethodName.POLY_PRAG_ORACLE, MethodName.POLY_PRAG_RANDOM, MethodName.POLY_PRAG_RANDOM):
            answers_of(name, bench, Setting())
        answers_of(MethodName.POLY_PRAG_RANDOM, make_bench("routing.top_k=2", "evaluation.seed=1"), Setting())
        oracle_BGK, random_BGK, again_BGK, other_BGK = (seen.gates_BGK for seen in generations)
        assert torch.equal(random_BGK, again_BGK)
        assert all(not torch.equal(one, other) for one, other in zip(random_BGK, other_BGK, strict=True))
        assert all(not torch.equal(one, other) for one, other in zip(random_BGK, oracle_BGK, strict=True))
        assert torch.equal(random_BGK.sort(-1).values, oracle_BGK.sort(-1).values)
        for question, oracle_GK, gates_GK in zip(bench.knowledge.test, oracle_BGK, random_BGK, strict=True):
            assert torch.equal(gates_GK, random_gates(question, oracle_GK, seed=0))

    def test_the_query_router_gives_the_row_of_its_first_choice(self, make_bench, generations):
        bench = make_bench(router=True)
        answered = answers_of(MethodName.POLY_PRAG_QUERY, bench, Setting(passages=1))
        router, gates_NGK = bench.stored_router.router, gates_of_passages(bench)
        states = bench.question_encoder.encode([question.text for question in bench.knowledge.test])
        first_B = router.logits(router.represent(states), gates_NGK.float()).argmax(-1)
        for row, one in enumerate(answered):
            assert one.retrieved == (bench.passages[first_B[row]].id,)
            torch.testing.assert_close(
                generations[0].gates_BGK[row].double(), gates_NGK[first_B[row]], rtol=0, atol=1e-5
            )

    def test_the_query_router_wants_no_index(self, make_bench, monkeypatch):
        bench = make_bench(router=True)
        monkeypatch.setattr(type(bench), "retriever", property(lambda self: pytest.fail("retrieved")))
        answers_of(MethodName.POLY_PRAG_QUERY, bench, Setting(passages=2))

    def test_hybrid_weighs_both(self, make_bench, generations):
        bench = make_bench(router=True)
        setting = Setting(passages=2, combine=Combine.SCORE)
        answered = answers_of(MethodName.POLY_PRAG_HYBRID, bench, setting)
        query = QueryRouting(bench.question_encoder, bench.stored_router.router, bench.gates_NGK)
        routed = HybridRouting(query, bench.retriever).route(bench.knowledge.test, 2, Combine.SCORE)
        for row, (one, choice) in enumerate(zip(answered, routed, strict=True)):
            assert one.retrieved == tuple(bench.passages[position].id for position in choice.passages)
            assert torch.equal(generations[0].gates_BGK[row], choice.gates_GK)

    def test_a_question_that_finds_nothing_is_answered_by_the_base_model(self, make_bench, generations):
        bench = make_bench()
        (one,) = answers_of(MethodName.POLY_PRAG, bench, Setting(passages=3), [UNHEARD_OF])
        assert one.retrieved == ()
        assert not generations[0].gates_BGK.any()
        assert [one.generated] == bench.plain_generator.answer([bench.writer.question(UNHEARD_OF.text)])

    def test_the_gates_change_the_answers(self, make_bench):
        bench = make_bench()
        questions = bench.knowledge.test
        answered = answers_of(MethodName.POLY_PRAG, bench, Setting(passages=1))
        plain = bench.plain_generator.answer([bench.writer.question(question.text) for question in questions])
        assert [one.generated for one in answered] != plain


class TestPrompts:
    @pytest.mark.parametrize("name", [name for name in FAMILY if not name.endswith("_combine")])
    def test_no_passage_is_shown(self, make_bench, generations, name):
        bench = make_bench(router=True)
        answered = answers_of(name, bench, Setting(passages=2))
        (seen,) = generations
        for question, one, prompt in zip(bench.knowledge.test, answered, seen.prompts, strict=True):
            assert question.text in prompt
            assert "Passage" not in prompt
            assert all(passage.text not in prompt for passage in bench.passages)
            assert one.prompt_tokens == len(bench.writer.question(question.text))

    @pytest.mark.parametrize("name", [name for name in CHOOSING if name.endswith("_combine")])
    def test_combine_shows_the_passages_whose_gates_it_takes(self, make_bench, generations, name):
        bench = make_bench(router=True)
        answered = answers_of(name, bench, Setting(passages=2))
        answers_of(MethodName(name.removesuffix("_combine")), bench, Setting(passages=2))
        combined, alone = generations
        assert torch.equal(combined.gates_BGK, alone.gates_BGK)
        for one, prompt in zip(answered, combined.prompts, strict=True):
            assert one.retrieved
            shown = [bench.passages[bench.positions[id_]] for id_ in one.retrieved]
            assert all(f"Passage {at}: {with_title(passage)}" in prompt for at, passage in enumerate(shown, 1))
            assert all(p.text not in prompt for p in bench.passages if p.id not in one.retrieved)

    @pytest.mark.parametrize("name", [name for name in CONTROLS if name.endswith("_combine")])
    def test_combined_controls_show_the_gold_passages(self, make_bench, generations, name):
        bench = make_bench()
        answers_of(name, bench, Setting())
        answers_of(MethodName(name.removesuffix("_combine")), bench, Setting())
        combined, alone = generations
        assert torch.equal(combined.gates_BGK, alone.gates_BGK)
        for question, prompt in zip(bench.knowledge.test, combined.prompts, strict=True):
            assert shown_in(prompt, bench) == sorted(question.passage_ids)


class TestConfidence:
    @pytest.mark.parametrize("name", CHOOSING)
    def test_an_answer_carries_that_of_its_routing(self, make_bench, name):
        bench = make_bench(router=True)
        method = PolyPrag(name, bench)
        method.prepare(bench.knowledge.test, method.options())
        routed = method.routing.route(bench.knowledge.test, 2, Combine.SUM)
        answered = method.answer(bench.knowledge.test, Setting(passages=2))
        assert [one.confidence for one in answered] == [
            Confidence(choice.entropy, choice.margin, abstained=False) for choice in routed
        ]
        assert len({one.confidence for one in answered}) > 1

    @pytest.mark.parametrize("name", CONTROLS)
    def test_controls_have_no_doubt(self, make_bench, name):
        bench = make_bench("answering.abstain_below=1")
        assert {one.confidence for one in answers_of(name, bench, Setting())} == {Confidence(0.0, 1.0, False)}


class TestAbstaining:
    """On questions that name two people, so that no routing is quite sure."""

    @pytest.mark.parametrize("name", CHOOSING)
    def test_the_base_model_alone_answers_what_is_not_trusted(self, make_bench, generations, name):
        bench = make_bench("answering.abstain_below=1", "data.types=[comparison]", router=True)
        answered = answers_of(name, bench, Setting(passages=2))
        assert all(one.confidence.abstained and one.confidence.margin < 1 for one in answered)
        (seen,) = generations
        assert seen.gates_BGK is None
        assert not any(shown_in(prompt, bench) for prompt in seen.prompts)
        plain = bench.plain_generator.answer([bench.writer.question(q.text) for q in bench.knowledge.test])
        assert [one.generated for one in answered] == plain
        assert {one.retrievals for one in answered} == {own_retrievals(name)}

    @pytest.mark.parametrize("name", CHOOSING)
    def test_or_standard_rag_does(self, make_bench, name):
        keys = ("answering.abstain_below=1", "answering.abstain_to=standard_rag", "data.types=[comparison]")
        bench = make_bench(*keys, router=True)
        answered = answers_of(name, bench, Setting(passages=2))
        expected = PromptMethod(MethodName.STANDARD_RAG, bench).answer(bench.knowledge.test, Setting(passages=2))
        assert [one.generated for one in answered] == [one.generated for one in expected]
        assert [one.prompt_tokens for one in answered] == [one.prompt_tokens for one in expected]
        assert {one.retrievals for one in answered} == {own_retrievals(name) + 1}
        assert all(one.seconds["retrieve"] > 0 for one in answered)

    @pytest.mark.parametrize("name", CHOOSING)
    def test_index_and_texts_that_standard_rag_needs_then_count(self, make_bench, name):
        trusting = PolyPrag(name, make_bench("answering.abstain_to=standard_rag", router=True))
        bench = make_bench("answering.abstain_to=standard_rag", "answering.abstain_below=0.2")
        doubting, texts, index = PolyPrag(name, bench), bench.text_bytes_per_passage, bench.index_bytes_per_passage
        added = (0 if trusting.shows_passages else texts) + (0 if trusting.retrieves else index)
        assert doubting.bytes_per_passage - trusting.bytes_per_passage == pytest.approx(added)
        assert doubting.retrieves
        assert trusting.retrieves == (trusting.mode is not Mode.QUERY)

    @pytest.mark.parametrize("name", CONTROLS)
    def test_controls_need_nothing_to_fall_back_on(self, make_bench, name):
        doubting = PolyPrag(name, make_bench("answering.abstain_to=standard_rag", "answering.abstain_below=1"))
        assert doubting.bytes_per_passage == PolyPrag(name, make_bench()).bytes_per_passage

    def test_the_other_questions_of_a_batch_are_answered_as_before(self, make_bench):
        bench = make_bench()
        questions = bench.knowledge.test[3:] + bench.knowledge.test[:3]
        trusting = answers_of(MethodName.POLY_PRAG, bench, Setting(passages=1), questions)
        threshold = sorted(one.confidence.margin for one in trusting)[3]
        plain = bench.plain_generator.answer([bench.writer.question(q.text) for q in questions])
        doubting = make_bench(f"answering.abstain_below={threshold!r}")
        wary = answers_of(MethodName.POLY_PRAG, doubting, Setting(passages=1), questions)
        abstained = [one.confidence.abstained for one in wary]
        assert abstained != sorted(abstained)  # some that are not trusted come before some that are
        assert sum(abstained) <= 3
        for before, base, now, fell_back in zip(trusting, plain, wary, abstained, strict=True):
            assert now.generated == (base if fell_back else before.generated)
            assert fell_back == (now.confidence.margin < threshold)
            assert (now.retrieved, now.top_experts) == (before.retrieved, before.top_experts)


class TestControls:
    @pytest.mark.parametrize("name", CONTROLS)
    @pytest.mark.parametrize("gold", [(), ("elsewhere",)])
    def test_without_gold_they_are_refused_before_answering(self, make_bench, name, gold):
        bench = make_bench()
        method = PolyPrag(name, bench)
        questions = [*bench.knowledge.test, Question("lost", "Who?", ("a",), passage_ids=gold)]
        with pytest.raises(DataError, match=r"'lost' has no gold passage in the store; leave oracle, uniform, av"):
            method.prepare(questions, method.options())
        with pytest.raises(DataError, match="'lost'"):
            method.check(questions)

    @pytest.mark.parametrize("name", CHOOSING)
    def test_methods_that_choose_do_not_ask_for_gold(self, make_bench, name):
        bench = make_bench(router=True)
        method = PolyPrag(name, bench)
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
        (one, *_) = answers_of(MethodName.POLY_PRAG, bench, Setting(passages=1))
        assert one.top_experts == top_experts(generations[0].gates_BGK[0])

    @pytest.mark.parametrize("name", FAMILY)
    def test_the_time_of_choosing_is_retrieval_for_bm25_and_routing_for_the_rest(self, make_bench, name):
        bench = make_bench(router=True)
        (one, *_) = answers_of(name, bench, Setting(passages=1))
        assert list(one.seconds) == list(STEPS)
        spent = {step for step, seconds in one.seconds.items() if seconds > 0}
        assert spent == {"retrieve" if mode_of(name) is Mode.PASSAGE else "route", "generate"}


class TestStore:
    def test_without_one_the_remedy_is_named(self, make_bench):
        method = PolyPrag(MethodName.POLY_PRAG, make_bench(trained=False))
        with pytest.raises(ConfigError, match=r"no store there; train one first by python train\.py with the same"):
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
        unread = {path for path in files if path.name == "passages.jsonl" or path.parent.name == "lookup"}
        whole = sum(path.stat().st_size for path in files if path not in unread) / len(bench.passages)
        texts = sum(len(f"{passage.title}{passage.text}".encode()) for passage in bench.passages) / len(bench.passages)
        assert PolyPrag(MethodName.POLY_PRAG, bench).bytes_per_passage == pytest.approx(whole)
        assert PolyPrag(MethodName.POLY_PRAG_COMBINE, bench).bytes_per_passage == pytest.approx(whole + texts)

    def test_identity_and_cost_are_those_of_the_store(self, make_bench, train_at_random, tmp_path):
        bench = make_bench()
        method = PolyPrag(MethodName.POLY_PRAG, bench)
        assert method.train_seconds == 12.5
        train_at_random(bench.config, tmp_path / "run", seed=1)
        assert PolyPrag(MethodName.POLY_PRAG, make_bench()).identity != method.identity

    def test_a_threshold_of_trust_belongs_to_the_identity(self, make_bench):
        benches = [make_bench(f"answering.abstain_below={at}") for at in (0, 0.2, 0.4)]
        identities = {PolyPrag(MethodName.POLY_PRAG, bench).identity for bench in benches}
        rag = make_bench("answering.abstain_below=0.4", "answering.abstain_to=standard_rag")
        assert len(identities | {PolyPrag(MethodName.POLY_PRAG, rag).identity}) == 4
        without = make_bench("answering.abstain_to=standard_rag")
        assert PolyPrag(MethodName.POLY_PRAG, without).identity == without.store.manifest.digest


class TestQueryRouter:
    @pytest.mark.parametrize("name", ROUTED_BY_QUERY)
    def test_without_one_the_remedy_is_named(self, make_bench, name):
        method = PolyPrag(name, make_bench())
        says = r"there is no query router; train it with python train\.py router"
        with pytest.raises(StoreError, match=says) as caught:
            method.check([UNHEARD_OF])
        assert "\n" not in str(caught.value)

    def test_one_of_another_store_is_refused(self, make_bench, train_at_random, tmp_path):
        bench = make_bench(router=True)
        train_at_random(bench.config, tmp_path / "run", seed=1)
        with pytest.raises(StoreError, match="belongs to another store, which was replaced since"):
            PolyPrag(MethodName.POLY_PRAG_QUERY, make_bench()).check([UNHEARD_OF])

    def test_the_others_can_do_without(self, make_bench):
        bench = make_bench()
        for name in set(FAMILY) - set(ROUTED_BY_QUERY):
            PolyPrag(name, bench).check(bench.knowledge.test)

    def test_what_represents_questions_is_that_of_its_training(self, make_bench):
        make_bench("router.layers=2", router=True)
        bench = make_bench("router.layers=0")
        _ = bench.store
        assert bench.question_encoder.last_block is bench.base.model.model.layers[1]

    @pytest.mark.parametrize("name", FAMILY)
    def test_another_one_has_another_identity_where_it_chooses(self, make_bench, add_router, tmp_path, name):
        bench = make_bench(router=True)
        before = PolyPrag(name, bench).identity
        add_router(bench.config, tmp_path / "run", seed=1)
        assert (PolyPrag(name, make_bench()).identity != before) == (name in ROUTED_BY_QUERY)

    def test_it_adds_its_size_and_training_and_takes_the_place_of_the_index(self, make_bench, tmp_path):
        bench = make_bench(router=True)
        passage, query, hybrid = (
            PolyPrag(name, bench)
            for name in (MethodName.POLY_PRAG, MethodName.POLY_PRAG_QUERY, MethodName.POLY_PRAG_HYBRID)
        )
        router = (tmp_path / "run" / "router" / "router.safetensors").stat().st_size / len(bench.passages)
        assert hybrid.bytes_per_passage == pytest.approx(passage.bytes_per_passage + router)
        assert query.bytes_per_passage == pytest.approx(hybrid.bytes_per_passage - bench.index_bytes_per_passage)
        assert (passage.train_seconds, query.train_seconds, hybrid.train_seconds) == (12.5, 16.0, 16.0)
