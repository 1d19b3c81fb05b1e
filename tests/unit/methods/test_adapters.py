import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyprag.config import Config, Loss
from polyprag.errors import AdapterError, DataError
from polyprag.experts import base_model
from polyprag.experts.base_model import load_base
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.prompts import with_title
from polyprag.methods import adapter_training, adapters
from polyprag.methods.adapter_files import AdapterCosts
from polyprag.methods.adapter_training import AdapterTrainer
from polyprag.methods.adapters import FACTS, WARM_UP, WEIGHTS, AdapterEncoder
from polyprag.records import Augmentation, Knowledge, QAPair
from polyprag.training.batches import Batch

Made = tuple[AdapterEncoder, Knowledge]


OUTSIDE = (
    QAPair("What is Gard?", "a town"),
    QAPair("By which sea does Holm lie?", "the North Sea"),
    QAPair("In which year did Ister begin?", "1503"),
)
"""Pairs for a warm-up, about nothing that is in the library."""


def encoder_in(
    folder: Path, config: Config, warm_up: tuple[QAPair, ...] = (), **changed: Augmentation
) -> AdapterEncoder:
    """An encoder on the library's pairs, some of which a test may change."""
    pairs = load_knowledge(config.data).augmentations | changed
    return AdapterEncoder(load_base(config.base), config, folder, pairs, warm_up)


@pytest.fixture
def made(configure, tmp_path) -> Made:
    """An encoder with the adapters of the first two passages trained."""
    config = configure("prag.epochs=2")
    encoder, knowledge = encoder_in(tmp_path, config), load_knowledge(config.data)
    encoder.encode(knowledge.passages[:2])
    return encoder, knowledge


def test_adapters_from_before_rows_were_in_fingerprints_are_used(configure, tmp_path, monkeypatch):
    config, now = configure(), base_model.fingerprint
    with monkeypatch.context() as patched:
        patched.setattr(base_model, "fingerprint", lambda model, files: now(model, []))
        before = encoder_in(tmp_path, config)
    fresh = encoder_in(tmp_path, config)
    assert (fresh.folder != before.folder, fresh.identity != before.identity) == (True, True)
    before.folder.mkdir(parents=True)
    again = encoder_in(tmp_path, config)
    assert (again.folder, again.identity) == (before.folder, before.identity)


def logits_of(encoder: AdapterEncoder, model: torch.nn.Module | None = None) -> Tensor:
    tokens = torch.tensor([encoder.writer.question("Where was Mira Tolk born?")])
    with torch.no_grad():
        return (model or encoder.model)(tokens).logits


def stored(encoder: AdapterEncoder, knowledge: Knowledge, index: int) -> dict[str, Tensor]:
    return load_file(encoder.path(knowledge.passages[index]) / WEIGHTS)


def logits_of_the_sum(encoder: AdapterEncoder, knowledge: Knowledge, count: int) -> Tensor:
    """Logits of a base model to whose weights the updates of the first stored adapters were added."""
    by_hand = load_base(encoder.config.base).model
    layers = dict(by_hand.named_modules())
    scale = encoder.config.prag.alpha / encoder.config.prag.rank
    with torch.no_grad():
        for index in range(count):
            tensors = stored(encoder, knowledge, index)
            for name in (name for name in tensors if "lora_A" in name):
                layer = layers[name.removeprefix("base_model.model.").partition(".lora_A")[0]]
                layer.weight += scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
    return logits_of(encoder, by_hand)


def texts(encoder: AdapterEncoder, steps: list[Batch]) -> list[str]:
    """The sequences of steps of one each."""
    assert all(len(batch.tokens_BT) == 1 for batch in steps)
    return [encoder.base.tokenizer.decode(batch.tokens_BT[0]) for batch in steps]


@pytest.fixture
def steps(monkeypatch) -> list[Batch]:
    """The batches that training sees from now on."""
    seen: list[Batch] = []
    loss = adapter_training.label_loss

    def recorded(model, batch):
        seen.append(batch)
        return loss(model, batch)

    monkeypatch.setattr(adapter_training, "label_loss", recorded)
    return seen


class TestTraining:
    def test_each_adapter_changes_the_logits(self, made):
        encoder, knowledge = made
        plain = logits_of(encoder, load_base(encoder.config.base).model)
        seen = []
        for passage in knowledge.passages[:2]:
            encoder.load_and_merge([passage])
            seen.append(logits_of(encoder))
            encoder.unload()
        assert (seen[0] - plain).abs().max() > 1e-3
        assert (seen[1] - plain).abs().max() > 1e-3
        assert (seen[0] - seen[1]).abs().max() > 1e-3

    def test_each_starts_from_the_same_weights_whatever_came_before(self, configure, tmp_path):
        config = configure("prag.epochs=2", "prag.parallel=1")
        encoder, knowledge = encoder_in(tmp_path, config), load_knowledge(config.data)
        encoder.encode(knowledge.passages[:2])
        alone = encoder_in(tmp_path / "alone", config)
        alone.encode(knowledge.passages[1:2])
        first, second = stored(encoder, knowledge, 1), stored(alone, knowledge, 1)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_the_base_model_stays_as_it_was(self, made):
        encoder, _ = made
        fresh = dict(load_base(encoder.config.base).model.named_parameters())
        for name, weight in encoder.model.get_base_model().named_parameters():
            if "lora_" not in name:
                assert torch.equal(weight, fresh[name.replace(".base_layer", "")]), name

    def test_one_that_changes_nothing_is_refused_and_not_stored(self, configure, tmp_path):
        config = configure()
        config.prag.learning_rate = 0.0
        encoder, knowledge = encoder_in(tmp_path, config), load_knowledge(config.data)
        with pytest.raises(
            AdapterError, match=r"'p\d' changes no logit .*; check prag\.targets and prag\.learning_rate"
        ):
            encoder.encode(knowledge.passages)
        assert not encoder.folder.exists()

    def test_a_passage_without_pairs_is_refused(self, configure, tmp_path):
        config = configure()
        encoder, knowledge = encoder_in(tmp_path, config, p0=Augmentation("p0")), load_knowledge(config.data)
        with pytest.raises(DataError, match="'p0' has no question-answer pairs"):
            encoder.encode(knowledge.passages[:1])
        assert not encoder.folder.exists()

    def test_it_goes_on_where_it_stopped(self, made, monkeypatch):
        encoder, knowledge = made
        before = {file: file.stat().st_mtime_ns for file in encoder.folder.rglob("*")}
        again = encoder_in(encoder.folder.parent.parent, encoder.config)
        trained = []
        train = AdapterEncoder.train

        def recorded(self, subject):
            trained.append(subject.passage.id)
            train(self, subject)

        monkeypatch.setattr(AdapterEncoder, "train", recorded)
        again.encode(knowledge.passages[:3])
        again.encode(knowledge.passages[:3])
        assert trained == ["p2"]
        assert {file: file.stat().st_mtime_ns for file in before if file.is_file()} == {
            file: time for file, time in before.items() if file.is_file()
        }

    def test_another_recipe_has_a_folder_of_its_own(self, configure, tmp_path):
        folders = {
            overrides: encoder_in(tmp_path, configure(*overrides)).folder
            for overrides in [(), ("prag.rank=3",), ("prag.recipe=default",), ("run.seed=1",), ("prag.epochs=2",)]
        }
        assert len(set(folders.values())) == 5
        assert encoder_in(tmp_path, configure("answering.batch_size=9")).folder == folders[()]

    def test_an_adapter_of_other_pairs_is_not_taken_for_this_one(self, made, tmp_path):
        encoder, knowledge = made
        changed = Augmentation("p0", (), (QAPair("Where was Mira Tolk born?", "Brask"),))
        other = encoder_in(tmp_path, encoder.config, p0=changed)
        first, second = knowledge.passages[:2]
        assert other.identity != encoder.identity
        assert other.path(first) != encoder.path(first)
        assert other.path(second) == encoder.path(second)


class TestSteps:
    def test_prag_takes_its_five_in_order_in_every_epoch(self, configure, tmp_path, steps):
        config = configure("prag.epochs=2")
        knowledge = load_knowledge(config.data)
        passage = knowledge.passages[0]
        rewrite = "Arlen saw the birth of Mira Tolk, the maker of glass, in 1867."
        pairs = knowledge.augmentations["p0"].qa
        encoder = encoder_in(tmp_path, config, p0=Augmentation("p0", (rewrite, "A second rewrite."), pairs))
        encoder.train(encoder.subject(passage))
        seen = texts(encoder, steps)
        assert len(seen) == 10
        assert seen[:5] == seen[5:]
        contexts = [with_title(passage), f"{passage.title}: {rewrite}"]
        expected = [(pair, context) for pair in pairs[:2] for context in contexts]
        expected.append((pairs[2], None))
        for text, (pair, context) in zip(seen, expected, strict=False):
            assert f"Question: {pair.question}" in text
            assert text.endswith(f"The answer is {pair.answer}")
            assert (f"Passage 1: {context}\n" in text) if context else ("Passage" not in text)
        assert "A second rewrite." not in "".join(seen)

    def test_prag_labels_every_token_but_the_first(self, configure, tmp_path, steps):
        config = configure()
        knowledge = load_knowledge(config.data)
        encoder = encoder_in(tmp_path, config)
        encoder.train(encoder.subject(knowledge.passages[0]))
        assert config.prag.loss is Loss.ALL_TOKENS
        for batch in steps:
            assert torch.equal(batch.targets_L, batch.tokens_BT[0, 1:])

    def test_answers_alone_are_labelled_on_request(self, configure, tmp_path, steps):
        config = configure("prag.loss=answers")
        knowledge = load_knowledge(config.data)
        encoder = encoder_in(tmp_path, config)
        encoder.train(encoder.subject(knowledge.passages[0]))
        answers = {encoder.base.tokenizer.decode(batch.targets_L).strip() for batch in steps}
        assert answers == {"Arlen", "1867", "glass"}

    def test_a_larger_batch_takes_several_sequences_a_step(self, configure, tmp_path, steps):
        config = configure("prag.recipe=default", "prag.batch_size=2")
        knowledge = load_knowledge(config.data)
        encoder = encoder_in(tmp_path, config)
        encoder.train(encoder.subject(knowledge.passages[0]))
        assert len(steps) == 4  # three pairs alone, and three with the passage, two at a time


class TestMerging:
    @pytest.mark.parametrize("count", [1, 2])
    def test_merged_weights_are_the_sum_of_the_adapters_updates(self, made, count):
        encoder, knowledge = made
        encoder.load_and_merge(knowledge.passages[:count])
        merged = logits_of(encoder)
        torch.testing.assert_close(merged, logits_of_the_sum(encoder, knowledge, count), rtol=1e-4, atol=1e-4)

    def test_the_order_of_passages_does_not_matter(self, made):
        encoder, knowledge = made
        found = []
        for passages in (knowledge.passages[:2], knowledge.passages[1::-1]):
            encoder.load_and_merge(passages)
            found.append(logits_of(encoder))
            encoder.unload()
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)

    def test_unloading_leaves_the_logits_bit_for_bit_as_before(self, made):
        encoder, knowledge = made
        before = logits_of(encoder)
        for passages in (knowledge.passages[:2], knowledge.passages[:1], ()):
            encoder.load_and_merge(passages)
            encoder.unload()
            assert torch.equal(logits_of(encoder), before)
            assert list(encoder.model.peft_config) == [adapters.INITIAL]
            assert not [name for name, _ in encoder.model.named_parameters() if "passage_" in name or "merged" in name]

    def test_with_no_passage_the_base_model_answers_alone(self, made):
        encoder, _ = made
        plain = logits_of(encoder, load_base(encoder.config.base).model)
        assert not torch.equal(logits_of(encoder), plain)
        encoder.load_and_merge([])
        assert torch.equal(logits_of(encoder), plain)

    @pytest.mark.parametrize("damage", ["renamed", "missing", "extra"])
    def test_weights_that_fit_nothing_are_refused(self, made, damage):
        encoder, knowledge = made
        path = encoder.path(knowledge.passages[0])
        tensors = load_file(path / WEIGHTS)
        victim = next(name for name in tensors if "up_proj" in name)
        if damage == "extra":
            tensors[victim.replace("up_proj", "sideways_proj")] = tensors[victim].clone()
        else:
            moved = tensors.pop(victim)
            tensors |= {victim.replace("up_proj", "sideways_proj"): moved} if damage == "renamed" else {}
        save_file(tensors, path / WEIGHTS, {"format": "pt"})
        with pytest.raises(AdapterError, match=r"weights do not fit, such as .*(up|sideways)_proj") as caught:
            encoder.load_and_merge(knowledge.passages[:2])
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


class TestStored:
    @pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # PEFT 0.21 asks transformers 5 by its old name
    def test_plain_peft_reads_an_adapter(self, made):
        encoder, knowledge = made
        encoder.load_and_merge(knowledge.passages[:1])
        ours = logits_of(encoder)
        fresh = load_base(encoder.config.base).model
        plain = PeftModel.from_pretrained(fresh, str(encoder.path(knowledge.passages[0])))
        torch.testing.assert_close(logits_of(encoder, plain), ours, rtol=1e-4, atol=1e-4)

    def test_facts_and_sizes_are_those_on_disk(self, made):
        encoder, knowledge = made
        folders = [encoder.path(passage) for passage in knowledge.passages[:2]]
        sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
        costs = encoder.costs(knowledge.passages)
        assert (costs.passages, costs.bytes) == (2, sum(sizes) / 2)
        seconds = [json.loads((folder / FACTS).read_text())["seconds"] for folder in folders]
        assert costs.seconds == pytest.approx(sum(seconds))
        assert sorted(file.name for file in folders[0].iterdir()) == ["adapter_config.json", WEIGHTS, FACTS]

    def test_adapters_of_other_passages_or_of_an_earlier_augmentation_cost_nothing(self, made, tmp_path):
        encoder, knowledge = made
        first, second = knowledge.passages[:2]
        other = Augmentation(first.id, qa=(QAPair("Where was Mira Tolk born?", "in Brask"),))
        again = encoder_in(tmp_path, encoder.config, **{first.id: other})
        again.encode([first])
        assert again.folder == encoder.folder
        folders = [again.path(first), again.path(second)]
        seconds = [json.loads((folder / FACTS).read_text())["seconds"] for folder in folders]
        assert encoder.path(first).exists()
        assert again.costs(knowledge.passages).passages == 2
        assert again.costs(knowledge.passages).seconds == pytest.approx(sum(seconds))
        alone = again.costs([second])
        assert (alone.passages, alone.seconds) == (1, pytest.approx(seconds[1]))
        assert alone.bytes == sum(file.stat().st_size for file in folders[1].iterdir())

    def test_nothing_trained_costs_nothing(self, configure, tmp_path):
        config = configure()
        costs = encoder_in(tmp_path, config).costs(load_knowledge(config.data).passages)
        assert costs == AdapterCosts(0, 0, 0)


class TestWarmUp:
    @pytest.fixture
    def warm(self, configure, tmp_path) -> Made:
        """An encoder with a warm-up and the adapters of the first two passages."""
        config = configure("warm_up.epochs=2")
        encoder, knowledge = encoder_in(tmp_path, config, OUTSIDE), load_knowledge(config.data)
        encoder.encode(knowledge.passages[:2])
        return encoder, knowledge

    def test_every_adapter_starts_from_the_stored_start(self, configure, tmp_path, monkeypatch):
        begun: list[dict[str, Tensor]] = []
        begin = adapter_training.set_peft_model_state_dict

        def recorded(model, state):
            begun.append(state)
            return begin(model, state)

        monkeypatch.setattr(adapter_training, "set_peft_model_state_dict", recorded)
        config = configure("prag.parallel=1")
        encoder, knowledge = encoder_in(tmp_path, config, OUTSIDE), load_knowledge(config.data)
        encoder.encode(knowledge.passages[:2])
        start = load_file(encoder.folder / WARM_UP / WEIGHTS)
        drawn, *others = begun
        assert len(others) == 2
        assert all(torch.equal(drawn[name], encoder_in(tmp_path, config).start[name]) for name in drawn)
        for state in others:
            assert state.keys() == start.keys()
            assert all(torch.equal(state[name], start[name]) for name in start)
        learned = [name for name in start if "lora_B" in name and start[name].abs().max() > 0]
        assert learned

    def test_it_is_trained_once_and_adapters_do_not_depend_on_when(self, warm, tmp_path):
        encoder, knowledge = warm
        file = encoder.folder / WARM_UP / WEIGHTS
        before = file.stat().st_mtime_ns
        again = encoder_in(encoder.folder.parent.parent, encoder.config, OUTSIDE)
        again.encode(knowledge.passages[2:3])
        assert file.stat().st_mtime_ns == before
        alone = encoder_in(tmp_path / "alone", encoder.config, OUTSIDE)
        alone.encode(knowledge.passages[2:3])
        first, second = stored(again, knowledge, 2), stored(alone, knowledge, 2)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_without_anything_to_train_it_is_not_trained(self, configure, tmp_path):
        encoder = encoder_in(tmp_path, configure(), OUTSIDE)
        encoder.encode([])
        assert not encoder.folder.exists()

    def test_other_pairs_or_passes_are_another_recipe(self, configure, tmp_path):
        longer, without = configure("warm_up.epochs=2"), encoder_in(tmp_path, configure()).folder
        folders = {
            without,
            encoder_in(tmp_path, configure(), OUTSIDE).folder,
            encoder_in(tmp_path, configure(), OUTSIDE[:2]).folder,
            encoder_in(tmp_path, longer, OUTSIDE).folder,
        }
        assert len(folders) == 4
        assert encoder_in(tmp_path, longer).folder == without

    @pytest.mark.parametrize("recipe", ["prag", "default"])
    def test_pairs_are_learned_alone_each_once_a_pass_with_the_end_of_the_turn(
        self, configure, tmp_path, steps, recipe
    ):
        encoder = encoder_in(tmp_path, configure("warm_up.epochs=3", f"prag.recipe={recipe}"), OUTSIDE)
        _ = encoder.start
        seen = texts(encoder, steps)
        expected = {
            encoder.base.tokenizer.decode([*encoder.writer.question(p.question), *encoder.writer.answer(p.answer)])
            for p in OUTSIDE
        }
        assert len(seen) == 9
        assert all(set(seen[at : at + 3]) == expected for at in (0, 3, 6))
        assert len({tuple(seen[at : at + 3]) for at in (0, 3, 6)}) > 1
        assert all(int(batch.targets_L[-1]) == encoder.writer.end_of_turn for batch in steps)

    def test_a_larger_batch_takes_several_pairs_a_step(self, configure, tmp_path, steps):
        encoder = encoder_in(tmp_path, configure("prag.batch_size=2", "prag.loss=answers"), OUTSIDE)
        _ = encoder.start
        ends = [int((batch.targets_L == encoder.writer.end_of_turn).sum()) for batch in steps]
        assert ends == [2, 1]

    def test_merging_adds_up_the_start_as_often_as_adapters(self, warm):
        encoder, knowledge = warm
        encoder.load_and_merge(knowledge.passages[:2])
        expected = logits_of_the_sum(encoder, knowledge, 2)
        torch.testing.assert_close(logits_of(encoder), expected, rtol=1e-4, atol=1e-4)

    def test_its_seconds_count_and_its_bytes_do_not(self, warm):
        encoder, knowledge = warm
        folders = [encoder.path(passage) for passage in knowledge.passages[:2]]
        sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
        costs = encoder.costs(knowledge.passages)
        assert (costs.passages, costs.bytes) == (2, sum(sizes) / 2)
        own = encoder.folder / WARM_UP
        seconds = [json.loads((folder / FACTS).read_text())["seconds"] for folder in (*folders, own)]
        assert costs.seconds == pytest.approx(sum(seconds))
        assert sorted(file.name for file in own.iterdir()) == ["adapter_config.json", WEIGHTS, FACTS]

    def test_without_it_adapters_are_not_whole(self, warm):
        encoder, knowledge = warm
        own = knowledge.passages[:2]
        assert encoder.lost(own) == encoder.lost([]) == ""
        assert encoder.lost(knowledge.passages).startswith(
            f"4 of {len(knowledge.passages)} adapters behind the answers"
        )
        facts = encoder.folder / WARM_UP / FACTS
        kept = facts.rename(facts.with_name("kept"))
        assert encoder.lost(own).startswith(f"the adapters' warm-up is not in {encoder.folder}; copy the adapters/ of ")
        assert encoder.lost([]) == ""
        kept.rename(facts)

    def test_it_is_made_anew_for_adapters_that_came_without(self, configure, tmp_path):
        config = configure()
        knowledge = load_knowledge(config.data)
        encoder_in(tmp_path, config, OUTSIDE).encode(knowledge.passages[:1])
        encoder = encoder_in(tmp_path, config, OUTSIDE)
        (encoder.folder / WARM_UP / FACTS).unlink()
        encoder.encode([])
        assert not (encoder.folder / WARM_UP / FACTS).exists()
        encoder.encode(knowledge.passages[:1])
        assert encoder.lost(knowledge.passages[:1]) == ""

    def test_its_seconds_are_no_part_of_the_first_adapters(self, configure, tmp_path, monkeypatch):
        clock = [0.0]
        prepare = AdapterTrainer.warm_up_steps

        def slow(self, outside):
            clock[0] += 100
            return prepare(self, outside)

        monkeypatch.setattr(adapters, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
        monkeypatch.setattr(AdapterTrainer, "warm_up_steps", slow)
        config = configure()
        encoder, knowledge = encoder_in(tmp_path, config, OUTSIDE), load_knowledge(config.data)
        encoder.encode(knowledge.passages[:1])
        assert encoder.costs(knowledge.passages).seconds == 100

    def test_one_that_changes_nothing_is_refused_and_not_stored(self, configure, tmp_path):
        config = configure()
        config.prag.learning_rate = 0.0
        encoder, knowledge = encoder_in(tmp_path, config, OUTSIDE), load_knowledge(config.data)
        with pytest.raises(AdapterError, match=r"^the warm-up adapter changes no logit .*; check prag\.targets"):
            encoder.encode(knowledge.passages[:1])
        assert not encoder.folder.exists()
