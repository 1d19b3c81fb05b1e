"""What augmentation is worth: the same passages trained on pairs by people, by a local model, and by extraction.

Run as: python benchmarks/augmentation_sources.py CORPUS.jsonl --passages 20 --dir runs/sources [key=value …]

CORPUS.jsonl holds passages with human pairs. The first three pairs of each passage are the human training pairs, all
others the test questions, which every source is asked alike, closed-book. Prints a line for each source.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from polyprag.files import append_jsonl
from polyprag.knowledge.corpus import read_corpus

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("human", "local", "extractive")
TRAINED = 3
METHODS = ("vanilla", "poly_prag", "poly_prag_oracle", "poly_prag_uniform", "poly_prag_shuffled")


def write_data(path: Path, folder: Path, count: int) -> None:
    """Write the bare passages, the human pairs and the test questions of the first passages."""
    corpus = read_corpus(path)
    passages = corpus.passages[:count]
    rows: dict[str, list[dict[str, object]]] = {"passages": [], "human": [], "questions": []}
    for passage in passages:
        pairs = [{"question": p.question, "answer": p.answer} for p in corpus.augmentations[passage.id].qa]
        rows["passages"].append({"id": passage.id, "title": passage.title, "text": passage.text})
        rows["human"].append({"passage_id": passage.id, "qa": pairs[:TRAINED], "by": "human"})
        rows["questions"] += [
            {"question": p["question"], "answers": [p["answer"]], "passage_ids": [passage.id]} for p in pairs[TRAINED:]
        ]
    for name, content in rows.items():
        file = folder / f"{name}.jsonl"
        file.unlink(missing_ok=True)
        append_jsonl(file, content)


def run_source(source: str, folder: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Augment, train and evaluate by the command lines; returns F1 by method."""
    run = folder / source
    data = [f"data.path={folder}/passages.jsonl", f"data.questions={folder}/questions.jsonl", f"run.dir={run}"]
    by = [f"data.augmentation={folder}/human.jsonl"] if source == "human" else [f"augmentation.by={source}"]
    call = ["--config", str(ROOT / "configs/squad.yaml"), "data.max_passages=0", *data, *by, *overrides]
    for program, extra in (("train.py", ["--resume", "auto"]), ("evaluate.py", [f"methods=[{','.join(METHODS)}]"])):
        subprocess.run([sys.executable, str(ROOT / program), *call, *extra], check=True)
    results = json.loads((run / "evaluation" / "results.json").read_text())
    return {name: results["methods"][name]["f1"] for name in METHODS}


def main(argv: Sequence[str]) -> None:
    """Take the command line apart and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--passages", type=int, default=20)
    parser.add_argument("--dir", type=Path, default=Path("runs/sources"))
    parser.add_argument("--sources", default=",".join(SOURCES), help=f"some of {', '.join(SOURCES)}, with commas")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    arguments.dir.mkdir(parents=True, exist_ok=True)
    write_data(arguments.corpus, arguments.dir, arguments.passages)
    found = {source: run_source(source, arguments.dir, arguments.overrides) for source in arguments.sources.split(",")}
    print("| source | pairs | rewrites | " + " | ".join(METHODS) + " |")
    for source, f1 in found.items():
        file = arguments.dir / ("human.jsonl" if source == "human" else f"{source}/augmentation.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        counts = [sum(len(row.get(key, [])) for row in rows) for key in ("qa", "rewrites")]
        print(f"| {source} | {counts[0]} | {counts[1]} | " + " | ".join(f"{f1[name]:.3f}" for name in METHODS) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
