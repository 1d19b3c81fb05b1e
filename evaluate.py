"""Answer the test questions by every method, score the answers, and print one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from polyprag.cli import guarded, parse_call
from polyprag.config_loading import to_yaml

VERBS = ("run",)


def main(argv: Sequence[str]) -> None:
    """Parse, open the store, run the methods, report."""
    call = parse_call(argv, "evaluate.py", VERBS, __doc__ or "")
    from polyprag.evaluation.inputs import evaluation_config, evaluation_knowledge

    config, folder = evaluation_config(call.config_path, call.overrides)
    if call.print_config:
        print(to_yaml(config), end="")
        return

    from rich.console import Console

    from polyprag.evaluation.harness import Harness
    from polyprag.evaluation.report import print_report
    from polyprag.methods.workbench import Workbench
    from polyprag.training.trainer import prepare_process

    prepare_process(config.run)
    bench = Workbench(config, evaluation_knowledge(config, folder), folder)
    harness = Harness(bench, Console(stderr=True))
    if call.dry_run:
        print("\n".join(harness.plan(config.evaluation.methods)))
        return
    results = harness.run(config.evaluation.methods)
    print_report(results, Console())
    print(f"answers, results and this table: {harness.folder}")


if __name__ == "__main__":
    sys.exit(guarded(main))
