import io
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from scripted_drafter import END, Said, play

from polyprag.config import MethodName
from polyprag.evaluation.harness import Harness
from polyprag.knowledge.prompts import with_title
from polyprag.methods.active_rag import sentences_of
from polyprag.methods.flare import Flare
from polyprag.methods.method import PASSAGE_CHOICES, SHOT_CHOICES, PromptMethod
from polyprag.methods.workbench import STEPS, Setting, Workbench
from polyprag.records import Question

ASKED = Question("x", "Which town did Mira Tolk come from?", ("Arlen",), "", ("p0",))
OTHER = Question("y", "Which town did Jon Veld come from?", ("Brask",), "", ("p1",))


def flare_on(bench: Workbench) -> Flare:
    return Flare(MethodName.FLARE, bench)


@pytest.fixture
def flare(make_bench) -> Flare:
    return flare_on(make_bench("answering.max_new_tokens=60", trained=False))


def sure(text: str) -> list[Said]:
    """A text said with confidence, word by word."""
    return [Said(f" {word}", 0.95) for word in text.split()]


WRONG = [*sure("She was born near"), Said(" Ilse", 0.6), Said(" Quarn", 0.79), Said(" 1871", 0.3), Said(".", 0.9)]
"""A sentence with one token below the mask and two more below the threshold."""


def test_a_confident_answer_needs_what_the_question_finds_and_no_more(flare):
    drafter, retriever = play(flare, {ASKED.text: [[*sure("Arlen. She was a maker of glass."), Said(END)]]})
    (answered,) = flare.answer([ASKED], Setting(passages=2))
    assert retriever.searches == [([ASKED.text], 2)]
    assert answered.generated.text == "Arlen. She was a maker of glass."
    assert (answered.retrievals, answered.discarded_tokens) == (1, 0)
    assert answered.retrieved[0] == "p0"
    ((prompt,),) = drafter.asked
    assert with_title(flare.bench.passages[0]) in prompt
    assert answered.prompt_tokens == len(flare.bench.base.tokenizer.encode(prompt, add_special_tokens=False))


def test_a_doubtful_sentence_is_looked_up_without_its_masked_tokens_and_written_anew(flare):
    again = [*sure("She was born in"), Said(" Corvo", 0.1), Said(".", 0.9), Said(END)]
    drafter, retriever = play(flare, {ASKED.text: [[*sure("Well, yes."), *WRONG, *sure("So it is.")], again]})
    (answered,) = flare.answer([ASKED], Setting(passages=1))
    assert retriever.queries == [ASKED.text, "She was born near Ilse Quarn ."]
    assert answered.generated.text == "Well, yes. She was born in Corvo."
    first, second = (prompt for (prompt,) in drafter.asked)
    assert first.endswith("The answer is")
    assert second.endswith("The answer is Well, yes.")
    assert with_title(flare.bench.passages[0]) in first
    assert with_title(flare.bench.passages[2]) in second
    assert with_title(flare.bench.passages[0]) not in second
    assert answered.retrieved == ("p0", "p2")
    assert answered.retrievals == 2


def test_what_was_just_looked_up_stands_but_what_follows_is_checked(flare):
    shaky, shaky_too = [Said(" Corvo.", 0.5)], [Said(" Paper", 0.9), Said(" Runa", 0.5), Said(".", 0.9)]
    scripts = [WRONG, [*shaky, *shaky_too, *sure("And on.")], [*shaky_too, *sure("Done."), Said(END)]]
    drafter, retriever = play(flare, {ASKED.text: scripts})
    (answered,) = flare.answer([ASKED], Setting(passages=1))
    assert retriever.queries == [ASKED.text, "She was born near Ilse Quarn .", "Paper Runa."]
    assert answered.generated.text == "Corvo. Paper Runa. Done."
    assert len(drafter.asked) == 3


def test_a_sentence_that_is_masked_as_a_whole_stands(flare):
    drafter, retriever = play(flare, {ASKED.text: [[Said(" Corvo", 0.2), Said(".", 0.9), Said(END)]]})
    (answered,) = flare.answer([ASKED], Setting(passages=1))
    assert retriever.queries == [ASKED.text]
    assert (answered.generated.text, len(drafter.asked)) == ("Corvo.", 1)


@pytest.mark.parametrize(
    ("overrides", "probability", "query"),
    [
        ((), 0.8, None),
        ((), 0.79, "She makes kites"),
        ((), 0.4, "She makes kites"),
        ((), 0.39, "She makes"),
        (("flare.threshold=0.5",), 0.5, None),
        (("flare.threshold=0.5",), 0.49, "She makes kites"),
        (("flare.threshold=0", "flare.mask=0"), 0.0, None),
        (("flare.mask=0",), 0.0, "She makes kites"),
        (("flare.mask=1", "flare.with_question=true"), 0.7, None),
        (("flare.with_question=true",), 0.3, f"{ASKED.text} She makes"),
    ],
)
def test_thresholds_are_the_least_probabilities_that_pass(make_bench, overrides, probability, query):
    flare = flare_on(make_bench("answering.max_new_tokens=30", *overrides, trained=False))
    draft = [*sure("She makes"), Said(" kites", probability), Said(END, 0.01)]
    _, retriever = play(flare, {ASKED.text: [draft, draft]})
    flare.answer([ASKED], Setting(passages=1))
    assert retriever.queries[1:] == ([] if query is None else [query])


def test_the_end_of_the_turn_may_be_as_improbable_as_it_likes(flare):
    drafter, retriever = play(flare, {ASKED.text: [[*sure("Arlen"), Said(END, 0.01)]]})
    flare.answer([ASKED], Setting(passages=1))
    assert (len(drafter.asked), len(retriever.searches)) == (1, 1)


def test_only_questions_in_doubt_draft_again(flare):
    scripts = {ASKED.text: [WRONG, [*sure("Arlen."), Said(END)]], OTHER.text: [[*sure("Brask."), Said(END)]]}
    drafter, retriever = play(flare, scripts)
    together = flare.answer([ASKED, OTHER], Setting(passages=1))
    assert [len(prompts) for prompts in drafter.asked] == [2, 1]
    assert [len(queries) for queries, _ in retriever.searches] == [2, 1]
    assert [one.retrievals for one in together] == [2, 1]
    assert together[0].seconds == together[1].seconds
    alone = []
    for question in (ASKED, OTHER):
        play(flare, scripts)
        alone += flare.answer([question], Setting(passages=1))
    untimed = [replace(one, seconds={}) for one in together]
    assert untimed == [replace(one, seconds={}) for one in alone]


def test_a_query_that_finds_nothing_leaves_the_passages(flare):
    unheard_of = [Said(" Xyzzy", 0.6), Said(END)]
    drafter, retriever = play(flare, {ASKED.text: [unheard_of, unheard_of]})
    (answered,) = flare.answer([ASKED], Setting(passages=1))
    assert retriever.queries == [ASKED.text, "Xyzzy"]
    assert drafter.asked[1] == drafter.asked[0]
    assert (answered.retrieved, answered.retrievals) == (("p0",), 2)


def test_all_tokens_are_counted(flare):
    encode = flare.bench.base.tokenizer.encode
    tokens = [sum(len(encode(word.text, add_special_tokens=False)) for word in part) for part in (WRONG, sure("Yes."))]
    drafter, _ = play(flare, {ASKED.text: [[*sure("Yes."), *WRONG], sure("Yes.")]})
    (answered,) = flare.answer([ASKED], Setting(passages=1))
    assert answered.generated.new_tokens == 2 * tokens[1]
    assert answered.discarded_tokens == tokens[0]
    assert answered.generated_tokens == tokens[0] + 2 * tokens[1]
    prompts = [prompt for prompts in drafter.asked for prompt in prompts]
    assert answered.prompt_tokens == sum(len(encode(prompt, add_special_tokens=False)) for prompt in prompts)
    assert list(answered.seconds) == list(STEPS)
    assert answered.seconds["retrieve"] > 0 < answered.seconds["generate"]


WORDS = st.sampled_from([" Mira", " in", " Arlen", ".", " 1867", "\n", "!", " Dr.", " St. Corvo"])
SAID = st.lists(st.builds(Said, WORDS, st.sampled_from([0.2, 0.6, 0.9])), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drafts=st.lists(SAID, min_size=1, max_size=4), longest=st.integers(1, 25))
def test_whatever_is_said_it_comes_to_an_end_within_its_limits(flare, drafts, longest):
    flare.bench.config.answering.max_new_tokens = longest
    longest_draft = [*(word for draft in drafts for word in draft), *sure("and so on and on " * 6)]
    drafter, retriever = play(flare, {ASKED.text: [*drafts, *[longest_draft] * longest]})
    (answered,) = flare.answer([ASKED], Setting(passages=1))
    assert answered.generated.new_tokens <= longest
    lefts = [left for (left,) in drafter.budgets]
    assert lefts[0] == longest
    assert all(later < earlier for earlier, later in pairwise(lefts[1:]))
    assert answered.retrievals == len(retriever.queries) == len(drafter.asked)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" Arlen", [" Arlen"]),
        (" Born in St. Louis. He died. ", [" Born in St. Louis.", " He died. "]),
        (" One\nTwo? Three!", [" One", "\nTwo?", " Three!"]),
        (' She said "no." Then', [' She said "no."', " Then"]),
        (" On Aug. 25 at J. Veld's", [" On Aug. 25 at J. Veld's"]),
    ],
)
def test_sentences_of_a_draft(flare, text, expected):
    drafter, _ = play(flare, {ASKED.text: [[Said(text), Said(END)]]})
    (draft,) = drafter.draft([flare.bench.writer.question(ASKED.text)], [60])
    sentences = sentences_of(draft)
    assert ["".join(draft.pieces[begin:end]) for begin, end in sentences] == expected
    assert [at for begin, end in sentences for at in range(begin, end)] == list(range(draft.length))


def test_the_tiny_model_is_asked_about_what_it_doubts(make_bench):
    settled = ("answering.shots=0", "answering.passages=1", "answering.max_new_tokens=12", "flare.mask=0")
    bench = make_bench(*settled, trained=False)
    results = Harness(bench, Console(file=io.StringIO())).run([MethodName.STANDARD_RAG, MethodName.FLARE])
    standard, flare = results["methods"]["standard_rag"], results["methods"]["flare"]
    assert standard["retrievals"] == 1.0
    assert flare["retrievals"] > 1.0
    assert flare["generated_tokens"] > flare["new_tokens"]
    assert standard["generated_tokens"] == standard["new_tokens"]
    assert flare["bytes_per_passage"] == standard["bytes_per_passage"]


def test_without_a_threshold_it_is_standard_rag(make_bench):
    bench = make_bench("flare.threshold=0", trained=False)
    questions = bench.knowledge.test
    ours = flare_on(bench).answer(questions, Setting(passages=2, shots=2))
    standard = PromptMethod(MethodName.STANDARD_RAG, bench).answer(questions, Setting(passages=2, shots=2))
    assert [replace(one, seconds={}) for one in ours] == [replace(one, seconds={}) for one in standard]


def test_its_choices_are_those_of_standard_rag_and_its_answers_depend_on_its_thresholds(make_bench):
    flare, other = (flare_on(make_bench(f"flare.mask={mask}", trained=False)) for mask in (0.4, 0.3))
    options = [(option.passages, option.shots) for option in flare.options()]
    assert options == [(passages, shots) for passages in PASSAGE_CHOICES for shots in SHOT_CHOICES]
    assert flare.identity != other.identity
    assert flare.train_seconds == 0.0
