"""report.html: everything that an evaluation has found, in one file that opens without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from polyprag.errors import DataError
from polyprag.evaluation.answers import Answer
from polyprag.evaluation.page.charts import Scored, bars, columns, heat_map, scatter
from polyprag.evaluation.page.contrasts import control_table, difference_table, matrix
from polyprag.evaluation.page.data_section import data_section
from polyprag.evaluation.page.disagreement import disagreements
from polyprag.evaluation.page.drawing import Drawing
from polyprag.evaluation.page.numbers import Source, count, mean, score, seconds, size, words
from polyprag.evaluation.page.pieces import Family, family_of, legend
from polyprag.evaluation.page.provenance import changed, commands, environment, settings
from polyprag.evaluation.page.routing import Routing, gate_table, measure_routing, use_table
from polyprag.evaluation.page.scores import NAMED_FIRST, cost_table, headline, judges, main_table, points, type_table
from polyprag.evaluation.recorded import answers_behind, read_results
from polyprag.evaluation.results import ANSWERS, RESULTS
from polyprag.files import current_folder, read_jsonl_tolerant, write_text
from polyprag.knowledge.card_report import CARD_JSON

PAGE = "report.html"


def write_page(folder: Path, run: Path) -> Path:
    """Write report.html of an evaluation from what lies on disk, so that all methods of all calls are in it.

    Args:
        folder: of the evaluation, with results.json and answers.jsonl.
        run: the run's folder, with the store that the results belong to; without it routing is left out.

    Returns:
        The file.

    Raises:
        DataError: results or answers cannot be read.
        OSError: the disk is full or the folder cannot be written.
    """
    results = Source(read_results(folder / RESULTS))
    answers = _answers(results, folder / ANSWERS)
    card = Source(_json(folder / CARD_JSON), CARD_JSON)
    found = settings(results)
    context = {
        "title": f"{results.get('data', 'name')} · {run.resolve().name}",
        "results": results,
        "cards": headline(results),
        "main": main_table(results),
        "judges": judges(results),
        **_figures(results),
        "types": type_table(results),
        "controls": control_table(results),
        "matrix": matrix(results),
        "differences": difference_table(results),
        "pairs": len(results.get("differences") or ()),
        **_routing(results, run, answers),
        "asked": disagreements(answers),
        "cost": cost_table(results),
        "data": data_section(results, card),
        "settings": found,
        "changed": changed(found),
        "environment": environment(results),
        "commands": commands(results, run),
    }
    write_text(folder / PAGE, render("report.html.j2", context))
    return folder / PAGE


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page from one of the templates; whatever is not `Markup` is escaped."""
    formats = {"count": count, "mean": mean, "score": score, "seconds": seconds, "words": words}
    return _templates().get_template(template).render({**formats, **context}) + "\n"


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("polyprag.evaluation.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _figures(results: Source) -> dict[str, Any]:
    """Bars of all methods; F1 against costs for those that are no controls."""
    everything = points(results)
    return {
        "legend": legend(point.method for point in everything),
        "bars": bars(everything, "F1 of each method with its 95 % interval"),
        "latency": _scatter(points(results, "seconds_per_question", "total"), "seconds a question", seconds),
        "bytes": _scatter(points(results, "bytes_per_passage"), "bytes a passage", size),
    }


def _scatter(every: list[Scored], axis: str, unit: Any) -> Drawing | None:
    own = [point for point in every if family_of(point.method) is not Family.CONTROL]
    return scatter(own, f"F1 against {axis}", axis, unit) if own else None


def _routing(results: Source, run: Path, answers: Mapping[str, Mapping[str, Answer]]) -> dict[str, Any]:
    """What the store of the results says of its experts."""
    choosing = [name for name in NAMED_FIRST if any(answer.retrieved for answer in answers.get(name, {}).values())]
    method = choosing[0] if choosing else ""
    own = list(answers[method].values()) if method else []
    folder = current_folder(run / "store")
    routing: Routing | None = measure_routing(folder, results.get("run", "store") or "", own)
    if routing is None:
        return {"routing": None}
    use = routing.numbers.get("use")
    return {
        "routing": routing.numbers,
        "routing_method": method,
        "passages_map": heat_map(routing.levels, "Mean gates of passages by expert", "expert"),
        "routing_types": gate_table(routing),
        "use": columns(use, "Mean gate of each expert", "expert"),
        "use_table": use_table(routing),
    }


def _answers(results: Source, path: Path) -> dict[str, dict[str, Answer]]:
    """The answers behind each method's result; none for methods whose answers are gone."""
    rows = read_jsonl_tolerant(path)
    found = {name: answers_behind(result, name, rows, path) for name, result in results.get("methods").items()}
    return {name: own for name, own in found.items() if own}


def _json(path: Path) -> Any:
    """The content of a JSON file; an empty object where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); delete the file and evaluate again") from None
