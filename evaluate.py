"""Answer the test questions by every method, score them, print one table; look into a question; compare runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyprag.cli import Call, guarded, parse_call
from polyprag.config.loading import to_yaml

if TYPE_CHECKING:
    from polyprag.methods.workbench import Workbench

# Heavy imports wait until a call is understood, so that --help is instant.

VERBS = ("run", "merge", "inspect", "compare")


def main(argv: Sequence[str]) -> None:
    """Parse the call, settle the configuration, open the run, do what the verb says."""
    call = parse_call(argv, "evaluate.py", VERBS, __doc__ or "", takes_folders=("compare",))
    if call.verb == "compare":
        from polyprag.evaluation.comparison_report import compare_runs

        return compare_runs(call)
    from polyprag.runs import run_config, run_knowledge

    config, folder = run_config(call.config_path, call.overrides)
    if call.print_config:
        print(to_yaml(config), end="")
        return

    from polyprag.methods.workbench import Workbench
    from polyprag.training.trainer import prepare_process

    prepare_process(config.run)
    bench = Workbench(config, run_knowledge(config, folder), folder)
    return {"run": run_methods, "merge": run_methods, "inspect": look_inside}[call.verb](bench, call)


def run_methods(bench: Workbench, call: Call) -> None:
    """Run the methods, or merge what shards have run, and report; a shard does its share."""
    from rich.console import Console

    from polyprag.config.sharding import NOTHING, Shard
    from polyprag.evaluation.harness import Harness
    from polyprag.evaluation.page.page import write_page
    from polyprag.evaluation.report import print_report
    from polyprag.evaluation.tracking import log_results

    config = bench.config
    shard = NOTHING if call.verb == "merge" else Shard.of(config.run.shard)
    harness = Harness(bench, Console(stderr=True), shard)
    if call.dry_run:
        return print("\n".join(harness.plan(config.evaluation.methods)))
    if shard.is_part:
        return print("\n".join(harness.run_share(config.evaluation.methods)))
    results = harness.run(config.evaluation.methods)
    page = write_page(harness.folder, bench.folder)
    print_report(results, Console())
    log_results(results, config, bench.folder)
    print(f"all of it on one page: {page}")
    print(f"answers, results and this table: {harness.folder}")


def look_inside(bench: Workbench, call: Call) -> None:
    """Show what led to the answers to one question; nothing is written."""
    from rich.console import Console

    from polyprag.evaluation.inspection import asked, inspect, routings
    from polyprag.evaluation.inspection_report import print_inspection

    text = bench.config.evaluation.question
    if call.dry_run:
        print("\n".join(method.name for method in routings(bench, asked(bench, text))))
        return
    print_inspection(inspect(bench, text), Console())


if __name__ == "__main__":
    sys.exit(guarded(main))
