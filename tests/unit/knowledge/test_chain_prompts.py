"""Chain-of-thought prompts: their form, what is trained to follow them, and what is read after them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.config import Loss, PromptStyle, Recipe, TasksConfig
from polyprag.knowledge.prompts import CHAIN_SYSTEM, CHAINS, PromptWriter, explained
from polyprag.knowledge.tasks import examples_of
from polyprag.records import Augmentation, Passage, QAPair

END = "<|im_end|>"
EXPLAINED = QAPair("Where is Arlen?", "Drissa", "Arlen lies by the Om, and the Om is in Drissa")
SHORT = QAPair("Who?", "Runa Hale")


@pytest.fixture
def writer(tiny_tokenizer) -> PromptWriter:
    return PromptWriter(tiny_tokenizer, PromptStyle.COT)


@pytest.fixture
def direct(tiny_tokenizer) -> PromptWriter:
    return PromptWriter(tiny_tokenizer)


def test_all_worked_examples_stand_before_the_question_without_passages(writer):
    shown = writer.tokenizer.decode(writer.question("Who?", ["one", "two"]))
    turns = shown.split("<|im_start|>")[1:]
    assert turns[0] == f"system\n{CHAIN_SYSTEM}{END}\n"
    assert turns[1:-2] == [
        turn
        for pair in CHAINS
        for turn in (
            f"user\nQuestion: {pair.question}{END}\n",
            f"assistant\nAnswer: {pair.full_answer} The answer is {pair.answer}{END}\n",
        )
    ]
    assert turns[-2:] == [f"user\nPassage 1: one\nPassage 2: two\nQuestion: Who?{END}\n", "assistant\nAnswer:"]


def test_the_number_of_short_examples_has_no_say(writer):
    assert writer.question("Who?", shots=4) == writer.question("Who?")


def test_prompts_with_and_without_passages_begin_alike(writer):
    closed, open_book = writer.question("Who?"), writer.question("Who?", ["one"])
    shared = next(at for at, (one, other) in enumerate(zip(closed, open_book, strict=False)) if one != other)
    assert writer.tokenizer.decode(closed[:shared]).endswith("<|im_start|>user\n")


@pytest.mark.parametrize("pair", CHAINS)
def test_examples_are_read_as_their_answers(writer, pair):
    assert writer.read(f" {explained(pair)}") == pair.answer


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (EXPLAINED, f"{EXPLAINED.full_answer}. The answer is Drissa"),
        (QAPair("Why?", "rain", "It  rains.\nA lot!"), "It rains. A lot! The answer is rain"),
        (SHORT, "The answer is Runa Hale"),
        (QAPair("Who?", "Runa Hale", "runa hale."), "The answer is Runa Hale"),
    ],
)
def test_the_target_is_the_explanation_and_then_the_answer(writer, direct, pair, said):
    assert writer.tokenizer.decode(writer.target(pair)) == f" {said}{END}"
    assert writer.read(writer.tokenizer.decode(writer.target(pair)[:-1])) == pair.answer
    assert direct.tokenizer.decode(direct.target(pair)) == f" {pair.answer}{END}"


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (" The mill is in Arlen. The answer is Arlen", "Arlen"),
        (" First this.\nThen that.\nSo the answer is: Arlen.\n", "Arlen"),
        (" THE  ANSWER\nIS Arlen", "Arlen"),
        (" The answer is Brask. No, wait. The answer is Arlen", "Arlen"),
        (" The answer is Arlen.\nThe answer is", "Arlen"),
        (" **The answer is** **Arlen**.", "Arlen"),
        (' The answer is "Arlen".\nIt is a town.', "Arlen"),
        (" The answer is\n\n Arlen", "Arlen"),
        (" The answer is Arlen.\n\nQuestion: Who? Answer: The answer is Runa", "Arlen"),
        (" The answer is St. Louis", "St. Louis"),
        (" The answer is 1980. 1980 is before 1990.", "1980"),
        (" The answer is no. England and Germany are two countries.", "no"),
        (" The answer is J. R. R. Tolkien, I think. He wrote it", "J. R. R. Tolkien, I think"),
        (" The answer is St. Louis. It", "St. Louis"),
        (" The theanswer is lost", "The theanswer is lost"),
        (" Mira was born.\n In Arlen \n", "In Arlen"),
        ("", ""),
        (" \n ", ""),
        ("Question: Who?", ""),
        (" The answer is", "The answer is"),
    ],
)
def test_the_answer_is_what_follows_the_last_conclusion(writer, raw, answer):
    assert writer.read(raw) == answer


@pytest.mark.parametrize(
    ("raw", "done", "cut"),
    [
        (" The answer is Johann Mozart. The answer is Joh", "Joh", "Johann Mozart"),
        (" The answer is Brask. The answer is Arlen.", "Arlen", "Arlen"),
        (" The answer is Brask. The answer is Arlen\nThe", "Arlen", "Arlen"),
        (" The answer is Joh", "Joh", "Joh"),
        (" He was born in Ar", "He was born in Ar", "He was born in Ar"),
    ],
)
def test_a_conclusion_that_breaks_off_counts_only_where_it_is_the_first(writer, raw, done, cut):
    assert (writer.read(raw), writer.read(raw, ended=False)) == (done, cut)


@given(st.text())
def test_any_text_is_read_as_a_single_line(raw):
    for style in PromptStyle:
        for ended in (True, False):
            answer = PromptWriter(None, style).read(raw, ended)
            assert len(answer.splitlines()) <= 1
            assert answer == answer.strip()


@given(st.text(alphabet="ab .", max_size=30), st.text(alphabet="xyz", min_size=1, max_size=8))
def test_whatever_was_thought_the_conclusion_counts(thought, answer):
    assert PromptWriter(None, PromptStyle.COT).read(f" {thought}\n The answer is {answer}.") == answer


def test_a_chain_does_not_end_with_its_line(writer, direct):
    newline = direct.tokenizer.encode("\n", add_special_tokens=False)[-1]
    assert newline in direct.stops
    assert writer.stops == sorted(set(direct.stops) - {newline})
    assert writer.end_of_turn in writer.stops


@pytest.mark.parametrize("recipe", Recipe)
def test_training_follows_the_same_prompts(writer, recipe):
    passage = Passage("p", "Arlen", "Arlen lies by the Om.")
    config = TasksConfig(recipe=recipe, loss=Loss.ALL_TOKENS)
    groups = examples_of(passage, Augmentation("p", (), (EXPLAINED, SHORT)), config, writer)
    prompts = {
        tuple(writer.question(pair.question, shown)): writer.target(pair)
        for pair in (EXPLAINED, SHORT)
        for shown in ((), ["Arlen: Arlen lies by the Om."])
    }
    found = [example for group in groups for example in group]
    assert len(found) == (2 if recipe is Recipe.PRAG else 4)
    for example in found:
        target = prompts[example.prompt]
        assert list(example.answer) == (target[:-1] if recipe is Recipe.PRAG else target)
