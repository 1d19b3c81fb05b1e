"""Speed and scale, each case against its peer: a table on the terminal, and results.json and results.md beside it.

Run as: python benchmarks/suite.py [CASE=NAME …] [--slow] [--list] [--results FILE]

A name is that of a case, of a module in benchmarks/cases (all its cases), or `all`. Without names every case runs that
is not slow; `--slow` adds those, and naming a slow case, or a module that has only such, runs it. Each case runs in a
process of its own, in alternating rounds of both sides, and gives the median and the quartiles of the rounds' ratios.
Results of cases that were not run stay as they are, unless they come from another machine. The status is 1 if a case
fails to run or misses its bar.

A module of cases offers `CASES`, a tuple of `Case` from benchmarks/measuring.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks import cases as case_modules
from benchmarks.measuring import Bar, Case, Measured, alternate, ratio
from polyprag.cli import guarded
from polyprag.errors import ConfigError
from polyprag.files import write_json, write_text
from polyprag.markdown import markdown_table

__all__ = ["Bar", "Case", "Measured", "alternate", "main", "ratio"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
HEAD = ("case", "what", "against", "value", "quartiles", "bar", "holds")
SAME_MACHINE = ("cpu", "cores", "threads", "torch")


def main(argv: Sequence[str]) -> None:
    """Run what is asked for, and end with status 1 if a bar is missed."""
    arguments = _parsed(argv)
    modules = found_cases()
    if arguments.measure:
        return measure(modules, arguments.measure, Path(arguments.into))
    chosen = chosen_cases(modules, arguments.cases, arguments.slow)
    if arguments.list:
        return print("\n".join(f"{case.name:32} {'slow  ' if case.slow else ''}{case.what}" for case in chosen))
    path = Path(arguments.results)
    results = earlier(path, machine())
    for case in chosen:
        print(f"{case.name}: {case.what} / {case.against}", file=sys.stderr, flush=True)
        results["cases"] = in_order({**results["cases"], case.name: outcome(case)}, modules)
        write_json(path, results)
        write_text(path.with_suffix(".md"), markdown(results))
    show(results, [case.name for case in chosen])
    if not all(results["cases"][case.name]["holds"] for case in chosen):
        sys.exit(1)


def found_cases() -> dict[str, tuple[Case, ...]]:
    """The cases of every module, by its name."""
    names = sorted(module.name for module in pkgutil.iter_modules(case_modules.__path__))
    return {name: importlib.import_module(f"{case_modules.__name__}.{name}").CASES for name in names}


def chosen_cases(modules: Mapping[str, Sequence[Case]], names: Sequence[str], slow: bool) -> list[Case]:
    """The cases that are asked for, in the order of the table.

    Args:
        modules: all cases, by module.
        names: of cases or modules, or `all`; none means all that are not slow.
        slow: whether slow ones are meant where nothing is named, or only a module that has others as well.

    Raises:
        ConfigError: a name is that of nothing.
    """
    every = [case for cases in modules.values() for case in cases]
    chosen = {case.name for case in every if not names and (slow or not case.slow)}
    for name in names:
        if name == "all":
            chosen |= {case.name for case in every}
        elif name in modules:
            own = modules[name]
            chosen |= {case.name for case in own if slow or not case.slow} or {case.name for case in own}
        elif name in {case.name for case in every}:
            chosen.add(name)
        else:
            known = ", ".join(["all", *modules, *(case.name for case in every)])
            raise ConfigError(f"suite.py: no case {name!r}; choose from {known}")
    return [case for case in every if case.name in chosen]


def in_order(rows: Mapping[str, Any], modules: Mapping[str, Sequence[Case]]) -> dict[str, Any]:
    """Rows of results in the order of the cases, without those of cases that are no more."""
    return {case.name: rows[case.name] for cases in modules.values() for case in cases if case.name in rows}


def measure(modules: Mapping[str, Sequence[Case]], name: str, into: Path) -> None:
    """Measure one case in this process and write down what it gave."""
    (case,) = chosen_cases(modules, [name], True)
    measured = case.measure()
    write_json(into, {"value": measured.value, "spread": list(measured.spread), "facts": measured.facts})


def outcome(case: Case) -> dict[str, Any]:
    """Run one case in a process of its own; its row of results.json, with `error` where it came to no end."""
    row = row_of(case)
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "measured.json"
        command = [sys.executable, __file__, "--measure", case.name, "--into", str(into)]
        status = subprocess.run(command, cwd=ROOT).returncode
        if status or not into.exists():
            return {**row, "error": f"the process of the case ended with status {status}"}
        measured = json.loads(into.read_text(encoding="utf-8"))
    return {**row, **measured, "holds": case.bar.holds(measured["value"])}


def row_of(case: Case) -> dict[str, Any]:
    """What results.json says of a case before it is measured."""
    return {
        "value": None,
        "bar": case.bar.limit,
        "holds": False,
        "spread": None,
        "against": case.against,
        "what": case.what,
        "is_floor": case.bar.is_floor,
        "load_at_start": os.getloadavg()[0],
        "command": f"python benchmarks/suite.py CASE={case.name}",
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_at_start": os.getloadavg()[0],
    }


def earlier(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """The results to go on from: those at hand if they come from this machine, else none."""
    if not path.exists():
        return {"machine": now, "cases": {}}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if any(results["machine"].get(key) != now[key] for key in SAME_MACHINE):
        print(f"{path}: results of another machine or another torch are left out from now on", file=sys.stderr)
        return {"machine": now, "cases": {}}
    return {"machine": now, "cases": results["cases"]}


def markdown(results: Mapping[str, Any]) -> str:
    """The table of all results, and the machine, as a page."""
    about = ", ".join(f"{key} {value}" for key, value in results["machine"].items() if value is not None)
    return f"# Benchmarks\n\nMachine: {about}.\n\n{markdown_table(HEAD, _cells(results), names=3)}\n"


def show(results: Mapping[str, Any], names: Sequence[str]) -> None:
    """The table of these cases, on the terminal."""
    table = Table(*HEAD)
    for cells in _cells(results):
        if cells[0] in names:
            table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _cells(results: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, row in results["cases"].items():
        failed = row["value"] is None
        value = row["error"] if failed else f"{row['value']:.3g}"
        spread = "" if failed else " to ".join(f"{bound:.3g}" for bound in row["spread"])
        bar = str(Bar(row["bar"], row["is_floor"]))
        rows.append([name, row["what"], row["against"], value, spread, bar, "yes" if row["holds"] else "no"])
    return rows


def _cpu_model() -> str:
    """The processor's name, from where Linux tells it."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text(encoding="utf-8").splitlines() if source.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--measure` and `--into` are how a case's own process is started."""
    parser = argparse.ArgumentParser("suite.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE=NAME", help="a case, a module of cases, or all")
    parser.add_argument("--slow", action="store_true", help="also run the cases that take minutes")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    parser.add_argument("--results", default=str(RESULTS), metavar="FILE", help="where results.json lies")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    parser.add_argument("--into", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.cases = [word.removeprefix("CASE=") for word in arguments.cases]
    return arguments


if __name__ == "__main__":
    sys.exit(guarded(main))
