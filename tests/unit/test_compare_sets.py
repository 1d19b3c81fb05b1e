"""`make compare`: which steps there are, and that they are taken, timed and stopped in order."""

import dataclasses
import json
import os
import signal

import pytest

from benchmarks import compare
from polyprag.config import BENCHMARKS, MethodName
from polyprag.config.checks import validate
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError, Interrupted
from polyprag.knowledge.loading import load_knowledge
from polyprag.training.outside import outside_data, outside_knowledge


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Programs that write down how they are called; `train.py controls` fails while a file says so."""
    for name in ("train.py", "evaluate.py"):
        (tmp_path / name).write_text(
            "import pathlib, sys\n"
            "with open('calls.txt', 'a') as calls: print(*sys.argv, file=calls)\n"
            "sys.exit(7 if 'controls' in sys.argv and pathlib.Path('broken').exists() else 0)\n"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    return tmp_path


def calls(folder):
    return [line.split() for line in (folder / "calls.txt").read_text().splitlines()]


def test_all_systems_are_compared():
    named = set((compare.SYSTEMS + compare.GOLD).split(","))
    alone = {name.value for name in MethodName if not name.endswith("_combine")}
    assert alone - named == {"poly_prag_average"}, "which says the same as even gates"
    combined = ("prag", "dyprag", "poly_prag", "poly_prag_query")
    assert named - alone == {f"{name}_combine" for name in combined}


@pytest.mark.parametrize("one", compare.SETS, ids=lambda one: one.name)
def test_every_sets_configuration_is_valid(one):
    config = load_config(compare.ROOT / one.config, [*one.overrides, f"data.path={one.file}"])
    validate(config)
    assert one.methods in (compare.SYSTEMS, compare.SYSTEMS + compare.GOLD)
    assert (compare.GOLD in one.methods) == (config.data.name not in BENCHMARKS), "their gold may be cut or unknown"
    assert config.warm_up.prag, "PRAG starts warmed up"
    assert config.routing.top_k * 4 == config.experts.count, "a quarter of the experts is active"


SHARED = compare.ROOT.parent / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not there")
@pytest.mark.parametrize("one", compare.SETS[2:], ids=lambda one: one.name)
def test_benchmarks_leave_questions_to_learn_form_from(one):
    config = load_config(compare.ROOT / one.config, [*one.overrides, f"data.path={SHARED / one.file}"])
    outside = dataclasses.replace(config, data=outside_data(config, 200))
    assert len(outside_knowledge(outside, load_knowledge(config.data)).pairs) > 100


def test_steps_are_taken_in_order_and_timed(programs, capsys):
    (programs / "data").mkdir()
    (programs / "data" / "squad_passages.jsonl").touch()
    compare.main(["run.threads=1"])
    taken = calls(programs)
    assert [call[0] for call in taken] == [*["train.py"] * 3, "evaluate.py"] * 2 + ["evaluate.py"]
    assert [call[1] for call in taken[1:3]] == ["controls", "translator"]
    assert all("run.threads=1" in call for call in taken[:-1])
    assert "data.path=data/squad_passages.jsonl" in taken[4]
    assert taken[-1][1:] == ["compare", "runs/compare/world", "runs/compare/squad", "run.dir=runs/compare/all"]
    rows = [json.loads(line) for line in (programs / "runs/compare/seconds.jsonl").read_text().splitlines()]
    assert [row["seconds"] > 0 for row in rows] == [True] * len(taken)
    printed = capsys.readouterr().out
    assert "popqa: left out, data/popqa_300.jsonl is not there" in printed
    assert f"hours in all, by {len(taken)} calls" in printed


def test_a_failing_step_ends_the_comparison_and_the_next_call_goes_on(programs):
    (programs / "broken").touch()
    with pytest.raises(compare.StepError, match=r"train.py controls .*: ended with status 7; what is finished is kept"):
        compare.main([])
    assert len(calls(programs)) == 2
    (programs / "broken").unlink()
    compare.main([])
    assert len(calls(programs)) == 2 + 4


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_step_has_the_time_to_save_and_its_seconds_are_kept(programs, signum, heard):
    (programs / "train.py").write_text(
        "import os, pathlib, signal, sys, time\n"
        "def end(signum, _): time.sleep(1); pathlib.Path('saved').touch(); sys.exit(128 + signum)\n"
        f"signal.signal({signum:d}, end)\n"
        f"os.kill({os.getpid()}, {signum:d})\n"
        "time.sleep(60)\n"
    )
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=r"^stopped in train\.py --config .*; go on with the same command$") as end:
        compare.main([])
    assert end.value.signum == signum
    assert (programs / "saved").exists()
    (row,) = (json.loads(line) for line in (programs / "runs/compare/seconds.jsonl").read_text().splitlines())
    assert 1 < row["seconds"] < 60
    assert signal.getsignal(signum) is before


def test_one_set_alone_is_not_compared(programs, capsys):
    compare.main(["--sets", "world", "--dry-run"])
    assert "evaluate.py compare" not in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"--sets world,mars: no set 'mars'; choose from world, squad, 2wiki, popqa"):
        compare.main(["--sets", "world,mars"])


def test_a_dry_run_takes_no_step(programs, capsys):
    compare.main(["--dry-run"])
    assert not (programs / "calls.txt").exists()
    assert capsys.readouterr().out.count("$ ") == 4
