"""Shapes: B questions, G routed groups (one), K adapters."""

from collections.abc import Callable

import pytest
import torch

from polyprag.config import Composition, MethodName
from polyprag.errors import AdapterError, ConfigError, StoreError
from polyprag.experts.adapter_pool import AdapterPool
from polyprag.experts.base_model import load_base
from polyprag.knowledge.prompts import with_title
from polyprag.methods.dyprag import DyPrag
from polyprag.methods.workbench import STEPS, Setting, Workbench
from polyprag.records import Question
from polyprag.translator_store import FILE, FOLDER, TranslatorFacts, write_translator

UNHEARD_OF = Question("x", "Xyzzy?", ("nothing",))
TWO = Setting(passages=2)
ELSEWHERE = frozenset({"ab" * 32, "cd" * 32})


@pytest.fixture
def make_translated(make_bench) -> Callable[..., Workbench]:
    """`make_translated(*overrides, init=0.3, learned_from=ELSEWHERE)`: a workbench with a random translator."""

    def make(*overrides: str, init: float = 0.3, learned_from: frozenset[str] = ELSEWHERE) -> Workbench:
        bench = make_bench(*overrides, trained=False)
        base = load_base(bench.config.base)
        shapes = AdapterPool(base.model, ["gate_proj", "down_proj"], 2, 1.0, Composition.SUM).shapes
        facts = TranslatorFacts(base.fingerprint, base.name, shapes, 32, 2, 4, 0.5, "direct", {}, {"seconds": 7.5})
        torch.manual_seed(0)
        write_translator(bench.folder / FOLDER, facts.new_translator(init), facts, learned_from)
        return bench

    return make


@pytest.mark.parametrize(("overrides", "expected"), [([], [1, 2, 3]), (["answering.passages=2"], [2])])
def test_it_chooses_the_number_of_passages_alone(make_translated, overrides, expected):
    options = DyPrag(MethodName.DYPRAG, make_translated(*overrides)).options()
    assert options == [Setting(passages=count) for count in expected]


def test_translated_adapters_answer_alone_or_with_the_passages_in_the_prompt(make_translated, generations):
    bench = make_translated()
    questions = bench.knowledge.test[:3]
    for name in (MethodName.DYPRAG, MethodName.DYPRAG_COMBINE):
        method = DyPrag(name, bench)
        method.prepare(questions, [TWO])
        generations.clear()
        answered = method.answer(questions, TWO)
        (seen,) = generations  # all questions at once
        for question, one, prompt in zip(questions, answered, seen.prompts, strict=True):
            assert question.text in prompt
            assert [bench.passages[hit.position].id for hit in bench.retrieve([question], 2)[0]] == list(one.retrieved)
            shown = [with_title(passage) in prompt for passage in bench.passages]
            expected = one.retrieved if name is MethodName.DYPRAG_COMBINE else ()
            assert shown == [passage.id in expected for passage in bench.passages]
            assert list(one.seconds) == list(STEPS)
            assert one.seconds["load_merge"] > 0 == one.seconds["route"]
            assert one.retrievals == 1


def test_a_batch_gives_the_answers_of_single_questions(make_translated):
    bench = make_translated()
    method = DyPrag(MethodName.DYPRAG, bench)
    questions = [*bench.knowledge.test[:4], UNHEARD_OF, *bench.knowledge.test[4:6]]
    method.prepare(questions, [TWO])
    together = [one.generated for one in method.answer(questions, TWO)]
    alone = [one.generated for question in reversed(questions) for one in method.answer([question], TWO)][::-1]
    assert together == alone
    plain = bench.plain_generator.answer([bench.writer.question(question.text) for question in questions])
    assert together[4] == plain[4]
    assert together != plain


def test_each_row_is_under_the_sum_of_its_own_passages_adapters(make_translated, generations):
    bench = make_translated()
    method = DyPrag(MethodName.DYPRAG, bench)
    questions = bench.knowledge.test[:3]
    method.prepare(questions, [TWO])
    generations.clear()
    answered = method.answer(questions, TWO)
    gates_BGK = generations[0].gates_BGK
    used = list(dict.fromkeys(passage for one in answered for passage in one.retrieved))
    assert gates_BGK.shape == (3, 1, len(used))
    for one, gates_1K in zip(answered, gates_BGK, strict=True):
        assert gates_1K[0].tolist() == [float(passage in one.retrieved) for passage in used]


def test_the_official_merge_is_the_product_of_means(make_translated):
    merged = {}
    for composition in Composition:
        bench = make_translated(f"translator.composition={composition}")
        method = DyPrag(MethodName.DYPRAG, bench)
        method.adapters.put(bench.passages[:2])
        pool = method.adapters.pool
        layer = next(iter(pool.pool.layers.values()))
        x_BTD = torch.randn(1, 3, layer.base.in_features)
        with torch.no_grad(), pool.pool.gated(pool.gates([(0, 1)], 2)):
            merged[composition] = layer(x_BTD) - layer.base(x_BTD)
        A, B = layer.A.view(2, 2, -1), layer.B.view(-1, 2, 2)
        update_OD = torch.einsum("okr,krd->od", B, A)
        if composition is Composition.FACTOR:
            update_OD = B.mean(1) @ A.mean(0)
        torch.testing.assert_close(merged[composition], 0.5 * x_BTD @ update_OD.t(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*merged.values())


def test_strength_weakens_the_adapters_where_prompts_show_passages(make_translated):
    questions = make_translated().knowledge.test[:4]
    answers = {}
    for scale in (1.0, 0.0):
        bench = make_translated(f"answering.combine_scale={scale}")
        for name in (MethodName.DYPRAG, MethodName.DYPRAG_COMBINE):
            method = DyPrag(name, bench)
            method.prepare(questions, [TWO])
            answers[name, scale] = [one.generated for one in method.answer(questions, TWO)]
    assert answers[MethodName.DYPRAG, 1.0] == answers[MethodName.DYPRAG, 0.0]
    contexts = [[bench.passages[hit.position] for hit in hits] for hits in bench.retrieve(questions, 2)]
    prompts = [
        bench.writer.question(question.text, [with_title(passage) for passage in context])
        for question, context in zip(questions, contexts, strict=True)
    ]
    assert answers[MethodName.DYPRAG_COMBINE, 0.0] == bench.plain_generator.answer(prompts)
    assert answers[MethodName.DYPRAG_COMBINE, 1.0] != answers[MethodName.DYPRAG_COMBINE, 0.0]


def test_identity_is_the_translator_and_how_it_is_used(make_translated):
    def identities(*overrides: str, **how: float) -> list[str]:
        bench = make_translated(*overrides, **how)
        return [DyPrag(name, bench).identity for name in (MethodName.DYPRAG, MethodName.DYPRAG_COMBINE)]

    usual = identities()
    assert usual[0] == usual[1]
    assert identities("translator.composition=factor")[0] != usual[0]
    weaker = identities("answering.combine_scale=0.5")
    assert weaker[0] == usual[0] != weaker[1]
    assert identities(init=0.2)[0] != usual[0]


def test_costs_are_texts_index_and_the_translator_over_the_passages(make_translated):
    bench = make_translated()
    method = DyPrag(MethodName.DYPRAG, bench)
    texts = sum(len(f"{passage.title}{passage.text}".encode()) for passage in bench.passages)
    shared = (bench.folder / FOLDER / FILE).stat().st_size
    expected = (texts + shared) / len(bench.passages) + bench.index_bytes_per_passage
    assert method.bytes_per_passage == pytest.approx(expected)
    assert DyPrag(MethodName.DYPRAG_COMBINE, bench).bytes_per_passage == method.bytes_per_passage
    assert method.train_seconds == 7.5


def test_both_methods_share_translator_and_base_model(make_translated):
    bench = make_translated()
    one, other = DyPrag(MethodName.DYPRAG, bench), DyPrag(MethodName.DYPRAG_COMBINE, bench)
    assert one.adapters is other.adapters
    assert one.adapters.base is not bench.base


class TestRefusals:
    def test_without_a_translator_one_line_names_the_command(self, make_bench):
        bench = make_bench(trained=False)
        expected = rf"there is no parameter translator; run python train\.py translator run\.dir={bench.folder}$"
        with pytest.raises(StoreError, match=expected):
            DyPrag(MethodName.DYPRAG, bench).check(())

    def test_a_translator_that_has_learned_from_the_corpus_is_refused(self, make_translated):
        corpus = [passage.content_hash for passage in make_translated().passages]
        bench = make_translated(learned_from=ELSEWHERE | set(corpus[:3]))
        with pytest.raises(StoreError, match=r"3 of the 5 passages that the translator has learned from are in the"):
            DyPrag(MethodName.DYPRAG, bench).check(())

    def test_one_of_another_base_model_is_refused(self, make_translated, make_bench, other_model_folder):
        make_translated()
        bench = make_bench(f"base.model={other_model_folder}", trained=False)
        with pytest.raises(StoreError, match=r"was trained on the base model"):
            DyPrag(MethodName.DYPRAG, bench).check(())

    def test_one_for_other_prompts_is_refused(self, make_translated):
        bench = make_translated("answering.prompt=cot", "answering.max_new_tokens=64")
        with pytest.raises(ConfigError, match=r"^dyprag: answering\.prompt is cot, but .* was trained for direct; use"):
            DyPrag(MethodName.DYPRAG, bench).check(())

    def test_an_adapter_that_changes_no_logit_is_refused(self, make_translated):
        bench = make_translated(init=1e-7)
        method = DyPrag(MethodName.DYPRAG, bench)
        question = bench.knowledge.test[:1]
        with pytest.raises(AdapterError, match=r"adapter of passage 'p\d' changes no logit .*raise translator\.epochs"):
            method.prepare(question, [Setting(passages=1)])

    def test_only_passages_that_the_questions_retrieve_are_checked_and_those_once(self, make_translated, monkeypatch):
        bench = make_translated()
        method, checked = DyPrag(MethodName.DYPRAG, bench), []
        original = type(method.adapters).check_effect
        monkeypatch.setattr(
            type(method.adapters), "check_effect", lambda self, own: checked.append(list(own)) or original(self, own)
        )
        questions = bench.knowledge.test[:2]
        for asked in (questions[:1], questions):
            method.prepare(asked, [Setting(passages=1)])
        best = [bench.passages[hits[0].position] for hits in bench.retrieve(questions, 1)]
        assert checked == [[best[0]], [best[1]]]
