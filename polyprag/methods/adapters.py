"""Adapters of one-to-one PRAG: trained from one shared start, stored as ordinary PEFT adapters, merged by `cat`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from polyprag.config import Config, Recipe
from polyprag.errors import AdapterError
from polyprag.experts.base_model import BaseModel
from polyprag.files import replace_folder, write_json, write_tensors
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import Example, Pack, examples_of, pack
from polyprag.methods.adapter_batches import check_loss, train_together
from polyprag.records import Augmentation, Passage, QAPair
from polyprag.training.batches import collate
from polyprag.training.module import label_loss

T = TypeVar("T")

INITIAL = "default"
MERGED = "merged"
FACTS = "training.json"
WEIGHTS = "adapter_model.safetensors"
WARM_UP = "warm_up"


class AdapterEncoder:
    """Trains, stores, loads and merges the adapters of a run.

    Args:
        base: a base model of its own; PEFT wraps its layers.
        config: the whole configuration; `prag.*` is the recipe.
        folder: the run's folder; an adapter lies in `adapters/<hash of the recipe>/<hash of what it is trained on>`.
        augmentations: what the adapters are trained on, by passage id.
        warm_up: outside pairs that the shared start is trained on first, in `adapters/<hash of the recipe>/warm_up`;
            none leaves it as the seed draws it.
    """

    def __init__(
        self,
        base: BaseModel,
        config: Config,
        folder: Path,
        augmentations: Mapping[str, Augmentation],
        warm_up: Sequence[QAPair] = (),
    ) -> None:
        self.base, self.config, self.augmentations, self.warm_up = base, config, augmentations, warm_up
        self.writer = PromptWriter(base.tokenizer)
        self.tasks = dataclasses.replace(config.tasks, recipe=config.prag.recipe, loss=config.prag.loss)
        torch.manual_seed(config.run.seed)
        lora = LoraConfig(
            r=config.prag.rank,
            lora_alpha=config.prag.alpha,
            target_modules=config.prag.targets,
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():  # PEFT 0.21 asks transformers 5 by a name that is being retired
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
            self.model: Any = get_peft_model(base.model, lora, adapter_name=INITIAL)
        self.drawn = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(self.model).items()}
        warmed = (config.warm_up.epochs, tuple(warm_up)) if warm_up else ()
        recipe = _hash(
            config.prag, self.tasks, config.run.seed, base.fingerprint, config.base.quantisation.value, *warmed
        )
        self.folder = folder / "adapters" / recipe[:12]
        self.identity = _hash(recipe, sorted(augmentations.items()))
        self.loaded: list[str] = []

    def path(self, passage: Passage) -> Path:
        """The folder of a passage's adapter."""
        return self.folder / _hash(passage.content_hash, self._augmentation(passage))[:16]

    def encode(self, passages: Sequence[Passage]) -> None:
        """Train the adapters that are not there yet, `prag.parallel` at a time; these are on disk before others begin.

        Raises:
            AdapterError: a trained adapter changes no logit, or its loss is not finite.
            DataError: a passage has nothing to train on.
        """
        missing = [passage for passage in passages if not (self.path(passage) / FACTS).exists()]
        if missing:
            _ = self.start  # trained and timed apart from the first adapter
        console = Console(stderr=True)
        trained = (one for group in self._groups(missing) for one in self._trained(group))
        for passage, seconds in track(
            trained, description="PRAG adapters", total=len(missing), console=console, disable=not missing
        ):
            self._save(self.path(passage), seconds)

    def train(self, passage: Passage) -> None:
        """Train one passage's adapter from the shared start, in memory.

        Raises:
            AdapterError: it changes no logit afterwards, or its loss is not finite.
        """
        which = f"the adapter of passage {passage.id!r}"
        self._fit(self.start, self._all_steps(passage), which)
        self._check_effect(passage.title, which)

    def train_together(self, passages: Sequence[Passage]) -> dict[str, dict[str, Tensor]]:
        """The weights of several passages' adapters by passage id, each trained as if alone; the model stays as it is.

        Raises:
            AdapterError: a loss is not finite.
        """
        steps = {passage.id: self._all_steps(passage) for passage in passages}
        rate, pad = self.config.prag.learning_rate, self.base.tokenizer.pad_token_id
        return train_together(self.model, INITIAL, self.start, steps, rate, pad)

    @cached_property
    def start(self) -> dict[str, Tensor]:
        """The weights that every adapter starts from: as the seed draws them, or as the warm-up leaves them on disk.

        Raises:
            AdapterError: the warm-up changes no logit, or its loss is not finite.
        """
        if not self.warm_up:
            return self.drawn
        folder = self.folder / WARM_UP
        if not (folder / FACTS).exists():
            started = time.perf_counter()
            self._fit(self.drawn, self._warm_up_steps(), "the warm-up adapter", "PRAG warm-up")
            self._check_effect("", "the warm-up adapter")
            self._save(folder, time.perf_counter() - started)
        return load_file(folder / WEIGHTS)

    def load_and_merge(self, passages: Sequence[Passage]) -> None:
        """Load the adapters of some passages and put their sum in force; with no passage, the base model alone.

        PEFT's `cat` adds up the weight updates, as PRAG does; `linear` would add A and B apart.

        Raises:
            AdapterError: a stored adapter does not fit the model.
        """
        self.loaded = [f"passage_{number}" for number in range(len(passages))]
        for name, passage in zip(self.loaded, passages, strict=True):
            result = self.model.load_adapter(str(self.path(passage)), adapter_name=name)
            unmatched = [*result.unexpected_keys, *(key for key in result.missing_keys if f".{name}." in key)]
            if unmatched:
                raise AdapterError(f"{self.path(passage)}: {len(unmatched)} weights do not fit, such as {unmatched[0]}")
        if not passages:
            self.model.base_model.disable_adapter_layers()
            return
        self.model.add_weighted_adapter(self.loaded, [1.0] * len(self.loaded), MERGED, combination_type="cat")
        self.model.set_adapter(MERGED)
        self.loaded.append(MERGED)

    def unload(self) -> None:
        """Take what `load_and_merge` loaded out of the model."""
        if not self.loaded:
            self.model.base_model.enable_adapter_layers()
        self.model.set_adapter(INITIAL)
        for name in self.loaded:
            self.model.delete_adapter(name)
        self.loaded = []

    def mean_bytes(self) -> float:
        """Mean bytes of a passage's adapter on disk, weights and configuration; it holds the start that it had."""
        passages = [adapter for adapter in self._adapters() if adapter.name != WARM_UP]
        sizes = [sum(file.stat().st_size for file in adapter.iterdir()) for adapter in passages]
        return sum(sizes) / max(1, len(sizes))

    def train_seconds(self) -> float:
        """Seconds that the adapters at hand took to train, and their warm-up."""
        return sum(float(json.loads((adapter / FACTS).read_text())["seconds"]) for adapter in self._adapters())

    def _adapters(self) -> list[Path]:
        return sorted(facts.parent for facts in self.folder.glob(f"*/{FACTS}"))

    def _augmentation(self, passage: Passage) -> Augmentation:
        return self.augmentations.get(passage.id, Augmentation(""))

    def _groups(self, passages: Sequence[Passage]) -> list[Sequence[Passage]]:
        """Passages to train together: of like numbers of steps and of tokens, so that little is padding."""
        size = self.config.prag.parallel
        alike = sorted(passages, key=self._size) if size > 1 else passages
        return [alike[at : at + size] for at in range(0, len(alike), size)]

    def _size(self, passage: Passage) -> tuple[int, int]:
        """Steps and tokens of one pass."""
        steps = self._steps(passage)
        return len(steps), sum(len(pack) for packs in steps for pack in packs)

    def _trained(self, group: Sequence[Passage]) -> Iterator[tuple[Passage, float]]:
        """Put the trained adapter of one passage after the other into the model; with it come its seconds."""
        started = time.perf_counter()
        if len(group) == 1:
            self.train(group[0])
            yield group[0], time.perf_counter() - started
            return
        together = self.train_together(group)
        share = (time.perf_counter() - started) / len(group)
        for passage in group:
            started = time.perf_counter()
            set_peft_model_state_dict(self.model, together[passage.id])
            self._check_effect(passage.title, f"the adapter of passage {passage.id!r}")
            yield passage, share + time.perf_counter() - started

    def _all_steps(self, passage: Passage) -> list[list[Pack]]:
        """The steps of all passes: in the same order by PRAG's recipe, else in one of its own in each."""
        prag, steps = self.config.prag, self._steps(passage)
        order = random.Random(self.config.run.seed)
        epochs = [steps] * prag.epochs if prag.recipe is Recipe.PRAG else _shuffled(steps, prag.epochs, order)
        return [packs for epoch in epochs for packs in epoch]

    def _steps(self, passage: Passage) -> list[list[Pack]]:
        groups = examples_of(passage, self._augmentation(passage), self.tasks, self.writer)
        return [packs for group in groups for packs in self._chunked(group)]

    def _warm_up_steps(self) -> list[list[Pack]]:
        """Pairs alone with the end of the turn, as in the official code, in an order of their own in each pass."""
        pairs = [
            Example(tuple(self.writer.question(pair.question)), tuple(self.writer.answer(pair.answer)))
            for pair in self.warm_up
        ]
        epochs = _shuffled(pairs, self.config.warm_up.epochs, random.Random(self.config.run.seed))
        return [packs for epoch in epochs for packs in self._chunked(epoch)]

    def _chunked(self, examples: Sequence[Example]) -> list[list[Pack]]:
        size = self.config.prag.batch_size
        return [pack(0, examples[at : at + size], self.tasks) for at in range(0, len(examples), size)]

    def _fit(self, start: dict[str, Tensor], steps: Sequence[Sequence[Pack]], which: str, shown: str = "") -> None:
        """Take an adapter's steps from these weights on, in memory, under a progress bar if it is given a name."""
        set_peft_model_state_dict(self.model, start)
        self.model.set_adapter(INITIAL)
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self.config.prag.learning_rate)
        console = Console(stderr=True)
        for number, packs in enumerate(track(steps, description=shown, console=console, disable=not shown), start=1):
            batch = collate(packs, self.base.tokenizer.pad_token_id).to(self.base.device)
            loss = label_loss(self.model, batch)
            check_loss(loss.item(), number, which)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    def _save(self, folder: Path, seconds: float) -> None:
        dtype = self.base.model.dtype
        tensors: dict[str, Tensor] = get_peft_model_state_dict(self.model)
        with replace_folder(folder) as new:
            self.model.peft_config[INITIAL].save_pretrained(str(new))
            contiguous = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
            write_tensors(new / WEIGHTS, contiguous, {"format": "pt"})
            write_json(new / FACTS, {"seconds": seconds})

    @torch.no_grad()
    def _check_effect(self, title: str, which: str) -> None:
        prompt = torch.tensor([self.writer.question(f"What is {title or 'this'}?")], device=self.base.device)
        model: PeftModel = self.model
        with model.disable_adapter():
            before = model(prompt).logits[0, -1]
        if torch.equal(model(prompt).logits[0, -1], before):
            raise AdapterError(
                f"{which} changes no logit of the base model after training; check prag.targets and prag.learning_rate"
            )


def _shuffled(items: Iterable[T], times: int, order: random.Random) -> list[list[T]]:
    """The items in several orders, one after the other, each made of the one before."""
    current, orders = list(items), []
    for _ in range(times):
        order.shuffle(current)
        orders.append(list(current))
    return orders


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
