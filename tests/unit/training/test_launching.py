"""The processes here are small scripts; `tests/reliability/test_two_processes.py` starts real ones."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from polyprag.config import Config
from polyprag.errors import ConfigError
from polyprag.training import launching
from polyprag.training.launching import Children, takes_part
from polyprag.training.place import EXIT_LOST

DIFFER = "import os, sys, time\nrank = int(os.environ['RANK'])\n"


@pytest.fixture
def children(tmp_path) -> Children:
    return Children(tmp_path / "processes")


def together(children: Children, script: str, count: int = 2) -> int:
    children.start([sys.executable, "-c", DIFFER + script], count)
    return children.wait()


def test_processes_are_told_where_they_stand(children, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = "'RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'OMP_NUM_THREADS'"
    script = f"open(f'{tmp_path}/{{rank}}', 'w').write(' '.join(os.environ[name] for name in ({names})))"
    assert together(children, script, 3) == 0
    said = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [words[:4] for words in said] == [[str(rank), str(rank), "3", "127.0.0.1"] for rank in range(3)]
    assert len({words[4] for words in said}) == 1
    assert {words[5] for words in said} == {str(max(1, (os.cpu_count() or 1) // 3))}


def test_what_the_first_says_is_seen_and_what_others_say_is_kept(children, capfd):
    assert together(children, "print('I am', rank)") == 0
    assert capfd.readouterr().out == "I am 0\n"
    assert children.log(1).read_text() == "I am 1\n"


def test_a_failure_all_share_is_told_once(children, capfd):
    assert together(children, "sys.exit('error: no such model' if rank < 2 else 0)") == 1
    assert capfd.readouterr().err == "error: no such model\n"


@pytest.mark.parametrize("status", [2, 3])
def test_the_failure_of_another_process_is_told_with_its_last_line(children, capfd, status):
    script = "print('error: it broke', file=sys.stderr) if rank else time.sleep(0.5)\n"
    script += f"sys.exit({status} if rank else {EXIT_LOST})"
    assert together(children, script) == status
    assert capfd.readouterr().err == f"process 1 of 2 failed: error: it broke (see {children.log(1)})\n"


def test_a_process_that_is_killed_ends_all(children, capfd, monkeypatch):
    monkeypatch.setattr(launching, "GRACE_SECONDS", 0.3)
    assert together(children, "os.kill(os.getpid(), 9) if rank else time.sleep(60)") == 128 + signal.SIGKILL
    assert capfd.readouterr().err == "process 1 of 2 was killed by SIGKILL; go on with --resume auto\n"
    assert {process.returncode for process in children.processes} == {-signal.SIGTERM, -signal.SIGKILL}


def test_a_process_that_heeds_no_request_is_killed(children, monkeypatch):
    monkeypatch.setattr(launching, "GRACE_SECONDS", 0.3)
    deaf = "import signal\nsignal.signal(15, signal.SIG_IGN)\n"
    assert together(children, deaf + "time.sleep(60 if rank else 0.5)\nsys.exit(2)") == 2
    assert children.processes[1].returncode == -signal.SIGKILL


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_all_processes(children, tmp_path, signum):
    script = f"import signal\nsignal.signal({int(signum)}, lambda number, frame: sys.exit(100 + number))\n"
    script += f"open(f'{tmp_path}/{{rank}}', 'w').close()\ntime.sleep(60)"

    def send() -> None:
        while not all((tmp_path / str(rank)).exists() for rank in range(2)):
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with children.hearing_signals():
        children.start([sys.executable, "-c", DIFFER + script], 2)
        sender = threading.Thread(target=send)
        sender.start()
        assert children.wait() == 100 + signum
        sender.join()
    assert [process.returncode for process in children.processes] == [100 + signum] * 2
    assert signal.getsignal(signum) == before


class TestTakingPart:
    @pytest.fixture
    def config(self, monkeypatch) -> Config:
        for name in ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
            monkeypatch.delenv(name, raising=False)
        return Config()

    def test_one_process_trains_itself(self, config, tmp_path):
        assert takes_part(config, tmp_path, "train.py", [])
        assert not list(tmp_path.iterdir())

    def test_several_are_started_and_waited_for(self, config, tmp_path):
        program = tmp_path / "program.py"
        program.write_text("import os, sys\nopen(sys.argv[1] + os.environ['RANK'], 'w').close()\n")
        config.training.devices = 2
        assert not takes_part(config, tmp_path / "run", str(program), [str(tmp_path / "was_")])
        assert sorted(path.name for path in tmp_path.glob("was_*")) == ["was_0", "was_1"]

    def test_their_failure_is_that_of_the_program(self, config, tmp_path):
        program = tmp_path / "program.py"
        program.write_text("raise SystemExit(2)\n")
        config.training.devices = 2
        with pytest.raises(SystemExit) as ended:
            takes_part(config, tmp_path / "run", str(program), [])
        assert ended.value.code == 2

    def test_several_machines_need_a_starter(self, config, tmp_path):
        config.training.nodes = 2
        with pytest.raises(ConfigError, match=r"^training\.nodes is 2, but this process was started alone; .*srun or"):
            takes_part(config, tmp_path, "train.py", [])

    def test_a_pool_is_no_work_for_shards(self, config, tmp_path: Path):
        config.run.shard = "0/4"
        with pytest.raises(ConfigError, match=r"^run\.shard is 0/4, but a pool is trained as one"):
            takes_part(config, tmp_path, "train.py", [])
