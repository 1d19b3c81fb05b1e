"""Every system on every set at hand, ending in one report: train, train controls and translator, evaluate, compare.

Run as: python benchmarks/compare.py [--data FOLDER] [--sets NAME,…] [--dry-run] [key=value …]
(or: make compare DATA=FOLDER)

The demo world needs no file; the other sets are compared where their file lies in the folder. Each step is one call of
train.py or evaluate.py, which the terminal shows. Stop it as you like, by Ctrl-C or SIGTERM, upon which the step at
work saves what it has, and call it again: a step that is finished repeats nothing, one that was stopped goes on.
Several calls, each with sets of its own, may run side by side; a last one for all sets compares them. `key=value` holds
for all steps. The seconds of every call are kept, those of calls that were stopped as well, and added up at the end.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from polyprag.child import STOPPING, Child
from polyprag.cli import guarded
from polyprag.errors import ConfigError, Interrupted, PolyPragError
from polyprag.files import append_jsonl, read_jsonl_tolerant

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("runs/compare")
SECONDS = "seconds.jsonl"
SYSTEMS = (
    "vanilla,standard_rag,standard_rag_format,da_rag,da_rag_format,flare,flare_format,dragin,dragin_format,"
    "prag,prag_combine,dyprag,dyprag_combine,poly_prag,poly_prag_combine,poly_prag_query,poly_prag_query_combine,"
    "poly_prag_hybrid,format_lora"
)
"""The methods of every set; `format_lora` is a control. More controls: configs/sweeps/ablations.yaml."""
GOLD = ",poly_prag_oracle,poly_prag_uniform,poly_prag_shuffled,poly_prag_random,global_lora"
"""Controls of sets whose questions all have a gold passage in the corpus: what routing carries, and what it adds."""


@dataclass(frozen=True)
class Set:
    """A corpus with questions.

    Attributes:
        name: of its folder.
        config: its configuration.
        file: what must lie in the folder of data; empty for the demo world.
        overrides: `key=value` texts.
        methods: what is compared on it, separated by commas.
    """

    name: str
    config: str
    file: str = ""
    overrides: tuple[str, ...] = ()
    methods: str = SYSTEMS


ONE_PASSAGE = ("answering.passages=1", "answering.combine=sum", "evaluation.choose_questions=12")
"""Where a question is about one passage, which is found first; the number of examples is left to be chosen."""
SETS = (
    Set(
        "world",
        "configs/world.yaml",
        overrides=("data.world.passages=30", "data.world.questions=90", "translator.passages=20", *ONE_PASSAGE),
        methods=SYSTEMS + GOLD,
    ),
    Set(
        "squad",
        "configs/squad.yaml",
        "squad_passages.jsonl",
        ("data.max_passages=40", "data.limit=80", *ONE_PASSAGE),
        SYSTEMS + GOLD,
    ),
    Set("2wiki", "configs/benchmark_small.yaml", "2wikimultihopqa_300.jsonl", ("data.name=2wikimultihopqa",)),
    Set("popqa", "configs/benchmark_small.yaml", "popqa_300.jsonl", ("data.name=popqa", "data.per_type=150")),
)
"""What is compared, small enough for an afternoon on two CPU cores."""


class StepError(PolyPragError):
    """A step of the comparison ended with an error, which stands above."""


def main(argv: Sequence[str]) -> None:
    """Take every step, then compare the sets and say what it all took."""
    parser = argparse.ArgumentParser(
        prog="compare.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the files of the sets")
    parser.add_argument("--sets", default="", help="only these, by name; empty means all")
    parser.add_argument("--dry-run", action="store_true", help="show the steps without taking them")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    call = parser.parse_args(argv)
    meant = meant_sets(call.sets)
    sets = [one for one in meant if not one.file or (call.data / one.file).is_file()]
    for absent in (one for one in meant if one not in sets):
        print(f"{absent.name}: left out, {call.data / absent.file} is not there (--data FOLDER, or make DATA=FOLDER)")
    child, heard = Child(), (*STOPPING, signal.SIGHUP)
    with child.listening([signum for signum in heard if signal.getsignal(signum) is not signal.SIG_IGN]):
        for step in steps(sets, call.data, call.overrides):
            print(f"$ {shlex.join(step)}", flush=True)
            if not call.dry_run:
                take(step, child)
    if not call.dry_run:
        taken = [float(row["seconds"]) for row in read_jsonl_tolerant(FOLDER / SECONDS)]
        print(f"{sum(taken) / 3600:.1f} hours in all, by {len(taken)} calls: {FOLDER / SECONDS}")


def meant_sets(names: str) -> list[Set]:
    """The sets of some names.

    Args:
        names: separated by commas; empty means all.

    Raises:
        ConfigError: there is no set of a name.
    """
    known = {one.name: one for one in SETS}
    chosen = [name.strip() for name in names.split(",")] if names else list(known)
    for unknown in (name for name in chosen if name not in known):
        raise ConfigError(f"--sets {names}: no set {unknown!r}; choose from {', '.join(known)}")
    return [known[name] for name in chosen]


def steps(sets: Sequence[Set], data: Path, overrides: Sequence[str]) -> Iterator[list[str]]:
    """The command lines, in order."""
    for one in sets:
        named = [f"data.path={data / one.file}"] if one.file else []
        place = [f"evaluation.methods=[{one.methods}]", f"run.dir={FOLDER / one.name}"]
        common = ["--config", one.config, *named, *one.overrides, *place, *overrides]
        yield ["train.py", *common, "--resume", "auto"]
        yield ["train.py", "controls", *common, "--resume", "auto"]
        yield ["train.py", "translator", *common, "--resume", "auto"]
        yield ["evaluate.py", *common]
    if len(sets) > 1:
        yield ["evaluate.py", "compare", *(str(FOLDER / one.name) for one in sets), f"run.dir={FOLDER / 'all'}"]


def take(step: Sequence[str], child: Child) -> None:
    """Run one command line to its end, and write down its seconds.

    Args:
        step: the program and its arguments.
        child: runs it, and hands it the signals that reach us.

    Raises:
        Interrupted: a signal asked to stop; the step has had the time to save its work.
        StepError: it ended with an error.
    """
    if child.signum:
        raise Interrupted(child.signum, f"stopped before {shlex.join(step)}; go on with the same command")
    started = time.perf_counter()
    status = child.execute([sys.executable, *step], folder=ROOT)
    FOLDER.mkdir(parents=True, exist_ok=True)
    append_jsonl(FOLDER / SECONDS, [{"step": shlex.join(step), "seconds": time.perf_counter() - started}])
    if child.signum:
        raise Interrupted(child.signum, f"stopped in {shlex.join(step)}; go on with the same command")
    if status:
        raise StepError(f"{shlex.join(step)}: ended with status {status}; what is finished is kept, call again")


if __name__ == "__main__":
    sys.exit(guarded(main))
