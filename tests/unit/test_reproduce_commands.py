"""Every command line of docs/reproduce.md is one that its program takes, for every set and base model."""

import functools
import itertools
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from polyprag.cli import Call, parse_call
from polyprag.config import AugmentBy, Config, DataName
from polyprag.config.checks import validate
from polyprag.config.loading import load_config
from polyprag.runs import run_config
from polyprag.sweeps.definition import read_definition
from polyprag.sweeps.grid import build_sweep
from polyprag.training.controls import control_config, needed_controls
from polyprag.training.outside import outside_data

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
SETS = ("2wiki", "hotpotqa", "popqa", "cwq", "released")
CHOICES = [*(("llama32_1b", set_) for set_ in SETS), ("qwen25_15b", "cwq"), ("llama3_8b", "2wiki")]
VERBS = {
    "train.py": ("pool", "augment", "router", "translator", "controls", "sweep"),
    "evaluate.py": ("run", "merge", "inspect", "compare"),
}
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
IN_TABLES = re.findall(r"`(python [^`]+)`", PAGE)
RELEASED = "data.name=jsonl data.path=$A"
NEEDS_GOLD = ("poly_prag_oracle", "poly_prag_uniform", "poly_prag_average", "poly_prag_shuffled", "poly_prag_random")


@dataclass(frozen=True)
class Command:
    """A command line of the page, taken apart by a shell."""

    program: str
    arguments: tuple[str, ...]

    @property
    def call(self) -> Call:
        """What it asks its program for."""
        is_train = self.program == "train.py"
        return parse_call(self.arguments, self.program, VERBS[self.program], "", is_train, ("compare",))

    def __str__(self) -> str:
        return " ".join((self.program, *self.arguments))


def chosen(block: str, base: str, set_: str) -> str:
    """A block of the page in which base model and set are chosen as its comments say."""
    block = re.sub(r"^B=\w+", f"B={base}", block, flags=re.MULTILINE)
    return re.sub(rf"^# (D={set_};)", r"\1", block, flags=re.MULTILINE)


@functools.cache
def commands(base: str, set_: str) -> list[Command]:
    """All command lines of the page, as a shell gives them to `python`."""
    first, *others = [chosen(block, base, set_) for block in BLOCKS]
    released = [block for block in others if RELEASED in block]
    assert len(released) == 1
    others = [block for block in others if block not in released]
    blocks = [first, *(released if set_ == "released" else []), *others]
    script = "\n".join(['python() { printf "%s\\0" "$@" end; }', *blocks, *IN_TABLES])
    shell = ["bash", "-euf", "-c", script.replace(" & done", "; done")]
    said = subprocess.run(shell, capture_output=True, text=True, check=True, cwd=ROOT)
    words = iter(said.stdout.split("\0")[:-1])
    found = []
    for program in words:
        found.append(Command(program, tuple(itertools.takewhile(lambda word: word != "end", words))))
    return [one for one in found if set_ != "released" or one.call.verb != "augment"]  # as the page says


@functools.cache
def configurations(command: Command) -> tuple[Config, ...]:
    """The checked configuration of a command, or those of all runs of a sweep; none where runs are compared."""
    call = command.call
    if call.verb == "sweep":
        assert call.config_path is not None
        return tuple(run.config for run in build_sweep(read_definition(call.config_path), call.overrides).runs)
    if command.program == "train.py" and call.verb in {"pool", "augment"}:
        config = load_config(call.config_path, call.overrides)
        validate(config)
        return (config,)
    return () if call.verb == "compare" else (run_config(call.config_path, call.overrides)[0],)


@pytest.fixture(autouse=True)
def no_results_at_hand(monkeypatch):
    """Paths count from the repository's root, as on the page."""
    monkeypatch.chdir(ROOT)


def test_the_page_has_its_commands():
    found = commands("llama32_1b", "2wiki")
    assert len(found) > 15
    assert {command.program for command in found} == VERBS.keys()
    verbs = {(command.program, command.call.verb) for command in found}
    assert verbs == {
        *(("train.py", verb) for verb in ("augment", "pool", "translator", "controls", "sweep")),
        *(("evaluate.py", verb) for verb in ("run", "compare")),
    }


@pytest.mark.parametrize(("base", "set_"), CHOICES)
def test_every_command_is_possible(base, set_):
    for command in commands(base, set_):
        for config in configurations(command):
            assert config.data.name is not DataName.DEMO, command
            gold = [name for name in config.evaluation.methods if name.startswith(NEEDS_GOLD)]
            assert not gold or config.data.questions.endswith("/gold.jsonl"), command


@pytest.mark.parametrize("set_", SETS)
def test_what_learns_from_outside_passages_is_told_which(set_):
    learning = [command for command in commands("llama32_1b", set_) if command.call.verb in {"translator", "controls"}]
    assert len(learning) == 2
    for command in learning:
        (config,) = configurations(command)
        if command.call.verb == "translator":
            assert outside_data(config, 1).path.startswith("data_aug_projector/")
        elif set_ != "released":  # there, its comment says what to add
            assert [control_config(config, name) for name in needed_controls(config.evaluation.methods)]


@pytest.mark.parametrize("set_", SETS)
def test_what_runs_in_another_folder_takes_the_augmentation_along(set_):
    written = (
        "runs/reproduce/llama32_1b/2wiki" if set_ in {"2wiki", "released"} else f"runs/reproduce/llama32_1b/{set_}"
    )
    for command in commands("llama32_1b", set_):
        folders = [word.removeprefix("run.dir=") for word in command.arguments if word.startswith("run.dir=")]
        for config in configurations(command):
            if set_ == "released":
                assert (config.augmentation.by, config.data.augmentation) == (AugmentBy.NONE, ""), command
                assert "data_aug/" in config.data.path or config.data.questions, command
            elif folders[-1] != written:
                assert config.augmentation.by is AugmentBy.NONE, command
                assert config.data.augmentation == f"{written}/augmentation.jsonl", command


def test_sweeps_stay_within_what_is_written():
    base = load_config(ROOT / "configs" / "reproduce" / "llama32_1b.yaml")
    for command in commands("llama32_1b", "2wiki"):
        if command.call.verb == "sweep":
            for config in configurations(command):
                assert config.data.max_pairs <= base.augmentation.pairs
                assert config.prag == base.prag
