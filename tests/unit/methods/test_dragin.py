import io
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from scripted_drafter import END, Said, play

from polyprag.answering.drafting import Draft
from polyprag.config import MethodName
from polyprag.evaluation.harness import Harness
from polyprag.knowledge.prompts import with_title
from polyprag.methods.active_rag import Span
from polyprag.methods.dragin import Dragin, Word, attended, information_needs, question_span, words_of
from polyprag.methods.method import PASSAGE_CHOICES, SHOT_CHOICES, PromptMethod
from polyprag.methods.workbench import Setting, Workbench
from polyprag.records import Question

ASKED = Question("x", "Which town did Mira Tolk come from?", ("Arlen",), "", ("p0",))
OTHER = Question("y", "Which town did Jon Veld come from?", ("Brask",), "", ("p1",))


def dragin_on(bench: Workbench) -> Dragin:
    return Dragin(MethodName.DRAGIN, bench)


@pytest.fixture
def dragin(make_bench) -> Dragin:
    return dragin_on(make_bench("answering.max_new_tokens=60", trained=False))


def plain(text: str) -> list[Said]:
    """A text of words that all get the same attention and whose choice is certain."""
    return [Said(f" {word}", received=0.1) for word in text.split()]


LOOKS = {" town": 0.3, " Mira": 0.2, " from": 0.9, " glass": 0.15, "Answer": 0.8}
"""What is attended to; `from` is a stop word, and "Answer" is said by the prompt alone."""
UNSURE = Said(" Corvo", entropy=2.0, received=0.1, looks=LOOKS)
"""A word that needs information: entropy 2 times an attention as large as that of the words beside it."""
AFTER = [*plain("maybe."), Said(END)]
GOOD = [*plain("Arlen."), Said(END)]


def test_a_certain_answer_retrieves_nothing_at_all(dragin):
    drafter, retriever = play(dragin, {ASKED.text: [[*plain("Arlen, the town of glass."), Said(END)]]})
    (answered,) = dragin.answer([ASKED], Setting(passages=2))
    assert not retriever.searches
    assert answered.generated.text == "Arlen, the town of glass."
    assert (answered.retrievals, answered.retrieved, answered.discarded_tokens) == (0, (), 0)
    assert "Passage" not in drafter.asked[0][0]


def test_the_answer_is_cut_at_the_word_that_needs_information(dragin):
    first = [*plain("It is known. She left the glass of"), UNSURE, *AFTER]
    drafter, retriever = play(dragin, {ASKED.text: [first, GOOD]})
    (answered,) = dragin.answer([ASKED], Setting(passages=1))
    assert answered.generated.text == "It is known. She left the glass of Arlen."
    before, after = (prompt for (prompt,) in drafter.asked)
    assert before.endswith("The answer is")
    assert after.endswith("The answer is It is known. She left the glass of")
    (found,) = retriever.retriever.search(retriever.queries, 1)
    assert with_title(dragin.bench.passages[found[0].position]) in after
    assert answered.retrieved == (dragin.bench.passages[found[0].position].id,)
    assert answered.retrievals == 1
    encode = dragin.bench.base.tokenizer.encode
    gone = "".join(word.text for word in [UNSURE, *AFTER])
    assert answered.discarded_tokens == len(encode(gone, add_special_tokens=False))


def test_the_query_holds_the_most_attended_words_in_their_own_order(make_bench):
    first = [*plain("She left the glass of"), UNSURE, *AFTER]
    for most, query in ((2, "town Mira"), (3, "town Mira glass"), (1, "town")):
        dragin = dragin_on(make_bench(f"dragin.query_tokens={most}", "answering.max_new_tokens=40", trained=False))
        _, retriever = play(dragin, {ASKED.text: [first, GOOD]})
        dragin.answer([ASKED], Setting(passages=1))
        assert retriever.searches == [([query], 1)]


def test_a_long_query_holds_all_words_with_content_of_question_and_answer_and_no_others(dragin):
    first = [*plain("She left the glass of"), UNSURE, *AFTER]
    _, retriever = play(dragin, {ASKED.text: [first, GOOD]})
    dragin.answer([ASKED], Setting(passages=1, shots=2))
    assert retriever.queries == ["town Mira Tolk come left glass"]


def test_the_attention_that_counts_is_that_of_the_position_before_the_word(dragin):
    dragin.bench.config.dragin.query_tokens = 1
    glass, kites = Said(" Glass", received=0.1, looks={"Tolk": 1.0}), Said(" kites", received=0.1, looks={"come": 1.0})
    first = [glass, UNSURE, kites, *AFTER]
    _, retriever = play(dragin, {ASKED.text: [first, GOOD]})
    dragin.answer([ASKED], Setting(passages=1))
    assert retriever.queries == ["town"]


@pytest.mark.parametrize("word", [" of", " The", " her", " also", " ,", " -", " Would"])
def test_stop_words_and_punctuation_never_ask(dragin, word):
    said = [*plain("Arlen glass"), Said(word, entropy=9.0, received=0.9, looks=LOOKS), *plain("town."), Said(END)]
    drafter, retriever = play(dragin, {ASKED.text: [said]})
    dragin.answer([ASKED], Setting(passages=1))
    assert not retriever.searches
    assert len(drafter.asked) == 1


@pytest.mark.parametrize(
    ("entropy", "received", "asks"),
    [
        (0.0, 0.9, False),  # sure of a word that matters
        (9.0, 0.0, False),  # unsure of one that nothing looks at
        (1.19, 0.1, False),
        (1.3, 0.1, True),
        (0.7, 0.3, True),  # attention 0.3 beside 0.1 and 0.1: 1.8 times the mean of three
        (0.66, 0.3, False),
    ],
)
def test_a_word_asks_by_entropy_times_relative_attention(dragin, entropy, received, asks):
    unsure = Said(" Corvo", entropy=entropy, received=received, looks=LOOKS)
    first = [*plain("Glass"), unsure, *plain("town"), Said(END)]
    _, retriever = play(dragin, {ASKED.text: [first, GOOD]})
    dragin.answer([ASKED], Setting(passages=1))
    assert bool(retriever.searches) is asks


def test_the_last_word_has_nothing_behind_it_that_could_need_it(dragin):
    dragin.bench.config.answering.max_new_tokens = len(dragin.bench.base.tokenizer.encode(" Corvo"))
    _, retriever = play(dragin, {ASKED.text: [[replace(UNSURE, received=0.0)]]})
    (answered,) = dragin.answer([ASKED], Setting(passages=1))
    assert answered.generated.text == "Corvo"
    assert not retriever.searches


def test_what_was_just_retrieved_for_stands_to_its_sentence_s_end_but_what_follows_is_checked(dragin):
    second = [replace(UNSURE, text=" Drissa"), *plain("glass. He said"), UNSURE, *AFTER]
    drafter, retriever = play(dragin, {ASKED.text: [[*plain("She left"), UNSURE, *AFTER], second, GOOD]})
    (answered,) = dragin.answer([ASKED], Setting(passages=1))
    assert answered.generated.text == "She left Drissa glass. He said Arlen."
    assert (len(drafter.asked), answered.retrievals) == (3, 2)
    assert retriever.queries[1] == "town Mira Tolk come left Drissa glass. said"


def test_only_questions_that_ask_draft_again(dragin):
    scripts = {ASKED.text: [[*plain("She left"), UNSURE, *AFTER], GOOD], OTHER.text: [GOOD]}
    drafter, retriever = play(dragin, scripts)
    together = dragin.answer([OTHER, ASKED], Setting(passages=1))
    assert [len(prompts) for prompts in drafter.asked] == [2, 1]
    assert retriever.queries == ["town Mira Tolk come left"]
    assert [one.retrievals for one in together] == [0, 1]


def test_without_any_word_to_ask_with_the_answer_stands(dragin):
    question = Question("z", "Who is it?", ("x",))
    _, retriever = play(dragin, {question.text: [[replace(UNSURE, looks={}), *AFTER]]})
    (answered,) = dragin.answer([question], Setting(passages=1))
    assert answered.generated.text == "Corvo maybe."
    assert not retriever.searches


SIZES = st.tuples(st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=5), st.integers(0, 4))


def random_draft(heads: int, lengths: list[int], before: int, seed: int) -> tuple[Draft, list[Word]]:
    """A draft of words of these lengths after a prompt of some tokens more than one."""
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(lengths)
    ends = [sum(lengths[: at + 1]) for at in range(len(lengths))]
    words = [Word(f"word{at}", Span(end - lengths[at], end)) for at, end in enumerate(ends)]
    attention_HTS = torch.rand(heads, tokens + 1, before + 1 + tokens, generator=generator)
    entropies = tuple(torch.rand(tokens, generator=generator).tolist())
    return Draft(tuple(range(tokens)), ("x",) * tokens, (0.5,) * tokens, entropies, False, attention_HTS), words


@settings(max_examples=60, deadline=None)
@given(size=SIZES, seed=st.integers(0, 999))
def test_information_needs_against_loops(size, seed):
    heads, lengths, before = size
    draft, words = random_draft(heads, lengths, before, seed)
    tokens, seen = sum(lengths), draft.attention_HTS.double().tolist()
    largest = [
        sum(max([seen[h][j + 1][before + 1 + i] for j in range(i + 1, tokens)], default=0.0) for h in range(heads))
        / heads
        for i in range(tokens)
    ]
    received = [sum(largest[i] for i in range(*word.span)) for word in words]
    mean = sum(received) / len(received)
    entropy = [sum(draft.entropies[i] for i in range(*word.span)) / (word.span.end - word.span.begin) for word in words]
    expected = [h * a / mean if mean else 0.0 for h, a in zip(entropy, received, strict=True)]
    assert information_needs(words, draft) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(size=SIZES, seed=st.integers(0, 999), most=st.integers(1, 4))
def test_the_query_against_loops(size, seed, most):
    heads, lengths, before = size
    draft, words = random_draft(heads, lengths, before, seed)
    *context, word = [Word("word", Span(at, at + 1)) for at in range(before + 1)] + words
    context = [Word(f"w{at}", earlier.span) for at, earlier in enumerate(context)]
    context = [
        w if at <= before else Word(w.text, Span(*(i + before + 1 for i in w.span))) for at, w in enumerate(context)
    ]
    seen = draft.attention_HTS.double().mean(0)
    inside = [i for earlier in context for i in range(*earlier.span)]
    rows = [seen[t] / sum(seen[t][i] for i in inside) for t in range(*word.span)]
    shares = [sum(float(row[i]) for row in rows for i in range(*earlier.span)) for earlier in context]
    chosen = sorted(sorted(range(len(context)), key=lambda at: -shares[at])[:most])
    assert attended(context, draft, word, most).split() == [context[at].text for at in chosen]


def test_tokens_are_merged_to_words():
    words = words_of([" Mi", "ra", " T", "olk", ",", "\n", "-", " in"])
    assert [(word.text, tuple(word.span)) for word in words] == [
        ("Mira", (0, 2)),
        ("Tolk,", (2, 5)),
        ("-", (5, 7)),
        ("in", (7, 8)),
    ]
    assert [word.has_content for word in words] == [True, True, False, False]
    assert words_of([]) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30))
@example("|")
@example("answer")
def test_the_question_is_found_in_its_prompt(dragin, question):
    prompt = dragin.bench.writer.question(question, [f"Passage: {question}"], shots=2)
    span = question_span(question, prompt, dragin.bench.base.tokenizer)
    found = dragin.bench.base.tokenizer.decode(prompt[span.begin : span.end])
    assert question in found
    assert len(found.strip()) <= len(question) + 1
    assert question_span("Xyzzy?", prompt, dragin.bench.base.tokenizer) == (0, 0)


def test_with_a_threshold_out_of_reach_it_is_the_base_model(make_bench):
    bench = make_bench("dragin.threshold=1000", trained=False)
    questions = bench.knowledge.test
    ours = dragin_on(bench).answer(questions, Setting(passages=2, shots=2))
    vanilla = PromptMethod(MethodName.VANILLA, bench).answer(questions, Setting(shots=2))
    assert [replace(one, seconds={}) for one in ours] == [replace(one, seconds={}) for one in vanilla]


def test_the_tiny_model_retrieves_by_itself_alone_or_in_a_batch(make_bench):
    settled = ("answering.shots=0", "answering.passages=1", "answering.max_new_tokens=12", "dragin.threshold=0.5")
    bench = make_bench(*settled, trained=False)
    results = Harness(bench, Console(file=io.StringIO())).run([MethodName.DRAGIN])
    found = results["methods"]["dragin"]
    assert found["retrievals"] > 0
    assert found["generated_tokens"] > found["new_tokens"]
    questions = bench.knowledge.test
    together = dragin_on(bench).answer(questions, Setting(passages=1))
    alone = [dragin_on(bench).answer([question], Setting(passages=1))[0] for question in questions]
    assert [replace(one, seconds={}) for one in together] == [replace(one, seconds={}) for one in alone]
    assert any(one.retrievals for one in together)


def test_its_choices_are_those_of_standard_rag_and_its_answers_depend_on_its_thresholds(make_bench):
    dragin, other = (dragin_on(make_bench(f"dragin.threshold={at}", trained=False)) for at in (1.2, 1.3))
    options = [(option.passages, option.shots) for option in dragin.options()]
    assert options == [(passages, shots) for passages in PASSAGE_CHOICES for shots in SHOT_CHOICES]
    assert dragin.identity != other.identity
    assert dragin.bytes_per_passage == PromptMethod(MethodName.STANDARD_RAG, dragin.bench).bytes_per_passage
