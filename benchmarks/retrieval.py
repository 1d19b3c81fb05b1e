"""Indexing and searching many passages: seconds, peak memory, bytes on disk, query latency, and scores against float64.

Run as: python benchmarks/retrieval.py (PASSAGES | --generate N) [--questions FILE …] [--folder DIR] [--skip-bm25s]

PASSAGES is anything that `data.path` takes. `--generate N` makes N passages of about 100 words in the stream, their
vocabulary distributed by Zipf's law. Each step runs in a process of its own, so that its peak memory is its own; the
increment is over that of the same process before the step, mostly libraries. bm25s by itself, given the same words,
is what indexing and searching are held against. Queries are the given questions, or ten words in a row from passages
of the same kind. Searches follow each other in one process with a warm file cache, and the fastest of three tries
counts for each query. On a machine with other work the CPU's time, told beside the clock's, is what to compare.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN

from polyprag.cli import guarded
from polyprag.config import DataConfig, DataName
from polyprag.knowledge.corpus import passage_of
from polyprag.knowledge.ingestion import read_passages
from polyprag.knowledge.rows import BadRows
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever, tokenise
from polyprag.retrieval.bm25_building import K1, B, new_index
from polyprag.retrieval.retriever import bytes_in, searched_text

VOCABULARY = 1_000_000
HITS = 10
QUERIES = 600
CHECKED = 40
BLOCK = 1000


def main(argv: Sequence[str]) -> None:
    """Run every step in its own process and print what it took."""
    arguments = parsed(argv)
    if arguments.step:
        return print(json.dumps(STEPS[arguments.step](arguments)))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        took = {name: in_process(name, argv, folder) for name in STEPS if wanted(name, arguments)}
    for line in lines(took):
        print(line)


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--step` and `--scratch` are how a step is started."""
    parser = argparse.ArgumentParser("retrieval.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("passages", nargs="?", default="", help="a file or folder of passages")
    parser.add_argument("--generate", type=int, default=0, metavar="N", help="make N passages instead")
    parser.add_argument("--questions", nargs="*", default=[], help='JSON lines with "question"')
    parser.add_argument("--folder", default=None, help="where the index goes while the benchmark runs")
    parser.add_argument("--skip-bm25s", action="store_true", help="leave out what needs the whole corpus in memory")
    parser.add_argument("--step", default="", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if bool(arguments.passages) == bool(arguments.generate):
        parser.error("name a file of passages, or give --generate N")
    return arguments


def wanted(step: str, arguments: argparse.Namespace) -> bool:
    """Whether a step is to run."""
    return not (arguments.skip_bm25s and step == "bm25s")


def in_process(step: str, argv: Sequence[str], folder: str) -> dict[str, Any]:
    """Run a step in a process of its own; what it returns, with its peak memory in MB and the increment."""
    command = [sys.executable, __file__, *argv, "--step", step, "--scratch", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    took: dict[str, Any] = json.loads(done.stdout)
    return took


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds of a call, by the clock and of the CPU, and what it adds to this process's peak memory, in MB."""
    before = peak()
    started, worked = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return {"seconds": seconds, "cpu": cpu, "peak": peak(), "increment": peak() - before}


def peak() -> float:
    """Peak memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def passages_of(arguments: argparse.Namespace) -> Iterator[Passage]:
    """The passages, one by one."""
    if arguments.generate:
        return islice(generated(seed=0), arguments.generate)
    data = DataConfig(name=DataName.JSONL, path=arguments.passages)
    return (passage_of(row) for row in read_passages(arguments.passages, data, BadRows()))


def generated(seed: int) -> Iterator[Passage]:
    """Passages without end: words by Zipf's law, the most frequent of which are the stop words."""
    words = np.array([*STOPWORDS_EN, *map(spelt, range(VOCABULARY - len(STOPWORDS_EN)))], dtype=object)
    shares = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))

    def drawn() -> Iterator[Passage]:
        """Passages of about a hundred words, drawn block by block, without end."""
        generator = np.random.default_rng(seed)
        for block in count():
            lengths = np.maximum(20, generator.normal(100, 15, BLOCK)).astype(int)
            chosen = words[np.searchsorted(shares, generator.random(lengths.sum()) * shares[-1])]
            for at, own in enumerate(np.split(chosen, np.cumsum(lengths)[:-1]), start=block * BLOCK):
                yield Passage(str(at), " ".join(own[:2]), " ".join(own))

    return drawn()


def spelt(number: int) -> str:
    """A word of letters for a number."""
    letters = "z"
    while number:
        number, rest = divmod(number, 25)
        letters += chr(ord("a") + rest)
    return letters


def queries_of(arguments: argparse.Namespace) -> list[str]:
    """The questions, or ten words in a row from passages of the same kind that are not indexed where possible."""
    rows = (line for path in arguments.questions for line in Path(path).read_text(encoding="utf-8").splitlines())
    asked = [json.loads(row)["question"] for row in rows]
    if asked:
        return asked
    source = generated(seed=1) if arguments.generate else passages_of(arguments)
    return [" ".join(passage.text.split()[10:20]) for passage in islice(source, QUERIES)]


def index(arguments: argparse.Namespace) -> dict[str, float]:
    """Index in a stream, on disk."""
    folder, source = Path(arguments.scratch) / "index", passages_of(arguments)
    took = measured(lambda: BM25Retriever.build_into(folder, source))
    return {**took, "megabytes": bytes_in(folder) / 2**20}


def index_by_bm25s(arguments: argparse.Namespace) -> dict[str, float]:
    """Index by bm25s itself, from token ids, and save."""
    source = passages_of(arguments)

    def work() -> None:
        """What is timed."""
        vocabulary: dict[str, int] = {}
        texts = (searched_text(passage, True) for passage in source)
        ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in tokenise(text)] for text in texts]
        whole = new_index()
        whole.index((ids, vocabulary), create_empty_token=False, show_progress=False)
        whole.save(Path(arguments.scratch) / "bm25s", allow_pickle=False, show_progress=False)

    return measured(work)


def search(arguments: argparse.Namespace) -> dict[str, float]:
    """Open the index mapped into memory and search it, in turn with bm25s's own search."""
    queries, opened = queries_of(arguments), []
    took = measured(lambda: opened.append(BM25Retriever.open(Path(arguments.scratch) / "index")))
    retriever = opened[0]
    whole = bm25s.BM25.load(Path(arguments.scratch) / "index", mmap=True)
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "bm25s": []}
    for query in [*queries[:20], *queries]:  # the first ones once more, to warm up
        words = tokenise(query)
        if not any(word in whole.vocab_dict for word in words):
            continue
        seconds["ours"].append(seconds_of(lambda query=query: retriever.search([query], HITS)))
        seconds["bm25s"].append(seconds_of(lambda words=words: whole.retrieve([words], k=HITS, show_progress=False)))
    latencies = {
        f"{name}_{clock}_{label}": float(np.quantile([one[at] for one in times[20:]], share)) * 1000
        for name, times in seconds.items()
        for at, clock in enumerate(("clock", "cpu"))
        for label, share in (("median", 0.5), ("p95", 0.95))
    }
    return {**took, **latencies, "queries": len(seconds["ours"]) - 20}


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a call by the clock and of the CPU, the fastest of three each."""
    clock, cpu = [], []
    for _ in range(3):
        started, worked = time.perf_counter(), time.process_time()
        work()
        cpu.append(time.process_time() - worked)
        clock.append(time.perf_counter() - started)
    return min(clock), min(cpu)


def check(arguments: argparse.Namespace) -> dict[str, float]:
    """The largest relative difference of scores from Lucene's BM25 in float64, and whether all hits are the right ones.

    Documents are read once more and only the queries' words are counted.
    """
    queries = queries_of(arguments)
    queries = queries[:: max(1, len(queries) // CHECKED)][:CHECKED]
    scores_QN, words = float64_scores([tokenise(query) for query in queries], passages_of(arguments))
    found = BM25Retriever.open(Path(arguments.scratch) / "index").search(queries, HITS)
    worst, wrong = 0.0, 0
    for hits, scores_N in zip(found, scores_QN, strict=True):
        best = np.sort(scores_N)[::-1][:HITS]
        wrong += len(hits) != int((best > 0).sum())
        for hit, expected in zip(hits, best, strict=False):
            worst = max(worst, abs(hit.score / expected - 1), abs(hit.score / scores_N[hit.position] - 1))
    passages = scores_QN.shape[1]
    return {"queries": len(queries), "worst": worst, "wrong": wrong, "passages": passages, "words": words}


def float64_scores(queries: list[list[str]], passages: Iterator[Passage]) -> tuple[np.ndarray[Any, Any], int]:
    """Lucene's BM25 [Q, N], written out, and the number of words in all passages."""
    columns = {word: (array("i"), array("i")) for query in queries for word in query}
    lengths = array("i")
    for at, passage in enumerate(passages):
        words = tokenise(searched_text(passage, True))
        lengths.append(len(words))
        for word, times in Counter(word for word in words if word in columns).items():
            columns[word][0].append(at)
            columns[word][1].append(times)
    total, average = len(lengths), sum(lengths) / len(lengths)
    norms_N = K1 * (1 - B + B * np.array(lengths, np.float64) / average)
    scores_QN = np.zeros((len(queries), total))
    for row, query in enumerate(queries):
        for word in query:
            places, counts = (np.array(own) for own in columns[word])
            idf = math.log(1 + (total - len(places) + 0.5) / (len(places) + 0.5))
            scores_QN[row, places] += idf * counts / (counts + norms_N[places])
    return scores_QN, sum(lengths)


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "index": index,
    "bm25s": index_by_bm25s,
    "search": search,
    "check": check,
}


def lines(took: dict[str, dict[str, float]]) -> Iterator[str]:
    """What was measured, for people."""
    ours, searching, checked = (took[name] for name in ("index", "search", "check"))
    yield f"passages {checked['passages']:,.0f}, words that count {checked['words']:,.0f}"
    yield (
        f"index in a stream: {ours['seconds']:.1f} s, CPU {ours['cpu']:.1f} s, peak {ours['peak']:.0f} MB of which "
        f"{ours['increment']:.0f} MB are the building's, {ours['megabytes']:.0f} MB on disk"
    )
    if "bm25s" in took:
        whole = took["bm25s"]
        yield (
            f"index by bm25s: {whole['seconds']:.1f} s, CPU {whole['cpu']:.1f} s, peak {whole['peak']:.0f} MB, "
            f"{whole['increment']:.0f} its own"
        )
        yield f"CPU seconds, in a stream / bm25s: {ours['cpu'] / whole['cpu']:.2f}"
        yield f"memory, in a stream / bm25s: {ours['increment'] / whole['increment']:.2f}"
    yield (
        f"opened mapped in {searching['seconds']:.2f} s, CPU {searching['cpu']:.2f} s, {searching['increment']:.0f} MB"
        f"; {searching['queries']:.0f} queries, {HITS} hits each"
    )
    for name in ("ours", "bm25s"):
        median, p95, by_clock, p95_by_clock = (
            searching[f"{name}_{clock}_{label}"] for clock in ("cpu", "clock") for label in ("median", "p95")
        )
        yield (
            f"a query, {name}: CPU median {median:.2f} ms, p95 {p95:.2f} ms; by the clock {by_clock:.2f} and "
            f"{p95_by_clock:.2f} ms"
        )
    yield f"median CPU, ours / bm25s: {searching['ours_cpu_median'] / searching['bm25s_cpu_median']:.3f}"
    yield (
        f"against float64 on {checked['queries']:.0f} queries: largest relative difference {checked['worst']:.1e}, "
        f"{checked['wrong']:.0f} with another number of hits"
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
