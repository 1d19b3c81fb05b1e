"""Compare designs of the query router on a trained run: `python benchmarks/router_designs.py run.dir=runs/world`.

Every design is trained on the run's store with its own configuration and held against the test questions: how often the
first choice is a gold passage (for the mlp, the nearest task row), by question type, and the F1 of its answers.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytorch_lightning as pl
import torch
from rich.console import Console

from polyprag.answering.query_router import measure_keys
from polyprag.answering.question_encoder import TokenStates, build_encoder
from polyprag.answering.question_routing import QueryRouting
from polyprag.cli import guarded, parse_call
from polyprag.config import Combine, RouterConfig
from polyprag.evaluation.grids import Grid, grid_table
from polyprag.methods.workbench import Workbench
from polyprag.metrics import score
from polyprag.runs import run_config, run_knowledge
from polyprag.training.router_data import DrawnBatches, build_queries, texts_of
from polyprag.training.router_module import RouterModule
from polyprag.training.router_stage import new_router
from polyprag.training.trainer import prepare_process, quiet_lightning

DESIGNS: dict[str, dict[str, object]] = {
    "attention, embeddings": {},
    "attention, not trained": {"steps": 1, "learning_rate": 1e-12, "token_learning_rate": 0.0},
    "attention, free projection": {"identity": 0.0},
    "attention, no sentences": {"sentences": False},
    "attention, 1 block": {"layers": 1},
    "attention, 4 blocks": {"layers": 4},
    "attention, 8 blocks": {"layers": 8},
    "attention, all blocks": {"layers": -1},
    "attention, then LM loss": {"lm_steps": 60},
    "mlp, embeddings": {"design": "mlp", "steps": 600},
    "mlp, 4 blocks": {"design": "mlp", "layers": 4, "steps": 600},
    "mlp, then LM loss": {"design": "mlp", "steps": 600, "lm_steps": 60},
}


class CachedEncoder:
    """An encoder that looks at each text once, which does not change what it says."""

    def __init__(self, encoder: object) -> None:
        self.encoder = encoder
        self.size, self.vocabulary = encoder.size, encoder.vocabulary
        self.known: dict[str, TokenStates] = {}

    def encode(self, texts: Sequence[str]) -> TokenStates:
        """The states of a batch, out of those of single texts."""
        for text in texts:
            if text not in self.known:
                self.known[text] = self.encoder.encode([text])
        rows = [self.known[text] for text in texts]
        width = max(row.ids_BT.shape[1] for row in rows)

        def padded(tensors: list[torch.Tensor]) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence([tensor[0] for tensor in tensors], batch_first=True)

        assert width
        return TokenStates(
            padded([row.ids_BT for row in rows]),
            padded([row.states_BTD for row in rows]),
            padded([row.mask_BT for row in rows]),
        )


def main(argv: Sequence[str]) -> None:
    """Train and measure every design, or those whose name holds one of evaluation.dir's words."""
    call = parse_call(argv, "router_designs.py", ("run",), __doc__ or "")
    config, folder = run_config(call.config_path, call.overrides)
    prepare_process(config.run)
    quiet_lightning()
    bench = Workbench(config, run_knowledge(config, folder), folder)
    encoders: dict[int, CachedEncoder] = {}
    rows = []
    for name, changes in DESIGNS.items():
        settings = dataclasses.replace(RouterConfig(), **changes)
        encoder = encoders.setdefault(settings.layers, CachedEncoder(build_encoder(settings, bench.base)))
        rows.append((name, *measure(bench, settings, encoder)))
        print(rows[-1], file=sys.stderr, flush=True)
    kinds = sorted({question.type for question in bench.knowledge.test})
    head = ("design", "first", *(f"first,\n{kind or 'untyped'}" for kind in kinds), "F1", "seconds")
    Console(width=140).print(grid_table(Grid(f"Query routers on {folder}", head, tuple(rows))))


def measure(bench: Workbench, settings: RouterConfig, encoder: CachedEncoder) -> tuple[str, ...]:
    """Train one design; the share of right first choices, overall and by type, F1, and seconds of training."""
    config = dataclasses.replace(bench.config, router=settings)
    pl.seed_everything(config.run.seed, verbose=False)
    started = time.perf_counter()
    router = new_router(config, bench.store, encoder)
    router.start_from(measure_keys(encoder, texts_of(bench.knowledge)))
    queries, held_back = build_queries(bench.knowledge, config, bench.writer)
    pool = bench.pool
    for parameter in pool.parameters():
        parameter.requires_grad_(False)
    module = RouterModule(encoder, router, bench.gates_NGK, held_back, config, bench.base, pool)
    loader = torch.utils.data.DataLoader(
        queries, batch_sampler=DrawnBatches(queries, settings, config.run.seed), collate_fn=list
    )
    steps = settings.steps + settings.lm_steps
    pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, loader)
    router.load_state_dict(module.best["state"])
    router.eval()
    seconds = time.perf_counter() - started
    routing = QueryRouting(encoder, router, bench.gates_NGK)
    right: dict[str, list[bool]] = defaultdict(list)
    marks = []
    test = bench.knowledge.test
    for at in range(0, len(test), 16):
        batch = test[at : at + 16]
        routed = routing.route(batch, 1, Combine.SUM)
        answers = bench.generator.answer(
            [bench.writer.question(question.text) for question in batch],
            torch.stack([choice.gates_GK for choice in routed]),
        )
        for question, choice, answer in zip(batch, routed, answers, strict=True):
            right[question.type].append(bench.passages[choice.passages[0]].id in question.passage_ids)
            marks.append(score(answer.text, question.answers).f1)
    shares = [f"{sum(own) / len(own):.3f}" for _, own in sorted(right.items())]
    overall = [mark for own in right.values() for mark in own]
    return (
        f"{sum(overall) / len(overall):.3f}",
        *shares,
        f"{sum(marks) / len(marks):.3f}",
        f"{seconds:.0f}",
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
