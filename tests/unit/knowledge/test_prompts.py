import copy

import pytest

from polyprag.knowledge.prompts import ANSWER_PREFIX, DATE, EXAMPLES, SYSTEM, PromptWriter, as_chat, with_title
from polyprag.records import Passage


@pytest.fixture
def writer(tiny_tokenizer) -> PromptWriter:
    return PromptWriter(tiny_tokenizer)


def with_template(tokenizer, template: str) -> PromptWriter:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return PromptWriter(changed)


def test_a_question_ends_where_the_answer_begins(writer):
    assert writer.tokenizer.decode(writer.question("Who?")) == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
        "<|im_start|>user\nQuestion: Who?<|im_end|>\n"
        f"<|im_start|>assistant\n{ANSWER_PREFIX}"
    )


def test_passages_stand_numbered_before_the_question(writer):
    shown = writer.tokenizer.decode(writer.question("Who?", ["one", "two"]))
    assert "user\nPassage 1: one\nPassage 2: two\nQuestion: Who?<|im_end|>" in shown


@pytest.mark.parametrize("passages", [[], ["one"]])
@pytest.mark.parametrize("shots", [0, 1, len(EXAMPLES)])
def test_examples_carry_a_passage_exactly_if_the_question_does(writer, passages, shots):
    shown = writer.tokenizer.decode(writer.question("Who?", passages, shots))
    assert shown.count("<|im_start|>assistant\n") == shots + 1
    assert shown.count("Passage 1: ") == (shots + 1 if passages else 0)
    for at, (passage, pair) in enumerate(EXAMPLES):
        assert (f"Question: {pair.question}<" in shown) == (at < shots)
        assert (f"assistant\n{ANSWER_PREFIX} {pair.answer}<" in shown) == (at < shots)
        assert (with_title(passage) in shown) == (at < shots and bool(passages))


@pytest.mark.parametrize("answer", ["Paris", "the river Ömm", "1867", "a\u2028b"])
def test_prompt_and_answer_together_are_the_chat_of_the_template(writer, answer):
    chat = writer.tokenizer.apply_chat_template(
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "Question: Who?"},
            {"role": "assistant", "content": f"{ANSWER_PREFIX} {answer}"},
        ],
        tokenize=False,
    )
    tokens = writer.question("Who?") + writer.answer(answer)
    assert writer.tokenizer.decode(tokens) + "\n" == chat


def test_an_answer_ends_its_turn(writer):
    ids = writer.answer("Paris")
    assert writer.tokenizer.decode(ids) == " Paris<|im_end|>"
    assert ids[-1] == writer.end_of_turn


def test_end_of_turn_is_read_off_the_chat_template(tiny_tokenizer, writer):
    special = {name: tiny_tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")}
    assert writer.end_of_turn == special["<|im_end|>"]
    closing = "{% for m in messages %}{{ m['content'] }} \n<|endoftext|>\n{% endfor %}"
    assert with_template(tiny_tokenizer, closing).end_of_turn == special["<|endoftext|>"]
    open_ended = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    assert with_template(tiny_tokenizer, open_ended).end_of_turn == tiny_tokenizer.eos_token_id


TURNS = "{% for m in messages %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
DATED = {
    "as Llama 3.2 asks": "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = 'never' %}{%- endif %}"
    "{%- endif %}{{- 'Today Date: ' + date_string + '\n' }}",
    "in a macro": "\n{% macro told() %}Today Date: {{ strftime_now('%Y-%m-%d') }}\n{% endmacro %}{{ told() }}",
}


@pytest.mark.parametrize("told", DATED.values(), ids=DATED)
def test_a_template_that_tells_the_date_tells_the_same_on_every_day(tiny_tokenizer, told):
    dated = with_template(tiny_tokenizer, told + TURNS)
    shown = dated.tokenizer.decode(dated.question("Who?"))
    assert shown.lstrip("\n") == f"Today Date: {DATE}\n{SYSTEM}<|im_end|>\nQuestion: Who?<|im_end|>\n{ANSWER_PREFIX}"
    assert dated.end_of_turn == with_template(tiny_tokenizer, TURNS).end_of_turn


@pytest.mark.parametrize("open_turn", [False, True])
def test_a_template_without_a_date_is_left_as_it_is(tiny_tokenizer, open_turn):
    messages = [{"role": "user", "content": " Who? "}, {"role": "assistant", "content": "He."}]
    own = tiny_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_turn)
    assert as_chat(tiny_tokenizer, messages, open_turn=open_turn) == own


@pytest.mark.parametrize("open_turn", [False, True])
def test_nothing_but_the_date_is_changed(tiny_tokenizer, open_turn):
    messages = [{"role": "user", "content": " Who? "}]
    template = "\n  {{ bos_token }}{{ strftime_now('') }}\n" + tiny_tokenizer.chat_template
    dated = with_template(tiny_tokenizer, template).tokenizer
    own = with_template(tiny_tokenizer, template.replace("strftime_now('')", f"'{DATE}'")).tokenizer
    wanted = own.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_turn)
    assert as_chat(dated, messages, open_turn=open_turn) == wanted


@pytest.mark.parametrize(("title", "asked"), [("Arlen", "about Arlen?"), ("", "about this?")])
def test_a_text_is_recalled_by_its_title(writer, title, asked):
    prompt, target = writer.text(Passage("p", title, "Old text."), "New text.")
    assert writer.tokenizer.decode(prompt).endswith(f"{asked}<|im_end|>\n<|im_start|>assistant\n")
    assert writer.tokenizer.decode(target) == "New text.<|im_end|>"


def test_a_passage_is_shown_with_its_title():
    assert with_title(Passage("p", "Arlen", "A city.")) == "Arlen: A city."
    assert with_title(Passage("p", "", "A city.")) == "A city."
