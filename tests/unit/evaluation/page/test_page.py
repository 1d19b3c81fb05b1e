import json
from pathlib import Path

import pytest
from page_reading import Page, is_rounding, value_at, wrong_numbers

from polyprag.config import Config
from polyprag.config.keys import config_values
from polyprag.errors import DataError
from polyprag.evaluation.page.page import PAGE, write_page
from polyprag.files import write_json

HOSTILE = "<script>alert(1)</script>\"'&amp;\u202e\x00<img src=x onerror=alert(1)>"
NEW_COSTS = {
    "seconds_to_first_token": 0.01234,
    "peak_memory_bytes": 1.234e9,
    "offline_seconds_per_passage": 12.5,
    "judge": 0.625,
    "judge_ci95": [0.5, 0.75],
    "judge_agreement": 0.875,
    "judge_by": "judge-model 2",
}


def contents(folder: Path) -> dict:
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    answers: dict = {}
    for row in rows:
        answers.setdefault(row["method"], {})[row["question_id"]] = row["scores"]
    card = folder / "data_card.json"
    return {
        "": json.loads((folder / "results.json").read_text()),
        "answers.jsonl": answers,
        "data_card.json": json.loads(card.read_text()) if card.exists() else {},
    }


def page_of(folder: Path) -> Page:
    path = write_page(folder, folder.parent)
    assert path == folder / PAGE
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.open
    assert not page.stray
    assert wrong_numbers(page.numbers, contents(folder)) == []
    assert not {"script", "iframe", "object", "img"} & set(page.tags)
    assert not {"nan", "inf", "None", "undefined"} & set(" ".join(page.text).split())
    return page


def text_of(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


def paths_of(page: Page) -> set[str]:
    return {number.path for number in page.numbers}


def test_every_number_is_that_of_the_results(evaluated):
    folder = evaluated()
    page = page_of(folder)
    results = contents(folder)[""]
    for name in results["methods"]:
        for key in ("n", "f1", "em", "contains", "prag_f1", "macro_f1", "bytes_per_passage", "train_seconds"):
            assert f"methods.{name}.{key}" in paths_of(page)
        assert f"methods.{name}.seconds_per_question.generate" in paths_of(page)
        assert f"methods.{name}.by_type.two_hop.f1" in paths_of(page)
    for at in range(len(results["differences"])):
        assert {f"differences.{at}.{key}" for key in ("mean", "ci95.0", "p_holm", "won")} <= paths_of(page)


def test_the_headline_is_the_query_router_beside_its_rivals(evaluated):
    text = text_of(page_of(evaluated()))
    order = [
        text.index(role) for role in ("from the question alone", "loaded and merged", "in the prompt", "own memory")
    ]
    assert order == sorted(order)


def test_controls_stand_apart_and_say_what_they_show(evaluated):
    text = text_of(page_of(evaluated()))
    assert text.index("prag") < text.index("controls") < text.index("format_ lora".replace(" ", ""))
    assert "what routing contributes" in text
    assert "what the form of answers alone is worth" in text
    assert "global_lora" not in text


def test_a_difference_can_be_shown_the_other_way_round(evaluated):
    folder = evaluated()
    page = page_of(folder)
    turned = [number for number in page.numbers if number.is_opposite]
    assert turned
    for number in turned:
        assert number.value == 0.0 - value_at(contents(folder)[""], number.path)


def test_text_of_models_and_users_stays_text(evaluated):
    said = {"prediction": HOSTILE, "question": HOSTILE, "gold": (HOSTILE,)}
    page = page_of(evaluated(types=[HOSTILE, "a.b\\c"] * 3, said={**said, "prediction": HOSTILE}))
    shown = HOSTILE.replace("\u202e", "�").replace("\x00", "�")
    assert shown in "".join(page.text)
    assert "onerror" not in "".join(f"<{tag}>" for tag in page.tags)


def test_hostile_answers_that_differ_are_shown_side_by_side(evaluated):
    f1 = {"vanilla": [0.0, 1.0], "prag": [1.0, 0.0]}
    folder = evaluated(f1, types=[])
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    for row in rows:
        row["prediction"] = f"{HOSTILE} {row['method']} {'w' * 3000}\ud800"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "answers.jsonl").write_text(lines, encoding="utf-8")
    page = page_of(folder)
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert "w" * 3000 not in "".join(page.text)  # cut
    assert "…" in "".join(page.text)


def test_long_names_of_the_data_do_not_break_it(evaluated):
    folder = evaluated(types=["x" * 500, "y"] * 3)
    assert "x" * 500 in text_of(page_of(folder))


def test_one_method_is_enough(evaluated):
    page = page_of(evaluated({"vanilla": [0.0, 0.5]}, types=[]))
    text = text_of(page)
    for missing in ("What the scores owe", "All pairs", "Where methods disagree", "routed groups", "F1 by type"):
        assert missing not in text
    assert "methods.vanilla.f1" in paths_of(page)
    assert text.count("the base model from its own memory") == 1


def test_controls_alone_have_no_headline(evaluated):
    page = page_of(evaluated({"format_lora": [0.0, 0.5], "poly_prag_oracle": [1.0, 1.0]}, types=[]))
    assert "Headline" not in (folder_text := text_of(page))
    assert "F1 against seconds a question" not in folder_text


def test_scores_of_zero_everywhere_can_be_drawn(evaluated):
    page_of(evaluated({"vanilla": [0.0, 0.0], "prag": [0.0, 0.0]}, types=["a", "b"]))


def test_a_type_that_one_method_lacks_is_a_dash(evaluated):
    def change(results):
        del results["methods"]["prag"]["by_type"]["two_hop"]

    page = page_of(evaluated(change=change))
    assert "methods.prag.by_type.two_hop.f1" not in paths_of(page)
    assert "methods.vanilla.by_type.two_hop.f1" in paths_of(page)


def test_results_of_earlier_versions_are_readable(evaluated):
    def change(results):
        for method in results["methods"].values():
            for key in ("macro_f1", "own_first", "retrievals", "generated_tokens", "tokens_in", "tokens_out"):
                method.pop(key, None)
        for entry in results["differences"]:
            for key in ("p_holm", "d_z", "won", "tied", "lost"):
                del entry[key]
        del results["run"]["router"]

    page = page_of(evaluated(change=change))
    assert "did not write down the configuration" in text_of(page)
    assert "p of the difference" in text_of(page)
    assert "p Holm" not in text_of(page)
    assert "methods.prag.prompt_tokens" in paths_of(page)


def test_an_effect_that_is_not_defined_is_a_dash(evaluated):
    def change(results):
        results["differences"][0]["d_z"] = None

    assert "differences.0.d_z" not in paths_of(page_of(evaluated(change=change)))


def test_costs_are_shown_where_they_were_measured(evaluated):
    def change(results):
        results["methods"]["prag"] |= {**NEW_COSTS, "break_even": None}
        results["methods"]["poly_prag"] |= {**NEW_COSTS, "break_even": 3.25}

    page = page_of(evaluated(change=change))
    for key in (key for key in NEW_COSTS if key not in ("judge_ci95", "judge_by")):
        assert f"methods.prag.{key}" in paths_of(page)
        assert f"methods.vanilla.{key}" not in paths_of(page)
    assert "methods.prag.judge_ci95.1" in paths_of(page)
    assert "methods.vanilla.tokens_in" in paths_of(page)
    assert "judge-model 2" in text_of(page)
    assert "never" in text_of(page).split()
    assert "methods.poly_prag.break_even" in paths_of(page)
    without = text_of(page_of(evaluated(run="without")))
    assert "to first token" not in without
    assert "judge" not in without


def test_the_data_card_is_on_the_page(evaluated):
    card = {
        **{"passages": 3, "duplicates": 1, "near_duplicates": {"found": 2, "looked_at": 3}, "pairs": 9, "with_gold": 5},
        "left_out": {"questions": {HOSTILE: 4}},
        "overlap": {"training": 9, "exact": 1, "near": 0},
        "warnings": [f"3 of 9 {HOSTILE}"],
    }

    def change(results):
        results["data"] |= {"card": card, "recall": {"questions": 5, "at": {"1": 0.4, "10": 1.0}}}

    folder = evaluated(change=change)
    spread = {"n": 3, "of": 3, "min": 2, "median": 4.5, "p95": 6, "max": 7}
    source = {"key": "data.path", "path": HOSTILE, "sha256": "ab12"}
    write_json(folder / "data_card.json", {"tokens": {"passages": spread}, "sources": [source]})
    page = page_of(folder)
    assert {"data.card.near_duplicates.found", "data.recall.at.10", "tokens.passages.median"} <= paths_of(page)
    assert "3 of 9 <script>" in text_of(page)


def test_the_configuration_and_its_commands_are_on_the_page(evaluated):
    values = config_values(Config()) | {"run.dir": "runs/it's", "data.path": HOSTILE, "experts.count": 12}
    page = page_of(evaluated(change=lambda results: results["run"].update(config=values)))
    text = text_of(page)
    assert "experts.count=12" in text
    assert "python evaluate.py" in text
    assert "training.learning_rate=" in text


def test_methods_whose_answers_are_gone_keep_their_results(evaluated):
    folder = evaluated()
    lines = (folder / "answers.jsonl").read_text().splitlines(keepends=True)
    (folder / "answers.jsonl").write_text("".join(line for line in lines if '"method": "prag"' not in line))
    page = page_of(folder)
    assert "methods.prag.f1" in paths_of(page)
    assert not [number for number in page.numbers if number.path.startswith("prag.")]


def test_damaged_files_are_refused_in_one_line(evaluated):
    folder = evaluated()
    (folder / "data_card.json").write_text("{")
    with pytest.raises(DataError, match=r"data_card.json: not valid JSON"):
        write_page(folder, folder.parent)
    (folder / "data_card.json").unlink()
    (folder / "answers.jsonl").write_text('{"method": "prag"}\n')
    with pytest.raises(DataError, match=r"answers.jsonl: a line is not an answer"):
        write_page(folder, folder.parent)


def test_the_same_results_give_the_same_page(evaluated):
    folder = evaluated()
    first = write_page(folder, folder.parent).read_bytes()
    assert write_page(folder, folder.parent).read_bytes() == first


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("0.512", 0.51249, True),
        ("0.513", 0.51249, False),
        ("< 0.001", 0.0004, True),
        ("< 0.001", 0.002, False),
        ("31 ms", 0.0314, True),
        ("2.8 h", 2.81 * 3600, True),
        ("41.3 kB", 41_310, True),
        ("41.3 kB", 41_390, False),
        ("−0.120", -0.12, True),
        ("+0.120", -0.12, False),
        ("1,234", 1234, True),
        ("50 %", 0.504, True),
        ("–", 0.0, True),
    ],
)
def test_the_test_itself_knows_a_rounding(text, value, expected):
    assert is_rounding(text, value) is expected
