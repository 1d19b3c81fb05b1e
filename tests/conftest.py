"""A tiny random Llama with a tiny tokenizer, so that tests run the real code in milliseconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is first imported: tests never ask the hub

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from polyprag.config import BaseConfig, Dtype, Quantisation
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.records import Augmentation, Knowledge, Passage, QAPair, Question
from polyprag.training.checkpoint import Checkpointing

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SENTENCES = [
    "Answer the question in a few words.",
    "What do you know about the city of Arlen? Question: Who founded the school of Arlen?",
    "The answer is in the passage. The answer is the river. The answer is 1867.",
    "system user assistant passage question answer where when who which was born founded wrote",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text comes back from its tokens, with ChatML turns."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _tiny_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Three blocks of width 32 with weights large enough that different inputs get different answers."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).to(torch.float32).eval()


def _write_folder(folder: Path, seed: int) -> Path:
    tokenizer = _tiny_tokenizer()
    _tiny_model(tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `base.model` may name: a random Llama (3 blocks, width 32, float32) and its tokenizer."""
    return _write_folder(tmp_path_factory.mktemp("tiny") / "model", seed=0)


@pytest.fixture(scope="session")
def other_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture and tokenizer with other weights."""
    return _write_folder(tmp_path_factory.mktemp("tiny") / "other", seed=1)


@pytest.fixture
def tiny_config(tiny_model_folder: Path) -> BaseConfig:
    """The configuration that loads the tiny model unquantised in float32."""
    return BaseConfig(model=str(tiny_model_folder), quantisation=Quantisation.NONE, dtype=Dtype.FLOAT32)


@pytest.fixture
def tiny_base(tiny_config: BaseConfig) -> BaseModel:
    """The tiny model, loaded afresh, unquantised, in float32."""
    return load_base(tiny_config)


@pytest.fixture
def tiny_nf4_base(tiny_model_folder: Path) -> BaseModel:
    """The tiny model, loaded afresh, in 4 bits, computing in float32."""
    return load_base(BaseConfig(str(tiny_model_folder), Quantisation.NF4, Dtype.FLOAT32))


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_model_folder: Path) -> PreTrainedTokenizerFast:
    """The tiny model's tokenizer."""
    return PreTrainedTokenizerFast.from_pretrained(tiny_model_folder)


@pytest.fixture(scope="session")
def tiny_knowledge() -> Knowledge:
    """Three passages of two pairs each, every one with a rewrite, and a validation question for each."""
    facts = {"Arlen": ("river Om", "1867"), "Brask": ("river Tul", "1702"), "Corva": ("lake Ys", "1950")}
    passages, augmentations, validation = [], {}, []
    for name, (water, year) in facts.items():
        passage = Passage(name.lower(), name, f"{name} lies by the {water}. {name} was founded in {year}.")
        pairs = (
            QAPair(f"Where does {name} lie?", f"by the {water}"),
            QAPair(f"When was {name} founded?", year),
        )
        passages.append(passage)
        rewrite = f"Founded in {year}, {name} is a city by the {water}."
        augmentations[passage.id] = Augmentation(passage.id, (rewrite,), pairs)
        validation.append(Question(f"v-{name}", f"In which year did {name} begin?", (year,), "", (passage.id,)))
    return Knowledge(tuple(passages), augmentations, (), tuple(validation))


@pytest.fixture
def stop_after(monkeypatch) -> Callable[[int], None]:
    """Makes the next training meet SIGTERM after as many batches, or go on to its end if there are fewer."""
    original = Checkpointing.on_train_batch_end

    def arrange(batches: int) -> None:
        left = iter(range(batches - 1, -1, -1))

        def counting(self: Checkpointing, *arguments: Any) -> None:
            if next(left, -1) == 0:
                self.signum = signal.SIGTERM
            original(self, *arguments)

        monkeypatch.setattr(Checkpointing, "on_train_batch_end", counting)

    return arrange


@pytest.fixture
def heard() -> Iterator[None]:
    """Lets signals be heard that a shell has told its background jobs to ignore, which processes inherit."""
    ignored = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, signal.default_int_handler)
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)
