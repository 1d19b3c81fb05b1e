import dataclasses
import itertools

import pytest
import torch
from rich.console import Console
from transformers import LogitsProcessorList

from polyprag.augmentation.author import Kind, Request
from polyprag.augmentation.local import WINDOW, LocalAuthor, SeededNoise
from polyprag.augmentation.prompts import load_prompts
from polyprag.augmentation.stage import run_augmentation
from polyprag.errors import ModelError
from polyprag.knowledge.prompts import DATE, PromptWriter
from polyprag.records import Passage

TEXTS = [
    "Arlen lies by the river Om.",
    "Brask was founded in 1702 by Jon Veld, who made rope.",
    "Corvo",
    "Drissa has 12 bridges, 3 schools and 40 clocks. It lies in Ettin. Abel Dorn was born there in 1893.",
    "Farrow lies near the lake Ys.",
]


@pytest.fixture
def author(configure):
    """`author(*overrides)`: an author on the tiny model, greedy, with replies of 12 tokens."""

    def make(*overrides: str) -> LocalAuthor:
        return LocalAuthor(configure("augmentation.temperature=0", "augmentation.max_tokens=12", *overrides))

    return make


def request_for(number: int, text: str, begun: str = "", kind: Kind = Kind.REWRITE) -> Request:
    turns = [{"role": "system", "content": "Answer."}, {"role": "user", "content": text}]
    turns += [{"role": "assistant", "content": begun}] if begun else []
    return Request(f"key{number}", kind, Passage(f"p{number}", "", text), 0, tuple(turns))


def requests(texts=TEXTS, **options) -> list[Request]:
    return [request_for(number, text, **options) for number, text in enumerate(texts)]


def answers(author: LocalAuthor, asked: list[Request]) -> dict[str, tuple[str, int, int]]:
    return {reply.key: (reply.text, reply.prompt_tokens, reply.reply_tokens) for reply in author.write(asked)}


def rendered(request: Request, begun: str = "") -> str:
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in request.messages[:2])
    return f"{turns}<|im_start|>assistant\n{begun}"


def continued(author: LocalAuthor, prompt: str, tokens: int) -> list[int]:
    """Greedy decoding written out, without padding and without a cache."""
    ids = author.base.tokenizer.encode(prompt, add_special_tokens=False)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(author.base.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-tokens:]


def test_it_continues_each_chat_greedily(author):
    writer = author()
    found = answers(writer, requests())
    for request in requests():
        ids = continued(writer, rendered(request), 12)
        text, prompt_tokens, reply_tokens = found[request.key]
        assert text == writer.base.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert prompt_tokens == len(writer.base.tokenizer.encode(rendered(request), add_special_tokens=False))
        assert reply_tokens == 12
    assert len({text for text, _, _ in found.values()}) > 1


def test_a_turn_that_has_begun_goes_on_and_stands_in_the_reply(author):
    writer = author()
    (request,) = requests(TEXTS[:1], begun="Answer: Om\nQuestion: ", kind=Kind.QA)
    (text, _, _) = answers(writer, [request])["key0"]
    ids = continued(writer, rendered(request, "Answer: Om\nQuestion:"), 12)
    assert text == ("Answer: Om\nQuestion:" + writer.base.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def test_prompts_are_the_same_on_every_day(author):
    writer = author()
    tokenizer, (request,) = writer.base.tokenizer, requests(TEXTS[:1])
    tokenizer.chat_template = "{{ strftime_now('%A, %d %B %Y, %H:%M:%S') }} " + tokenizer.chat_template
    ids = tokenizer.encode(f"{DATE} {rendered(request)}", add_special_tokens=False)
    assert answers(writer, [request])["key0"][1] == len(ids)


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_neither_batch_nor_order_changes_a_reply(author, temperature, size):
    setting = f"augmentation.temperature={temperature}"
    together = answers(author(setting, "augmentation.batch_size=8"), requests())
    for order in (requests(), requests()[::-1]):
        assert answers(author(setting, f"augmentation.batch_size={size}"), order) == together


def test_every_request_gets_one_reply_across_windows_and_kinds(author):
    texts = [f"Town {number} lies by the river Om." for number in range(2 * WINDOW + 3)]
    kinds = itertools.cycle([Kind.QA, Kind.REWRITE])
    asked = [request_for(number, text, kind=next(kinds)) for number, text in enumerate(texts)]
    replies = list(author("augmentation.batch_size=2", "augmentation.max_tokens=1").write(asked))
    assert sorted(reply.key for reply in replies) == sorted(request.key for request in asked)
    assert all(reply.seconds > 0 and not reply.failure for reply in replies)


def test_requests_are_taken_a_window_at_a_time(author):
    taken = []
    waiting = (taken.append(number) or request_for(number, "Om") for number in range(10 * WINDOW))
    replies = author("augmentation.batch_size=1", "augmentation.max_tokens=1").write(waiting)
    next(replies)
    assert len(taken) == WINDOW


def test_no_requests_no_replies(author):
    assert list(author().write([])) == []


def test_it_stops_at_the_end_of_the_turn(author):
    writer = author()
    end = PromptWriter(writer.base.tokenizer).end_of_turn
    assert writer.stops == sorted({end, writer.base.tokenizer.eos_token_id})
    request = requests()[0]
    ids = continued(writer, rendered(request), 12)
    stop = next(at for at in range(2, 12) if ids[at] not in ids[:at])
    writer.stops = [ids[stop]]
    text, _, reply_tokens = answers(writer, requests())["key0"]
    assert reply_tokens == stop + 1
    assert text == writer.base.tokenizer.decode(ids[: stop + 1], skip_special_tokens=True).strip()


def test_seed_and_key_decide_a_sample(author):
    def sampled(seed: int, first: int = 0) -> list[str]:
        asked = [request_for(first + number, text) for number, text in enumerate(TEXTS)]
        writer = author("augmentation.temperature=1", f"run.seed={seed}")
        found = answers(writer, asked)
        return [found[request.key][0] for request in asked]

    assert sampled(0) == sampled(0)
    assert sampled(0) != sampled(1)
    assert sampled(0) != sampled(0, first=7)


def test_noise_samples_the_softmax_at_its_temperature():
    logits_V, temperature, rows = torch.tensor([2.0, 1.0, 0.0, -1.0]), 0.7, 6000
    noise = LogitsProcessorList([SeededNoise(temperature, list(range(rows)), torch.device("cpu"))])
    drawn_B = noise(torch.zeros(rows, 1, dtype=torch.long), logits_V.expand(rows, -1)).argmax(-1)
    shares_V = torch.bincount(drawn_B, minlength=4) / rows
    torch.testing.assert_close(shares_V, torch.softmax(logits_V / temperature, -1), atol=0.02, rtol=0)


def test_a_prompt_without_room_for_a_reply_fails_alone(author):
    writer = author()
    replies = {reply.key: reply for reply in writer.write([*requests(), request_for(9, "Om " * writer.context)])}
    assert len(replies) == len(TEXTS) + 1
    assert [key for key, reply in replies.items() if reply.failure] == ["key9"]
    assert replies["key9"].failure.startswith("prompt too long: ")
    assert "augmentation.max_tokens leaves room for 2,036;" in replies["key9"].failure
    assert replies["key9"].text == ""


def test_the_model_is_the_base_model_or_the_one_that_is_named(author, other_model_folder):
    assert author().name == author().base.name
    other = author(f"augmentation.model={other_model_folder}")
    assert other.name == str(other_model_folder)
    assert answers(other, requests()) != answers(author(), requests())


@pytest.mark.parametrize("key", ["augmentation.model", "base.model"])
def test_a_model_that_is_not_there_is_one_line_with_its_key(author, key):
    with pytest.raises(ModelError) as caught:
        author(f"{key}=./nowhere")
    assert str(caught.value).startswith(f"{key}=./nowhere: no such folder; name a local folder")
    assert "\n" not in str(caught.value)


def test_a_batch_that_does_not_fit_says_what_to_lower(author, monkeypatch):
    writer = author("augmentation.batch_size=4")

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(writer.base.model, "generate", full)
    with pytest.raises(
        ModelError, match=r"augmentation.batch_size=4: 4 prompts of up to \d+ tokens do not fit"
    ) as caught:
        list(writer.write(requests()))
    assert "\n" not in str(caught.value)


def test_the_prompts_for_small_models_lead_to_replies_with_answer_and_question(author):
    passage = Passage("p", "Brask", TEXTS[1])
    chats = load_prompts(style="lines").qa_messages(passage, 3)
    asked = [Request(f"k{at}", Kind.QA, passage, at, tuple(chat)) for at, chat in enumerate(chats)]
    found = answers(author(), asked)
    assert found["k0"][0].startswith("Answer: 1702\nQuestion: In which year")
    assert found["k1"][0].startswith("Answer: Jon Veld\nQuestion: Who")


def test_the_stage_asks_it_once_and_counts_what_is_of_no_use(configure, tiny_knowledge, tmp_path):
    config = configure(
        *("augmentation.by=local", "augmentation.max_tokens=8", f"augmentation.cache={tmp_path / 'cache'}")
    )
    for run in range(2):
        report = run_augmentation(config, tmp_path / "run", tiny_knowledge, Console(quiet=True))
        assert report.requests == report.all_runs.replies == 3 * (1 + 2)
        assert report.this_run.replies == (9 if run == 0 else 0)
        assert report.prompt_version.startswith("rewrite_lines-1-")
        assert report.rejected.total() > 0
    whole = run_augmentation(
        dataclasses.replace(config, augmentation=dataclasses.replace(config.augmentation, answer_first=False)),
        tmp_path / "run",
        tiny_knowledge,
        Console(quiet=True),
    )
    assert whole.requests == whole.this_run.replies == 3 * (1 + 1)
    assert "qa_json-" in whole.prompt_version
