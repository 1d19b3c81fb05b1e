"""The data card for people: a few lines for the terminal, tables in Markdown; and its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from polyprag.files import write_json, write_text
from polyprag.knowledge.card_measures import Spread
from polyprag.knowledge.data_card import DataCard, reasons
from polyprag.markdown import code, escape, markdown_table, printable

CARD_JSON, CARD_MARKDOWN = "data_card.json", "data_card.md"
MOST_LINES = 12
TOLD_TOKENS = ("passages", "test questions", "training sequences")
"""Whose lengths the terminal tells."""
_WIDTH = 11
_SPREAD_HEAD = ("", "measured", "of", "smallest", "median", "95 % up to", "largest")


def write_card(card: DataCard, folder: Path) -> None:
    """Write `data_card.json` and `data_card.md` into a folder.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    write_json(folder / CARD_JSON, card.to_json())
    write_text(folder / CARD_MARKDOWN, card_markdown(card))


def card_lines(card: DataCard) -> list[str]:
    """The card in at most 12 lines for a terminal; where there are more warnings than room, the last line says so."""
    lines = [_line("data", f"{card.name}: {'; '.join(source.path for source in card.sources)}")]
    lines += [_line(name, text) for name, text in _facts(card).items()]
    notes = [_line("note", warning) for warning in card.warnings]
    room = MOST_LINES - len(lines)
    if len(notes) > room:
        notes = [*notes[: room - 1], _line("note", f"{len(notes) - room + 1} more in {CARD_MARKDOWN}")]
    return [*lines, *notes]


def card_markdown(card: DataCard) -> str:
    """The whole card in GitHub's Markdown, ending in a newline."""
    parts = [f"# Data card: {escape(card.name)}"]
    if card.warnings:
        parts += ["## What to know", "\n".join(f"- {escape(warning)}" for warning in card.warnings)]
    parts += ["## Sources", _sources(card), "## Counts", _counts(card)]
    parts += [_left_out(card)] * bool(_left_out(card))
    if card.tokens:
        rows = [_spread_row(name, spread) for name, spread in card.tokens.items()]
        parts += ["## Lengths in tokens", markdown_table(_SPREAD_HEAD, rows), _lengths_note(card)]
    parts += ["## Copies", *_copies(card)]
    if card.recall:
        rows = [(f"first {k}", f"{share:.3f}") for k, share in card.recall.items()]
        parts += [
            "## Recall",
            f"Share of the gold passages among those retrieved, mean over {card.recall_questions:,} test questions.",
            markdown_table(("passages", "recall"), rows),
        ]
    return "\n\n".join(parts) + "\n"


def _facts(card: DataCard) -> dict[str, str]:
    """What the terminal tells beside sources and warnings, by heading; at most eight."""
    asked, trained, out, overlap = card.asked, card.trained, card.left_out, card.overlap
    pairs, rewrites = trained.pairs, trained.rewrites
    facts = {
        "passages": f"{card.passages:,}; {card.duplicates:,} duplicates collapsed, {card.near.found:,} near duplicates",
        "questions": f"{_typed(asked.test)} for the test, {sum(asked.validation.values()):,} set apart; "
        f"{asked.with_gold:,} with known gold passages, {asked.with_aliases:,} with aliases",
    }
    if pairs and rewrites and pairs.total + rewrites.total:
        facts["training"] = (
            f"{pairs.total:,} pairs ({pairs.min:,} to {pairs.max:,} a passage, median {pairs.median:g}) and "
            f"{rewrites.total:,} rewrites"
        )
    kinds = {"rows": out.rows, "questions": out.questions, "augmentation": out.augmentation}
    left = [f"{kind}: {reasons(counts)}" for kind, counts in kinds.items() if counts]
    if left:
        facts["left out"] = "; ".join(left)
    if card.tokens:
        told = {name: card.tokens[name] for name in TOLD_TOKENS if name in card.tokens}
        texts = [f"{name} {spread.median:g} (to {spread.max:,})" for name, spread in told.items()]
        facts["tokens"] = "median: " + ", ".join(texts)
    if overlap.training:
        facts["overlap"] = (
            f"{overlap.exact:,} of {overlap.training:,} training questions equal a test question, "
            f"{overlap.near:,} more nearly"
        )
    if card.recall:
        shares = ", ".join(f"@{k} {share:.3f}" for k, share in card.recall.items())
        facts["recall"] = f"{shares} over {card.recall_questions:,} questions"
    return facts


def _line(name: str, text: str) -> str:
    return f"{name:<{_WIDTH}} {printable(text)}"


def _typed(counts: Mapping[str, int]) -> str:
    """A number of questions, by type where there are types."""
    types = {kind: count for kind, count in counts.items() if kind}
    return f"{sum(counts.values()):,}" + (f" ({reasons(types)})" if types else "")


def _sources(card: DataCard) -> str:
    rows = [
        (
            code(source.key),
            escape(source.path),
            f"{source.files:,}" if source.files else "–",
            f"{source.bytes:,}" if source.files else "–",
            source.modified or "–",
            code(source.sha256) if source.sha256 else "–",
        )
        for source in card.sources
    ]
    return markdown_table(("key", "path", "files", "bytes", "last written", "sha256"), rows, names=2)


def _counts(card: DataCard) -> str:
    asked, trained = card.asked, card.trained
    near = f"near duplicates, among {card.near.looked_at:,} passages"
    rows = [
        ("passages", card.passages),
        ("duplicates collapsed", card.duplicates),
        (near, card.near.found),
        *((f"test questions{_kind(kind)}", count) for kind, count in asked.test.items()),
        *((f"validation questions{_kind(kind)}", count) for kind, count in asked.validation.items()),
        ("test questions with more than one accepted answer", asked.with_aliases),
        ("test questions with known gold passages", asked.with_gold),
        ("gold passages not in the corpus", asked.unknown_gold),
        ("passages with training pairs", trained.passages),
        *([(f"passages filled up by extractive pairs, beside {trained.by}", trained.filled)] if trained.filled else []),
    ]
    parts = [markdown_table(("", "number"), [(escape(name), f"{count:,}") for name, count in rows])]
    spreads = {"training pairs a passage": trained.pairs, "rewrites a passage": trained.rewrites}
    parts.append(markdown_table(_SPREAD_HEAD, [_spread_row(name, one) for name, one in spreads.items() if one]))
    return "\n\n".join(parts)


def _kind(kind: str) -> str:
    return f" of type {kind}" if kind else ""


def _left_out(card: DataCard) -> str:
    out = card.left_out
    kinds = {
        "row of a file": out.rows,
        "question": out.questions,
        "augmentation": out.augmentation,
        "request without an answer": out.requests,
    }
    rows = [(kind, escape(reason), f"{n:,}") for kind, counts in kinds.items() for reason, n in counts.items()]
    return f"## Left out\n\n{markdown_table(('what', 'reason', 'number'), rows, names=2)}" if rows else ""


def _spread_row(name: str, spread: Spread) -> tuple[str, ...]:
    numbers = (spread.n, spread.of, spread.min, spread.median, spread.p95, spread.max)
    return (escape(name), *(f"{number:,g}" if isinstance(number, float) else f"{number:,}" for number in numbers))


def _lengths_note(card: DataCard) -> str:
    sampled = any(spread.n < spread.of for spread in card.tokens.values())
    drawn = f" Where fewer were measured than there are, they were drawn by seed {card.seed}." if sampled else ""
    return f"Training sequences may have {card.max_tokens:,} tokens (`tasks.max_tokens`).{drawn}"


def _copies(card: DataCard) -> list[str]:
    overlap = card.overlap
    if not overlap.training:
        return ["No training question is known here, so none was compared with the test questions."]
    asked = sum(card.asked.test.values())
    rows = [
        ("exact copies", f"{overlap.exact:,} of {overlap.training:,}", f"{overlap.test_exact:,} of {asked:,}"),
        ("near copies", f"{overlap.near:,} of {overlap.training:,}", f"{overlap.test_near:,} of {asked:,}"),
    ]
    parts = [
        "Exact: equal in SQuAD's normal form. Near: the words without stop words have a Jaccard index of 0.8 or more. "
        "That training pairs share passages and answers with test questions is what training is for.",
        markdown_table(("", "training questions", "test questions"), rows),
    ]
    if overlap.examples:
        examples = [
            (escape(one.training), escape(one.test), code(one.test_id), "exact" if one.exact else "near")
            for one in overlap.examples
        ]
        parts.append(markdown_table(("training question", "test question", "id", "copy"), examples, names=4))
    return parts
