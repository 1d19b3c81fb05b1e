import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from compatible_server import Moody, asks_for_pairs, completion, error, good, passage_text, serving
from rich.console import Console

from polyprag.augmentation.prompts import Prompts
from polyprag.augmentation.stage import AUGMENTATION, REPORT, run_augmentation
from polyprag.config import AugmentationConfig, AugmentBy, Config, Fill, OnBadRow, Quantisation
from polyprag.errors import ConfigError, DataError, Interrupted, ModelError
from polyprag.records import Knowledge, Passage, Question


@pytest.fixture
def run(passages, tmp_path):
    """`run(config, ...)`: augment and give what was written and the report, as its file says it."""

    def augment(config: Config, knowledge: Knowledge | None = None, **options):
        folder = tmp_path / "run"
        run_augmentation(config, folder, knowledge or Knowledge(tuple(passages)), Console(quiet=True), **options)
        return rows_of(folder), json.loads((folder / REPORT).read_text(encoding="utf-8"))

    return augment


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / AUGMENTATION).read_text(encoding="utf-8").splitlines()]


def about(number: int):
    return lambda body: passage_text(number) in body["messages"][-1]["content"]


def test_two_hundred_passages_are_augmented_completely_by_a_moody_server(run, configured):
    passages = [Passage(f"p{number}", "", passage_text(number)) for number in range(200)]
    with serving(Moody(7, slow=0.02, pause="0.02")) as server:
        config = configured(server.url, price_in=2.0, price_out=8.0)
        rows, report = run(config, Knowledge(tuple(passages)))
        asked = server.tries.total()
    assert [row["passage_id"] for row in rows] == [passage.id for passage in passages]
    for row, passage in zip(rows, passages, strict=True):
        assert (len(row["rewrites"]), len(row["qa"]), row["by"]) == (1, 3, "m")
        assert all(pair["answer"] in passage.text for pair in row["qa"])
    assert {row["prompt_version"] for row in rows} == {report["prompt_version"]}
    assert (report["passages"], report["requests"], report["cached"]) == (200, 400, 0)
    assert report["at_once"] == config.augmentation.concurrency > 1
    assert (report["pairs"], report["rewrites"], report["rejected"], report["failed"]) == (600, 200, {}, {})
    assert sum(report["faults"].values()) == asked - 400
    assert set(report["faults"]) == {
        *(
            "HTML",
            "HTTP 429",
            "HTTP 500",
            "broken connection",
            "cut off at augmentation.max_tokens",
            "empty",
            "no JSON",
        ),
        *("no choices", "no question-answer pairs", "refusal"),
    }
    usage = report["this_run"]
    assert usage.pop("seconds") == pytest.approx(report["all_runs"].pop("seconds"), abs=0.4)  # rounded one by one
    assert usage == report["all_runs"]
    assert (usage["replies"], usage["uncounted"]) == (400, 0)
    assert usage["prompt_tokens"] > 100 * 400, "replies that could not be used have cost, too"
    assert usage["cost"] == pytest.approx((usage["prompt_tokens"] * 2 + usage["reply_tokens"] * 8) / 1e6)


def test_nothing_is_asked_twice_and_a_finished_run_needs_no_server(run, configured, capsys):
    with serving() as server:
        config = configured(server.url)
        first = run(config)
    rows, report = run(config)  # nothing listens there any more
    assert rows == first[0]
    assert (report["requests"], report["cached"], report["this_run"]["replies"]) == (24, 24, 0)
    assert report["all_runs"] == first[1]["all_runs"]
    assert "requests    24, 24 of them answered before" in capsys.readouterr().out


def test_only_what_is_new_is_asked(run, configured, passages):
    with serving() as server:
        config = configured(server.url)
        run(config, Knowledge(tuple(passages[:8])))
        server.bodies.clear()
        run(config)
        assert len(server.bodies) == 2 * 4
        server.bodies.clear()
        config.augmentation.rewrites = 2
        rows, _ = run(config)
        assert len(server.bodies) == 12
        assert not any(map(asks_for_pairs, server.bodies))
        assert {len(row["rewrites"]) for row in rows} == {1}, "a second rewrite that equals the first is left out"
        server.bodies.clear()
        config.augmentation.pairs = 2
        run(config)
        assert len(server.bodies) == 12
        assert all(map(asks_for_pairs, server.bodies))


def test_a_request_without_an_answer_ends_the_run_but_all_others_are_kept(run, configured):
    with serving(lambda body, nth: error(500, "oom") if about(3)(body) else good(body)) as server:
        config = configured(server.url, retries=1)
        with pytest.raises(DataError) as caught:
            run(config)
    assert str(caught.value) == (
        "augmentation: 2 of 24 requests got no usable answer, the first for passage 'p3': HTTP 500: oom; all others "
        "are kept: run again to ask for these, or set augmentation.on_failure=skip"
    )
    with serving() as server:
        config.augmentation.url = server.url
        rows, report = run(config)
        assert len(server.bodies) == 2
    assert len(rows) == 12
    assert report["cached"] == 22


def test_a_request_without_an_answer_may_be_passed_over(run, configured, capsys):
    with serving(lambda body, nth: error(500, "oom") if about(3)(body) else good(body)) as server:
        rows, report = run(configured(server.url, retries=1, on_failure="skip"))
    assert report["failed"] == {"HTTP 500": 2}
    assert report["first_failed"] == "passage 'p3': HTTP 500: oom"
    assert report["filled"] == 1
    by = {row["passage_id"]: row["by"] for row in rows}
    assert by == {**{f"p{number}": "m" for number in range(12)}, "p3": "m+extractive"}
    assert rows[3]["rewrites"] == []
    assert rows[3]["qa"]
    assert "failed      2 HTTP 500" in capsys.readouterr().out


def test_when_nothing_at_all_is_answered_nothing_is_passed_over(run, configured):
    with serving(lambda body, nth: error(400, "no")) as server, pytest.raises(DataError, match=r"24 of 24 requests"):
        run(configured(server.url, on_failure="skip"))


def test_many_failures_in_a_row_end_the_run_early(run, configured):
    with serving(lambda body, nth: error(400, "no")) as server:
        with pytest.raises(DataError, match=r"10 of 10 requests got no usable answer.*HTTP 400: no;"):
            run(configured(server.url, concurrency=1))
        assert len(server.bodies) == 10


def test_pairs_that_are_unfit_are_left_out_by_reason_and_the_gap_is_filled(run, configured, passages, capsys):
    name = passages[5].text.split(" was ")[0]

    def inventive(body, nth):
        pairs = [{"question": f"In which year did {name} die?", "answer": "1888", "full_answer": "It was 1888."}]
        return completion(json.dumps({"pairs": pairs})) if asks_for_pairs(body) and about(5)(body) else good(body)

    with serving(inventive) as server:
        config = configured(server.url)
        rows, report = run(config)
        assert report["rejected"] == {"answer not in passage": 1}
        assert (report["filled"], report["filled_pairs"]) == (1, len(rows[5]["qa"]))
        assert (rows[5]["by"], len(rows[5]["rewrites"])) == ("m+extractive", 1)
        assert "1 passages of whose pairs none was left" in capsys.readouterr().out
        config.augmentation.fill = Fill.NONE
        rows, report = run(config)
    assert (rows[5]["by"], rows[5]["qa"], len(rows[5]["rewrites"])) == ("m", [], 1)
    assert (report["filled"], report["without_pairs"], report["first_without"]) == (0, 1, "p5")
    assert "they can be trained only with tasks.passage_text=true" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["test", "validation"])
def test_no_pair_copies_a_question_that_will_be_asked(run, configured, passages, split):
    name = passages[2].text.split(" was ")[0]
    question = Question("q", f"In which city was {name} born?", ("x",))
    with serving() as server:
        rows, report = run(configured(server.url), Knowledge(tuple(passages), **{split: (question,)}))
    assert [len(row["qa"]) for row in rows] == [3, 3, 2, *[3] * 9]
    assert report["rejected"] == {"copy of a test question": 1}


def test_a_dry_run_asks_and_writes_nothing(configured, passages, tmp_path, capsys):
    with serving() as server:
        config = configured(server.url, price_in=1.0, price_out=1.0)
        knowledge = Knowledge(tuple(passages))
        report = run_augmentation(config, tmp_path / "run", knowledge, Console(quiet=True), dry_run=True)
        assert server.bodies == []
    assert not (tmp_path / "run").exists()
    assert (report.requests, report.cached) == (24, 0)
    said = capsys.readouterr().out
    assert "requests               24 to m" in said
    assert "answered already       0" in said
    estimate = re.search(r"tokens, estimated +([\d,]+) in, ([\d,]+) out; cost (\S+)", said)
    assert estimate is not None
    assert 3000 < int(estimate[1].replace(",", "")) < 10_000
    assert 12 * 3 * 50 < int(estimate[2].replace(",", "")) < 12 * 3 * 50 + 12 * 50
    assert 0.005 < float(estimate[3]) < 0.012


def test_without_a_model_patterns_write(run, passages):
    rows, report = run(Config(augmentation=AugmentationConfig(by=AugmentBy.EXTRACTIVE)))
    assert [row["passage_id"] for row in rows] == [passage.id for passage in passages]
    assert {(row["by"], row["prompt_version"]) for row in rows} == {("extractive", "")}
    assert (report["requests"], report["this_run"]["replies"], report["filled"]) == (0, 0, 0)
    assert report["pairs"] == sum(len(row["qa"]) for row in rows) > 12


def test_a_file_made_elsewhere_is_validated_and_completed(run, passages, tmp_path):
    name, city = passages[0].text.split(" was ")[0], passages[0].text.split()[5]
    pairs = [
        {"question": f"In which city was {name} born?", "answer": city},
        {"question": f"In which city did {name} die?", "answer": "Paris"},
    ]
    path = tmp_path / "made.jsonl"
    path.write_text(json.dumps({"passage_id": "p0", "qa": pairs}) + "\n{\n", encoding="utf-8")
    config = Config(augmentation=AugmentationConfig(by=AugmentBy.FILE, file=str(path)))
    with pytest.raises(DataError, match=r"made\.jsonl:2: "):
        run(config)
    config.data.on_bad_row = OnBadRow.SKIP
    rows, report = run(config)
    assert rows[0] == {"passage_id": "p0", "rewrites": [], "qa": pairs[:1], "by": "made.jsonl", "prompt_version": ""}
    assert report["rejected"] == {"answer not in passage": 1, "row: broken JSON": 1}
    assert {row["by"] for row in rows[1:]} == {"made.jsonl+extractive"}


def test_a_local_model_is_asked_like_any_other_author(run, tiny_model_folder, passages, tmp_path):
    settings = AugmentationConfig(by=AugmentBy.LOCAL, cache=str(tmp_path / "cache"), max_tokens=8, batch_size=4)
    config = Config(augmentation=settings)
    config.base.model, config.base.quantisation = str(tiny_model_folder), Quantisation.NONE
    rows, report = run(config, Knowledge(tuple(passages[:2])))
    assert report["by"] == str(tiny_model_folder)
    assert report["requests"] == report["this_run"]["replies"] > 0
    again, report = run(config, Knowledge(tuple(passages[:2])))
    assert again == rows
    assert report["this_run"]["replies"] == 0


def test_equal_chats_about_a_passage_are_one_request(run, configured, monkeypatch):
    original = Prompts.qa_messages
    monkeypatch.setattr(Prompts, "qa_messages", lambda *arguments: original(*arguments) * 2)
    with serving() as server:
        _, report = run(configured(server.url, rewrites=0))
        assert len(server.bodies) == 12
    assert (report["requests"], report["rejected"]) == (12, {})


def test_nobody_to_ask_is_an_error(run):
    with pytest.raises(ConfigError, match=r"augmentation\.by is none"):
        run(Config())


def test_a_server_that_is_not_there_is_an_error_before_anything_is_written(run, configured, tmp_path):
    with serving() as server:
        pass
    with pytest.raises(ModelError, match="no server answers"):
        run(configured(server.url))
    assert not (tmp_path / "run").exists()


# A signal may come between the opening of a file and the `with` that closes it; the file is then closed as garbage.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_at_once_and_keeps_what_is_finished(run, configured, signum):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    enough, released = threading.Event(), threading.Event()

    def stuck(body, nth):
        if len(server.answered) >= 9:
            enough.set()
            released.wait(20)
        return good(body)

    def send() -> None:
        if enough.wait(20):
            os.kill(os.getpid(), signum)

    with serving(stuck) as server:
        config = configured(server.url, concurrency=2, timeout=60.0)
        sender = threading.Thread(target=send)
        sender.start()
        with pytest.raises(Interrupted) as caught:
            run(config)
        released.set()
        sender.join()
    assert caught.value.signum == signum
    assert str(caught.value) == "interrupted; finished replies are kept; run again to go on"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    with serving() as server:
        config.augmentation.url = server.url
        _, report = run(config)
    assert report["cached"] >= 9 - 2
    assert len(server.bodies) == 24 - report["cached"]
