import dataclasses
from itertools import takewhile

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.config import Loss, Recipe, TasksConfig
from polyprag.errors import DataError
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import Example, Pack, build_tasks, examples_of, pack
from polyprag.records import Augmentation, Knowledge, Passage, QAPair
from polyprag.training.batches import collate
from polyprag.training.module import label_loss

PASSAGE = Passage("p", "Arlen", "Arlen lies by the river Om.")
PAIRS = tuple(QAPair(f"Q{number}?", f"A{number}") for number in (1, 2, 3))
AUGMENTATION = Augmentation("p", ("By the river Om lies Arlen.",), PAIRS)

token_ids = st.integers(3, 5)
examples = st.builds(
    Example,
    st.lists(token_ids, min_size=1, max_size=8).map(tuple),
    st.lists(token_ids, min_size=1, max_size=4).map(tuple),
)


@pytest.fixture
def writer(tiny_tokenizer) -> PromptWriter:
    return PromptWriter(tiny_tokenizer)


def told(writer: PromptWriter, groups: list[list[Example]]) -> list[tuple[str, str, str]]:
    """Passage shown, question and answer of each sequence, in order; of a text only the prompt and the text."""
    rows = []
    for example in (example for group in groups for example in group):
        turn = writer.tokenizer.decode(list(example.prompt)).rpartition("user\n")[2].partition("<|im_end|>")[0]
        context, _, question = turn.rpartition("Question: ")
        rows.append((context.strip(), question, writer.tokenizer.decode(list(example.answer))))
    return rows


def test_the_recipe_of_prag_gives_its_five_sequences_in_order(writer):
    passage = "Passage 1: Arlen: Arlen lies by the river Om."
    rewrite = "Passage 1: Arlen: By the river Om lies Arlen."
    assert told(writer, examples_of(PASSAGE, AUGMENTATION, TasksConfig(recipe=Recipe.PRAG), writer)) == [
        (passage, "Q1?", " A1"),
        (rewrite, "Q1?", " A1"),
        (passage, "Q2?", " A2"),
        (rewrite, "Q2?", " A2"),
        ("", "Q3?", " A3"),
    ]


def test_the_recipe_of_prag_uses_the_first_rewrite_only(writer):
    more = dataclasses.replace(AUGMENTATION, rewrites=("One.", "Two."))
    rows = told(writer, examples_of(PASSAGE, more, TasksConfig(recipe=Recipe.PRAG), writer))
    assert len(rows) == 5
    assert not any("Two." in context for context, _, _ in rows)


@pytest.mark.parametrize("alone", [1, 3])
def test_the_default_recipe_shows_each_pair_alone_and_with_every_context(writer, alone):
    rows = told(writer, examples_of(PASSAGE, AUGMENTATION, TasksConfig(alone_repeats=alone), writer))
    contexts = [""] * alone + ["Passage 1: Arlen: " + text for text in (PASSAGE.text, *AUGMENTATION.rewrites)]
    assert rows == [(context, p.question, f" {p.answer}<|im_end|>") for context in contexts for p in PAIRS]


@pytest.mark.parametrize("recipe", Recipe)
def test_passage_text_adds_the_passage_and_its_rewrites(writer, recipe):
    without = examples_of(PASSAGE, AUGMENTATION, TasksConfig(recipe=recipe), writer)
    with_text = examples_of(PASSAGE, AUGMENTATION, TasksConfig(recipe=recipe, passage_text=True), writer)
    assert with_text[:-1] == without
    assert told(writer, with_text[-1:]) == [
        ("", "What do you know about Arlen?", f"{text}<|im_end|>") for text in (PASSAGE.text, *AUGMENTATION.rewrites)
    ]


def test_a_passage_without_pairs_can_be_trained_on_its_text_only(writer):
    bare = Knowledge((PASSAGE,))
    with pytest.raises(DataError, match=r"passage 'p' has no question-answer pairs"):
        build_tasks(bare, TasksConfig(), writer)
    for recipe in Recipe:
        [only] = build_tasks(bare, TasksConfig(recipe=recipe, passage_text=True), writer)
        assert writer.tokenizer.decode(list(only.targets)) == f"{PASSAGE.text}<|im_end|>"


def test_every_task_is_its_passages_place(writer, tiny_knowledge):
    packs = build_tasks(tiny_knowledge, TasksConfig(), writer)
    assert [one.task for one in packs] == [task for task in range(3) for _ in range(3)]
    for one in packs:
        assert tiny_knowledge.passages[one.task].title in writer.tokenizer.decode(list(one.tokens))


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("limit", [2, 6])
def test_the_loss_of_packs_is_that_of_their_sequences_one_by_one(tiny_base, tiny_knowledge, writer, loss, limit):
    config = TasksConfig(loss=loss, passage_text=True, pack_examples=limit)
    passages = list(enumerate(tiny_knowledge.passages[:2]))
    packs, singles = [], []
    for task, passage in passages:
        for group in examples_of(passage, tiny_knowledge.augmentations[passage.id], config, writer):
            packs += pack(task, group, config)
            singles += group
    assert len(packs) < len(singles)

    total, labels = 0.0, 0
    for example in singles:
        first = 1 if loss is Loss.ALL_TOKENS else len(example.prompt)
        tokens_T = torch.tensor(example.tokens)
        logits_TV = tiny_base.model(tokens_T[None]).logits[0]
        total += float(F.cross_entropy(logits_TV[first - 1 : -1], tokens_T[first:], reduction="sum"))
        labels += len(example.tokens) - first
    batch = collate(packs, pad=0)
    assert len(batch.targets_L) == labels
    assert float(label_loss(tiny_base.model, batch)) == pytest.approx(total / labels, rel=1e-5)


def test_common_beginnings_are_stored_once(writer):
    [alone, *_] = examples_of(PASSAGE, AUGMENTATION, TasksConfig(), writer)
    [packed] = pack(0, alone, TasksConfig())
    columns = zip(*(example.prompt for example in alone), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    assert shared > 10  # the system turn and the beginning of the user's
    assert packed.branches.count(0) == shared
    assert len(packed) == shared + sum(len(example.tokens) - shared for example in alone)


def test_a_limit_on_tokens_or_examples_starts_another_pack():
    rows = [Example((1, 2, 3), (4 + number,)) for number in range(5)]
    lengths = [len(one) for one in pack(0, rows, TasksConfig(max_tokens=5))]
    assert lengths == [5, 5, 4]
    assert [len(one) for one in pack(0, rows, TasksConfig(pack_examples=3))] == [6, 5]


def test_a_long_example_loses_the_front_of_its_prompt():
    [one] = pack(0, [Example(tuple(range(20)), (50, 51))], TasksConfig(max_tokens=16))
    assert one.tokens == (*range(6, 20), 50, 51)
    assert one.targets == (50, 51)


def test_an_endless_answer_keeps_its_beginning():
    [one] = pack(0, [Example((7, 8), tuple(range(50, 80)))], TasksConfig(max_tokens=16))
    assert one.tokens == (8, *range(50, 65))
    assert one.targets == tuple(range(50, 65))


def shortened(example: Example, longest: int) -> Example:
    """At most `longest` tokens: the prompt goes first, but for its last token; then the end of the answer."""
    prompt = example.prompt[-max(1, longest - len(example.answer)) :]
    return Example(prompt, example.answer[: longest - len(prompt)])


def unpacked(one: Pack) -> list[tuple[tuple[int, ...], list[tuple[int, int]]]]:
    """The tokens of each branch, and its labels as pairs of place in the sequence and label."""
    found = []
    for branch in range(1, max(one.branches) + 1):
        inside = [at for at, b in enumerate(one.branches) if b in (0, branch)]
        assert [one.positions[at] for at in inside] == list(range(len(inside)))
        found.append((tuple(one.tokens[at] for at in inside), []))
    # Labels come branch by branch; a branch's last label belongs to its last token but one.
    labels = list(zip(one.sources, one.targets, strict=True))
    for tokens, own in found:
        while not own or own[-1][0] < len(tokens) - 2:
            source, target = labels.pop(0)
            own.append((one.positions[source], target))
    assert not labels
    return found


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(examples, min_size=1, max_size=6),
    loss=st.sampled_from(Loss),
    longest=st.integers(2, 30),
    most=st.integers(1, 4),
)
def test_every_example_can_be_read_back_from_its_pack(rows, loss, longest, most):
    packs = pack(3, rows, TasksConfig(loss=loss, max_tokens=longest, pack_examples=most))
    assert all(one.task == 3 and len(one) <= longest for one in packs)
    assert all(max(one.branches) <= most for one in packs)
    read = [branch for one in packs for branch in unpacked(one)]
    assert len(read) == len(rows)
    for (tokens, labels), original in zip(read, rows, strict=True):
        example = shortened(original, longest)
        first = 1 if loss is Loss.ALL_TOKENS else len(example.prompt)
        assert tokens == example.tokens
        assert labels == [(at - 1, tokens[at]) for at in range(first, len(tokens))]


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(examples, min_size=1, max_size=6), longest=st.integers(13, 30))
def test_a_pack_ends_only_where_the_next_example_does_not_fit(rows, longest):
    packs = pack(0, rows, TasksConfig(max_tokens=longest))
    taken = 0
    for one in packs[:-1]:
        count = max(one.branches)
        one_more = rows[taken : taken + count + 1]
        [too_long] = pack(0, one_more, TasksConfig(max_tokens=10_000))
        assert len(too_long) > longest
        taken += count
