"""Processes that hear of our signals."""

import os
import signal
import subprocess
import sys

import pytest

from polyprag.child import Child


def test_a_child_hears_of_signals_and_ends_before_us(tmp_path):
    ready, log, kept = tmp_path / "ready", tmp_path / "logs" / "log", tmp_path / "kept"
    script = (
        "import os, pathlib, signal, sys, time\n"
        "def end(*_): print('saved', flush=True); sys.exit(7)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "os.fstat(int(sys.argv[1]))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    sender = (
        "import os, pathlib, signal, sys, time\n"
        f"while not pathlib.Path({str(ready)!r}).exists(): time.sleep(0.01)\n"
        f"os.kill({os.getpid()}, signal.SIGTERM)\n"
    )
    before = signal.getsignal(signal.SIGTERM)
    with kept.open("w") as file:
        child = Child(file.fileno())
        with child.listening(), subprocess.Popen([sys.executable, "-c", sender]):
            assert child.execute([sys.executable, "-c", script, str(file.fileno())], log) == 7
    assert child.signum == signal.SIGTERM
    assert log.read_text() == "saved\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_log_it_writes_where_we_do_in_the_folder_that_is_named(tmp_path, capfd):
    assert Child().execute([sys.executable, "-c", "import os; print(os.getcwd())"], folder=tmp_path) == 0
    assert capfd.readouterr().out == f"{tmp_path}\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_before_its_start_reaches_it(signum, heard):
    assert Child(signum=signum).execute([sys.executable, "-c", "import time; time.sleep(60)"]) in (-signum, 1, 130)
