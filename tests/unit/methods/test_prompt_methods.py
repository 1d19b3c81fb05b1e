import pytest

from polyprag.config import MethodName
from polyprag.knowledge.prompts import EXAMPLES, with_title
from polyprag.methods.method import PASSAGE_CHOICES, SHOT_CHOICES, PromptMethod
from polyprag.methods.workbench import STEPS, Setting
from polyprag.records import Question

UNHEARD_OF = Question("x", "Xyzzy?", ("nothing",))


def passages_and_shots(options: list[Setting]) -> list[tuple[int, int]]:
    return [(option.passages, option.shots) for option in options]


@pytest.mark.parametrize(
    ("overrides", "vanilla", "standard_rag"),
    [
        ([], [(0, n) for n in SHOT_CHOICES], [(p, n) for p in PASSAGE_CHOICES for n in SHOT_CHOICES]),
        (["answering.shots=2"], [(0, 2)], [(p, 2) for p in PASSAGE_CHOICES]),
        (["answering.shots=0", "answering.passages=2"], [(0, 0)], [(2, 0)]),
        (["answering.passages=5"], [(0, n) for n in SHOT_CHOICES], [(5, n) for n in SHOT_CHOICES]),
        (["answering.combine=mean", "answering.shots=1"], [(0, 1)], [(p, 1) for p in PASSAGE_CHOICES]),
    ],
)
def test_options_are_what_the_configuration_leaves_open(make_bench, overrides, vanilla, standard_rag):
    bench = make_bench(*overrides, trained=False)
    assert passages_and_shots(PromptMethod(MethodName.VANILLA, bench).options()) == vanilla
    assert passages_and_shots(PromptMethod(MethodName.STANDARD_RAG, bench).options()) == standard_rag


def test_vanilla_sees_no_passage(make_bench, generations):
    bench = make_bench(trained=False)
    method = PromptMethod(MethodName.VANILLA, bench)
    questions = bench.knowledge.test
    for option in method.options():
        answered = method.answer(questions, option)
        assert all(one.retrieved == () and one.top_experts == () and one.retrievals == 0 for one in answered)
    prompts = [prompt for seen in generations for prompt in seen.prompts]
    assert len(prompts) == 3 * len(questions)
    assert not any("Passage" in prompt for prompt in prompts)
    assert all(passage.text not in prompt for passage in bench.passages for prompt in prompts)


def test_standard_rag_shows_what_it_retrieves_best_first(make_bench, generations):
    bench = make_bench(trained=False)
    method = PromptMethod(MethodName.STANDARD_RAG, bench)
    questions = bench.knowledge.test
    answered = method.answer(questions, Setting(passages=2))
    (seen,) = generations
    for question, one, prompt in zip(questions, answered, seen.prompts, strict=True):
        (hits,) = bench.retriever.search([question.text], 2)
        assert one.retrieved == tuple(bench.passages[hit.position].id for hit in hits)
        assert question.text in prompt
        shown = [f"Passage {rank}: {with_title(bench.passages[hit.position])}" for rank, hit in enumerate(hits, 1)]
        places = [prompt.index(text) for text in shown]
        assert places == sorted(places)
        others = [p for p in bench.passages if p.id not in one.retrieved]
        assert all(other.text not in prompt for other in others)


def test_the_own_passage_is_found_by_its_name(make_bench):
    bench = make_bench(trained=False)
    method = PromptMethod(MethodName.STANDARD_RAG, bench)
    questions = [question for question in bench.knowledge.test if question.type == "one_hop"]
    answered = method.answer(questions, Setting(passages=1))
    assert [one.retrieved for one in answered] == [question.passage_ids for question in questions]


@pytest.mark.parametrize("name", [MethodName.VANILLA, MethodName.STANDARD_RAG])
def test_shots_are_examples_that_look_like_the_question(make_bench, generations, name):
    bench = make_bench(trained=False)
    passages = 1 if name is MethodName.STANDARD_RAG else 0
    PromptMethod(name, bench).answer(bench.knowledge.test[:1], Setting(passages=passages, shots=2))
    ((prompt,),) = [seen.prompts for seen in generations]
    for number, (passage, pair) in enumerate(EXAMPLES):
        assert (pair.question in prompt) == (number < 2)
        assert (passage.text in prompt) == (number < 2 and passages > 0)


def test_answers_carry_tokens_of_the_prompt_and_seconds_of_every_step(make_bench, generations):
    bench = make_bench(trained=False)
    method = PromptMethod(MethodName.STANDARD_RAG, bench)
    answered = method.answer(bench.knowledge.test[:2], Setting(passages=1))
    (seen,) = generations
    for one, prompt in zip(answered, seen.prompts, strict=True):
        assert one.prompt_tokens == len(bench.base.tokenizer.encode(prompt, add_special_tokens=False))
        assert list(one.seconds) == list(STEPS)
        assert one.seconds["route"] == one.seconds["load_merge"] == 0
        assert (one.retrievals, one.discarded_tokens) == (1, 0)
        assert one.generated_tokens == one.generated.new_tokens
    assert answered[0].seconds == answered[1].seconds


def test_a_question_that_finds_nothing_is_asked_without_passages(make_bench, generations):
    bench = make_bench(trained=False)
    (with_rag,) = PromptMethod(MethodName.STANDARD_RAG, bench).answer([UNHEARD_OF], Setting(passages=3))
    (without,) = PromptMethod(MethodName.VANILLA, bench).answer([UNHEARD_OF], Setting())
    assert with_rag.retrieved == ()
    assert generations[0].prompts == generations[1].prompts
    assert with_rag.generated == without.generated


def test_they_need_no_store_and_write_nothing(make_bench, tmp_path):
    bench = make_bench(trained=False)
    method = PromptMethod(MethodName.STANDARD_RAG, bench)
    method.check(bench.knowledge.test)
    method.prepare(bench.knowledge.test, method.options())
    method.answer(bench.knowledge.test, Setting(passages=1))
    assert (method.identity, method.train_seconds) == ("", 0.0)
    assert not (tmp_path / "run").exists()


def test_answers_depend_on_what_passages_are_found_by(make_bench):
    def identities(*overrides: str) -> list[str]:
        bench = make_bench(*overrides, trained=False)
        return [PromptMethod(name, bench).identity for name in (MethodName.VANILLA, MethodName.STANDARD_RAG)]

    expanded = identities("answering.expand_index=true")
    fewer = identities("answering.expand_index=true", "data.max_pairs=1")
    assert expanded[0] == fewer[0] == ""
    assert len({expanded[1], fewer[1], ""}) == 3
    assert identities("data.max_pairs=1") == ["", ""]


def test_standard_rag_stores_texts_and_index_and_vanilla_nothing(make_bench, tmp_path):
    bench = make_bench(trained=False)
    bench.retriever.save(tmp_path / "index")
    index = sum(path.stat().st_size for path in (tmp_path / "index").iterdir())
    texts = sum(len(passage.title.encode()) + len(passage.text.encode()) for passage in bench.passages)
    expected = (index + texts) / len(bench.passages)
    assert PromptMethod(MethodName.STANDARD_RAG, bench).bytes_per_passage == pytest.approx(expected)
    assert PromptMethod(MethodName.VANILLA, bench).bytes_per_passage == 0
