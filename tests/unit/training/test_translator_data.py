import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from polyprag.config import DataName, Recipe, TasksConfig
from polyprag.errors import AdapterError, ConfigError, DataError
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.prompts import PromptWriter
from polyprag.records import Augmentation, Knowledge, Passage, QAPair
from polyprag.training.translator_data import (
    ShuffledPasses,
    read_adapter,
    read_adapters,
    sequences_of,
    translator_passages,
)

PUBLISHED = Path(__file__).parents[1] / "knowledge" / "published"
PAIRS = (QAPair("Where is Gard?", "by the Om"), QAPair("What is Gard?", "a town"), QAPair("How old is Gard?", "nine"))
GARD = Passage("gard", "Gard", "Gard is a town by the Om.")
AUGMENTED = Augmentation("gard", ("By the Om lies Gard, a town.",), PAIRS)


def stored(layers, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in layers:
        weights[f"base_model.model.{name}.lora_A.weight"] = torch.randn(2, 5, generator=generator).bfloat16()
        weights[f"base_model.model.{name}.lora_B.weight"] = torch.randn(7, 2, generator=generator).bfloat16()
    return weights


class TestOutsidePassages:
    @pytest.fixture
    def outside_file(self, configure, tmp_path):
        """Three towns, and a passage of the corpus among them."""
        own = load_knowledge(configure().data).passages[0]
        rows = [{"title": own.title, "text": own.text, "qas": [{"question": "Who?", "answer": own.title}]}]
        for name in ("Gard", "Tolm", "Ruhn"):
            pair = {"question": f"What is {name}?", "answer": "a town"}
            rows.append({"title": name, "text": f"{name} is a town.", "qas": [pair]})
        path = tmp_path / "outside.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    @pytest.mark.parametrize(("most", "expected"), [(9, ["Gard", "Tolm", "Ruhn"]), (3, ["Gard", "Tolm"])])
    def test_they_are_not_of_the_corpus_and_not_too_many(self, configure, outside_file, most, expected):
        config = configure(f"data.outside={outside_file}", f"translator.passages={most}")
        found = translator_passages(config, load_knowledge(config.data))
        assert [passage.title for passage in found.passages] == expected
        assert found.augmentations.keys() == {passage.id for passage in found.passages}
        assert found.left_out == {"passages of the corpus": 1}

    def test_questions_that_are_their_own_passages_are_left_out(self, configure, outside_file):
        asked = {"text": "Where  does the Om end?", "qas": [{"question": "Where does the Om end?", "answer": "Tolm"}]}
        rows = outside_file.read_text(encoding="utf-8").splitlines()
        outside_file.write_text("\n".join([json.dumps(asked), *rows]), encoding="utf-8")
        config = configure(f"data.outside={outside_file}")
        found = translator_passages(config, load_knowledge(config.data))
        assert [passage.title for passage in found.passages] == ["Gard", "Tolm", "Ruhn"]
        assert found.augmentations.keys() == {passage.id for passage in found.passages}
        assert found.left_out == {"passages of the corpus": 1, "questions without a passage": 1}

    @pytest.mark.parametrize("name", [DataName.POPQA, DataName.CWQ])
    def test_a_set_without_passages_needs_a_file_of_others(self, configure, outside_file, name):
        path = PUBLISHED / name
        own = (f"data.name={name}", f"data.path={path}", "data.questions=", "data.per_type=3")
        config = configure(*own, "data.validation_questions=0")
        says = rf"^{path}: no outside question comes with a passage .*; name a file .* in data\.outside$"
        with pytest.raises(DataError, match=says):
            translator_passages(config, Knowledge(()))
        config = configure(*own, f"data.outside={outside_file}")
        assert len(translator_passages(config, Knowledge(())).passages) == 4

    def test_nothing_outside_is_refused(self, configure, outside_file):
        config = configure()
        with pytest.raises(ConfigError, match=r"^data\.outside is empty"):
            translator_passages(config, load_knowledge(config.data))
        config = configure(f"data.outside={outside_file}", "translator.passages=1")  # which is of the corpus
        with pytest.raises(DataError, match=r"nothing outside the corpus is left to learn from \(1 passages of the"):
            translator_passages(config, load_knowledge(config.data))


class TestSequences:
    @pytest.mark.parametrize(("recipe", "all_of_them"), [(Recipe.PRAG, 5), (Recipe.DEFAULT, 9)])
    @pytest.mark.parametrize("most", [0, 1, 2, 4, 99])
    def test_the_first_so_many_of_the_recipe(self, tiny_tokenizer, recipe, all_of_them, most):
        config, writer = TasksConfig(recipe=recipe), PromptWriter(tiny_tokenizer)
        packs, taken = sequences_of(GARD, AUGMENTED, config, writer, most)
        assert taken == min(most or all_of_them, all_of_them)
        assert sum(max(pack.branches) for pack in packs) == taken
        whole, _ = sequences_of(GARD, AUGMENTED, config, writer, 0)
        labels = [label for pack in packs for label in pack.targets]
        assert labels == [label for pack in whole for label in pack.targets][: len(labels)]

    def test_the_first_of_prags_shows_the_passage_as_in_the_official_code(self, tiny_tokenizer):
        writer = PromptWriter(tiny_tokenizer)
        ((pack,), _) = sequences_of(GARD, AUGMENTED, TasksConfig(recipe=Recipe.PRAG), writer, 1)
        text = tiny_tokenizer.decode(pack.tokens)
        assert "Gard: Gard is a town by the Om." in text
        assert text.endswith("The answer is by the Om")

    def test_a_passage_without_pairs_is_refused(self, tiny_tokenizer):
        with pytest.raises(DataError, match=r"passage 'gard' has no question-answer pairs"):
            sequences_of(GARD, Augmentation("gard"), TasksConfig(), PromptWriter(tiny_tokenizer), 1)


class TestAdapters:
    LAYERS = ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj")

    def test_weights_come_by_layer_in_float32(self, tmp_path):
        weights = [stored(self.LAYERS, seed) for seed in (0, 1)]
        paths = [tmp_path / f"{number}.safetensors" for number in range(2)]
        for path, own in zip(paths, weights, strict=True):
            save_file(own, path)
        both = read_adapters(paths, self.LAYERS, torch.device("cpu"))
        for name in self.LAYERS:
            for side, found in zip("AB", both[name], strict=True):
                expected = torch.stack([own[f"base_model.model.{name}.lora_{side}.weight"] for own in weights])
                assert found.dtype == torch.float32
                assert torch.equal(found, expected.float())

    @pytest.mark.parametrize("change", ["missing", "more"])
    def test_weights_that_do_not_fit_are_refused(self, tmp_path, change):
        layers = self.LAYERS[:1] if change == "missing" else (*self.LAYERS, "model.layers.2.mlp.up_proj")
        save_file(stored(layers), tmp_path / "odd.safetensors")
        with pytest.raises(AdapterError, match=r"odd\.safetensors: 2 weights do not fit the model, such as base_model"):
            read_adapter(tmp_path / "odd.safetensors", self.LAYERS)


class TestShuffledPasses:
    @given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
    def test_each_pass_takes_all_once(self, count, size, passes, seed):
        sampler = ShuffledPasses(count, size, passes, seed)
        batches = list(sampler)
        assert len(batches) == len(sampler) == passes * -(-count // size)
        assert all(len(batch) <= size for batch in batches)
        in_order = [index for batch in batches for index in batch]
        for number in range(passes):
            assert sorted(in_order[number * count : (number + 1) * count]) == list(range(count))

    @given(st.integers(0, 12))
    def test_it_goes_on_where_it_was(self, done):
        sampler, whole = ShuffledPasses(4, 2, 6, seed=3), list(ShuffledPasses(4, 2, 6, seed=3))
        sampler.start = done
        assert list(sampler) == whole[done:]
        assert list(sampler) == whole

    def test_seed_and_pass_decide_the_order(self):
        one, other = (list(ShuffledPasses(30, 30, 2, seed)) for seed in (0, 1))
        assert len({tuple(batch) for batch in one + other}) == 4
