import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyprag.methods import adapter_claims
from polyprag.methods.adapter_claims import Claims
from polyprag.methods.adapter_files import FACTS, AdapterFiles

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "adapters" / "recipe"


def test_what_is_claimed_is_claimed_by_nobody_else(folder):
    paths = [folder / name for name in ("a", "b", "c/d")]
    with Claims(folder).of(paths[:2]) as ours:
        assert ours == [True, True]
        with Claims(folder).of(paths) as theirs:
            assert theirs == [False, False, True]
    with Claims(folder).of(paths) as theirs:
        assert theirs == [True, True, True]
    assert not folder.exists()  # claims alone are no adapters


def test_a_process_that_is_killed_lets_go(folder):
    hold = f"from pathlib import Path\nfrom {adapter_claims.__name__} import Claims\nfolder = Path({str(folder)!r})\n"
    hold += "with Claims(folder).alone(folder / 'a'):\n    print('held', flush=True)\n    input()\n"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold], cwd=ROOT, **pipes) as holder:
        assert holder.stdout.readline() == b"held\n"
        with Claims(folder).of([folder / "a"]) as ours:
            assert ours == [False]
        holder.kill()
    with Claims(folder).alone(folder / "a"):
        pass


class TestEncoding:
    @pytest.fixture
    def encoder(self, make_bench):
        bench = make_bench("prag.learning_rate=0.01", "prag.parallel=2", trained=False)
        return bench.adapters, bench.passages

    def test_an_adapter_in_other_hands_is_waited_for(self, encoder, monkeypatch):
        ours, passages = encoder
        theirs = Claims(ours.folder)
        trained, waits = [], []
        fit = ours.trainer.fit_together
        monkeypatch.setattr(
            ours.trainer, "fit_together", lambda start, group: trained.append(len(group)) or fit(start, group)
        )
        with theirs.of([ours.path(passages[0])]) as claimed:
            assert claimed == [True]

            def finish() -> None:
                """What the other process does while this one waits."""
                ours.files.save(ours.path(passages[0]), ours.model, 1.0)
                waits.append(1)

            monkeypatch.setattr(ours.claims, "wait", finish)
            ours.encode(passages[:4])
        assert len(waits) == 1
        assert sum(trained) + 1 >= 3  # a group of one is trained on PEFT's own layers
        assert all((ours.path(passage) / FACTS).exists() for passage in passages[:4])
        assert ours.costs(passages[:4]).seconds > 1.0

    def test_what_another_process_gives_up_is_trained_after_all(self, encoder, monkeypatch):
        ours, passages = encoder
        held = Claims(ours.folder).of([ours.path(passages[0])])
        held.__enter__()
        monkeypatch.setattr(ours.claims, "wait", lambda: held.__exit__(None, None, None))
        ours.encode(passages[:1])
        assert (ours.path(passages[0]) / FACTS).exists()

    def test_what_two_shares_have_in_common_is_trained_once(self, make_bench, monkeypatch):
        settings = ("prag.learning_rate=0.01", "prag.parallel=2")
        encoders = [make_bench(*settings, trained=False).adapters for _ in range(2)]
        passages = make_bench(trained=False).passages
        saved, save = [], AdapterFiles.save
        monkeypatch.setattr(
            AdapterFiles, "save", lambda files, folder, *rest: (saved.append(folder), save(files, folder, *rest))
        )
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(encoders[0].encode, passages[:4]), pool.submit(encoders[1].encode, passages[2:])]:
                done.result()
        assert sorted(saved) == sorted(encoders[0].path(passage) for passage in passages)

    def test_looking_again_is_not_busy_waiting(self):
        assert adapter_claims.LOOK_EVERY_SECONDS >= 0.1
