"""Adapters of one-to-one PRAG: trained from one shared start, stored as ordinary PEFT adapters, merged by `cat`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from rich.console import Console
from rich.progress import track
from torch import Tensor

from polyprag.config import Config, Recipe
from polyprag.errors import AdapterError
from polyprag.experts.base_model import BaseModel
from polyprag.files import replace_folder, write_json, write_tensors
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.records import Augmentation, Passage
from polyprag.knowledge.tasks import Pack, examples_of, pack
from polyprag.training.batches import collate
from polyprag.training.module import label_loss

INITIAL = "default"
MERGED = "merged"
FACTS = "training.json"
WEIGHTS = "adapter_model.safetensors"


class AdapterEncoder:
    """Trains, stores, loads and merges the adapters of a run.

    Args:
        base: a base model of its own; PEFT wraps its layers.
        config: the whole configuration; `prag.*` is the recipe.
        folder: the run's folder; an adapter lies in `adapters/<hash of the recipe>/<hash of what it is trained on>`.
        augmentations: what the adapters are trained on, by passage id.
    """

    def __init__(
        self, base: BaseModel, config: Config, folder: Path, augmentations: Mapping[str, Augmentation]
    ) -> None:
        self.base, self.config, self.augmentations = base, config, augmentations
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
        self.start = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(self.model).items()}
        recipe = _hash(config.prag, self.tasks, config.run.seed, base.fingerprint, config.base.quantisation.value)
        self.folder = folder / "adapters" / recipe[:12]
        self.identity = _hash(recipe, sorted(augmentations.items()))
        self.loaded: list[str] = []

    def path(self, passage: Passage) -> Path:
        """The folder of a passage's adapter."""
        return self.folder / _hash(passage.content_hash, self._augmentation(passage))[:16]

    def encode(self, passages: Sequence[Passage]) -> None:
        """Train the adapters that are not there yet; each is on disk before the next begins.

        Raises:
            AdapterError: a trained adapter changes no logit.
            DataError: a passage has nothing to train on.
        """
        missing = [passage for passage in passages if not (self.path(passage) / FACTS).exists()]
        console = Console(stderr=True)
        for passage in track(missing, description="PRAG adapters", console=console, disable=not missing):
            started = time.perf_counter()
            self.train(passage)
            self._save(self.path(passage), time.perf_counter() - started)

    def train(self, passage: Passage) -> None:
        """Train one passage's adapter from the shared start, in memory.

        Raises:
            AdapterError: it changes no logit afterwards.
        """
        prag = self.config.prag
        set_peft_model_state_dict(self.model, self.start)
        self.model.set_adapter(INITIAL)
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=prag.learning_rate)
        steps = self._steps(passage)
        order = random.Random(self.config.run.seed)
        for _ in range(prag.epochs):
            if prag.recipe is not Recipe.PRAG:
                order.shuffle(steps)
            for packs in steps:
                batch = collate(packs, self.base.tokenizer.pad_token_id).to(self.base.device)
                label_loss(self.model, batch).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
        self._check_effect(passage)

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
        """Mean bytes of an adapter's weights and configuration on disk."""
        sizes = [sum(file.stat().st_size for file in adapter.iterdir()) for adapter in self._adapters()]
        return sum(sizes) / max(1, len(sizes))

    def train_seconds(self) -> float:
        """Seconds that the adapters at hand took to train."""
        return sum(float(json.loads((adapter / FACTS).read_text())["seconds"]) for adapter in self._adapters())

    def _adapters(self) -> list[Path]:
        return sorted(facts.parent for facts in self.folder.glob(f"*/{FACTS}"))

    def _augmentation(self, passage: Passage) -> Augmentation:
        return self.augmentations.get(passage.id, Augmentation(""))

    def _steps(self, passage: Passage) -> list[list[Pack]]:
        groups = examples_of(passage, self._augmentation(passage), self.tasks, self.writer)
        size = self.config.prag.batch_size
        chunks = [group[at : at + size] for group in groups for at in range(0, len(group), size)]
        return [pack(0, chunk, self.tasks) for chunk in chunks]

    def _save(self, folder: Path, seconds: float) -> None:
        dtype = self.base.model.dtype
        tensors: dict[str, Tensor] = get_peft_model_state_dict(self.model)
        with replace_folder(folder) as new:
            self.model.peft_config[INITIAL].save_pretrained(str(new))
            contiguous = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
            write_tensors(new / WEIGHTS, contiguous, {"format": "pt"})
            write_json(new / FACTS, {"seconds": seconds})

    @torch.no_grad()
    def _check_effect(self, passage: Passage) -> None:
        prompt = torch.tensor([self.writer.question(f"What is {passage.title or 'this'}?")], device=self.base.device)
        model: PeftModel = self.model
        with model.disable_adapter():
            before = model(prompt).logits[0, -1]
        if torch.equal(model(prompt).logits[0, -1], before):
            raise AdapterError(
                f"the adapter of passage {passage.id!r} changes no logit of the base model after training; "
                "check prag.targets and prag.learning_rate"
            )


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
