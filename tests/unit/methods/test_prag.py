import json

import pytest
import torch

from polyprag.config import MethodName
from polyprag.errors import ConfigError
from polyprag.knowledge.prompts import with_title
from polyprag.methods.adapters import FACTS, WARM_UP
from polyprag.methods.prag import Prag
from polyprag.methods.workbench import STEPS, Setting
from polyprag.records import Question

UNHEARD_OF = Question("x", "Xyzzy?", ("nothing",))
ONE_PASSAGE = [Setting(passages=1)]


def trained_passages(bench) -> set[str]:
    adapters = {bench.adapters.path(passage).name: passage.id for passage in bench.passages}
    return {adapters[facts.parent.name] for facts in bench.adapters.folder.glob(f"*/{FACTS}")}


def comparisons(bench) -> list[Question]:
    """The questions that name two passages."""
    return [question for question in bench.knowledge.test if question.type == "comparison"]


@pytest.mark.parametrize(
    ("overrides", "expected"), [([], [1, 2, 3]), (["answering.passages=2", "answering.shots=4"], [2])]
)
def test_it_chooses_the_number_of_passages_alone(make_bench, overrides, expected):
    for name in (MethodName.PRAG, MethodName.PRAG_COMBINE):
        options = Prag(name, make_bench(*overrides, trained=False)).options()
        assert options == [Setting(passages=count) for count in expected]


def test_only_what_the_questions_retrieve_is_trained(make_bench):
    bench = make_bench(trained=False)
    method = Prag(MethodName.PRAG, bench)
    questions = comparisons(bench)[:1]
    method.prepare(questions, ONE_PASSAGE)
    ((best,),) = bench.retrieve(questions, 1)
    assert trained_passages(bench) == {bench.passages[best.position].id}
    method.prepare(questions, [Setting(passages=1), Setting(passages=2)])
    assert trained_passages(bench) == set(questions[0].passage_ids)


def test_adapters_answer_alone_or_with_the_passages_in_the_prompt(make_bench, generations):
    bench = make_bench(trained=False)
    questions = comparisons(bench)
    for name in (MethodName.PRAG, MethodName.PRAG_COMBINE):
        method = Prag(name, bench)
        method.prepare(questions, [Setting(passages=2)])
        answered = method.answer(questions, Setting(passages=2))
        prompts = [prompt for seen in generations for prompt in seen.prompts]
        generations.clear()
        for question, one, prompt in zip(questions, answered, prompts, strict=True):
            assert question.text in prompt
            assert len(one.retrieved) == 2
            shown = [with_title(passage) in prompt for passage in bench.passages]
            expected = one.retrieved if name is MethodName.PRAG_COMBINE else ()
            assert shown == [passage.id in expected for passage in bench.passages]
            assert one.top_experts == ()
            assert list(one.seconds) == list(STEPS)
            assert one.seconds["route"] == 0
            assert one.prompt_tokens == len(bench.adapters.base.tokenizer.encode(prompt, add_special_tokens=False))


def test_each_question_gets_its_own_weights_whatever_came_before(make_bench):
    bench = make_bench(trained=False)
    method = Prag(MethodName.PRAG, bench)
    questions = bench.knowledge.test
    method.prepare(questions, ONE_PASSAGE)
    together = [one.generated for one in method.answer(questions, ONE_PASSAGE[0])]
    backwards = [one.generated for one in method.answer(questions[::-1], ONE_PASSAGE[0])][::-1]
    assert together == backwards
    plain = bench.plain_generator.answer([bench.writer.question(question.text) for question in questions])
    assert together != plain


def test_a_question_that_finds_nothing_is_answered_by_the_base_model(make_bench):
    bench = make_bench(trained=False)
    method = Prag(MethodName.PRAG, bench)
    method.prepare([*bench.knowledge.test[:1], UNHEARD_OF], ONE_PASSAGE)
    (one,) = method.answer([UNHEARD_OF], Setting(passages=3))
    assert one.retrieved == ()
    assert [one.generated] == bench.plain_generator.answer([bench.writer.question(UNHEARD_OF.text)])


def test_answering_leaves_the_model_as_it_was(make_bench):
    bench = make_bench(trained=False)
    method = Prag(MethodName.PRAG, bench)
    method.prepare(bench.knowledge.test, ONE_PASSAGE)
    tokens = torch.tensor([bench.adapters.writer.question("?")])
    with torch.no_grad():
        before = bench.adapters.model(tokens).logits
        method.answer(bench.knowledge.test, ONE_PASSAGE[0])
        assert torch.equal(bench.adapters.model(tokens).logits, before)


def test_both_methods_share_adapters_and_their_costs(make_bench):
    bench = make_bench(trained=False)
    prag, combine = Prag(MethodName.PRAG, bench), Prag(MethodName.PRAG_COMBINE, bench)
    prag.prepare(bench.knowledge.test, ONE_PASSAGE)
    assert prag.encoder is combine.encoder
    assert prag.identity == combine.identity == bench.adapters.identity
    assert prag.train_seconds == combine.train_seconds == bench.adapters.costs(bench.passages).seconds > 0
    texts = sum(len(f"{passage.title}{passage.text}".encode()) for passage in bench.passages) / len(bench.passages)
    assert combine.bytes_per_passage - prag.bytes_per_passage == pytest.approx(texts)
    index = prag.bytes_per_passage - bench.adapters.costs(bench.passages).bytes
    assert index == pytest.approx(bench.index_bytes_per_passage)


def test_another_recipe_has_another_identity(make_bench):
    first = Prag(MethodName.PRAG, make_bench(trained=False)).identity
    assert Prag(MethodName.PRAG, make_bench("prag.rank=1", trained=False)).identity != first


def test_a_warm_up_without_outside_pairs_is_refused_before_any_method_answers(make_bench):
    method = Prag(MethodName.PRAG, make_bench("warm_up.prag=true", trained=False))
    with pytest.raises(ConfigError, match=r"^data\.outside is empty"):
        method.check(())


def test_the_passes_of_a_pool_that_is_not_there_are_refused_before_any_method_answers(make_bench):
    bench = make_bench("prag.epochs=0", trained=False)
    with pytest.raises(ConfigError, match=r"prag\.epochs is 0, the passes of the pool, but .*store tells none"):
        Prag(MethodName.PRAG, bench).check(bench.knowledge.test)


def test_a_warm_up_learns_outside_pairs_that_nobody_asks(make_bench, tmp_path):
    asked = make_bench(trained=False).knowledge.test[0].text
    path = tmp_path / "outside.jsonl"
    pairs = [{"question": "What is Gard?", "answer": "a town"}, {"question": asked, "answer": "Gard"}]
    path.write_text(json.dumps({"title": "Gard", "text": "Gard is a town.", "qas": pairs}) + "\n", encoding="utf-8")
    plain = make_bench(f"data.outside={path}", trained=False)
    warm = make_bench("warm_up.prag=true", f"data.outside={path}", trained=False)
    assert plain.adapters.warm_up == ()
    assert [pair.question for pair in warm.adapters.warm_up] == ["What is Gard?"]
    methods = [Prag(MethodName.PRAG, bench) for bench in (plain, warm)]
    for method in methods:
        method.check(())
    assert methods[0].identity != methods[1].identity
    methods[1].prepare(warm.knowledge.test[:1], ONE_PASSAGE)
    assert (warm.adapters.folder / WARM_UP / FACTS).exists()
