import errno
import importlib.metadata
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from polyprag.cli import Call, environment, guarded, parse_call, run_directory
from polyprag.config import Config
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError, DataError, Interrupted

VERBS = ("pool", "router", "augment")


def call(*argv: str, resumable: bool = True) -> Call:
    return parse_call(argv, "train.py", VERBS, "Train a pool.", resumable=resumable)


def raising(error: BaseException) -> Callable[[Sequence[str]], None]:
    def main(argv: Sequence[str]) -> None:
        raise error

    return main


def test_nothing_said_means_the_first_verb_and_the_defaults() -> None:
    assert call() == Call("pool", None, (), None, dry_run=False, print_config=False)


def test_words_and_options_may_be_mixed() -> None:
    argv = ["router", "a=1", "--config", "c.yaml", "b=2", "--resume", "auto", "--dry-run", "c=[x,y]", "--print-config"]
    assert call(*argv) == Call("router", Path("c.yaml"), ("a=1", "b=2", "c=[x,y]"), "auto", True, True)


def test_a_verb_may_follow_the_options() -> None:
    assert call("--config", "c.yaml", "augment", "a=1").verb == "augment"


def test_an_override_is_no_verb_and_keeps_its_equals_signs() -> None:
    parsed = call("pool=1", "run.dir=a=b")
    assert (parsed.verb, parsed.overrides) == ("pool", ("pool=1", "run.dir=a=b"))


def test_methods_is_short_for_evaluation_methods() -> None:
    parsed = call("methods=[vanilla]", "run.dir=there")
    assert parsed.overrides == ("evaluation.methods=[vanilla]", "run.dir=there")
    assert load_config(None, parsed.overrides).evaluation.methods == ["vanilla"]


def test_question_is_short_and_may_hold_any_sign() -> None:
    for text in ("What is 2=3: yes, no?", "'Who' \"is\" #1 [of] {them}?", "- Where? -", "null", "1867"):
        parsed = call("router", f"question={text}")
        assert load_config(None, parsed.overrides).evaluation.question == text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rooter"], "train.py: unknown verb 'rooter'; did you mean router?"),
        (["xyz"], "train.py: unknown verb 'xyz'; expected one of pool, router, augment, or key=value"),
        (["pool", "experts.count"], "train.py: 'experts.count' is not key=value; write for example experts.count=8"),
        (["a=1", "pool"], "train.py: 'pool' is not key=value"),
        (["--config"], "train.py: argument --config: expected one argument; see python train.py --help"),
        (["--confg", "x=y"], "train.py: unrecognized arguments: --confg; see python train.py --help"),
        (["--conf", "x"], "unrecognized arguments"),
        (["--resume"], "argument --resume: expected one argument"),
        (["--dry-run=3"], "argument --dry-run: ignored explicit argument '3'"),
    ],
)
def test_calls_that_make_no_sense(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda argv: print(call(*argv)), argv) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.err.startswith("error: ")
    assert streams.err.count("\n") == 1
    assert streams.out == ""


def test_a_verb_may_take_folders() -> None:
    argv = ["router", "runs/a", "b=1", "runs/b/", "--dry-run"]
    parsed = parse_call(argv, "train.py", VERBS, "Train a pool.", takes_folders=("router",))
    assert (parsed.verb, parsed.folders, parsed.overrides) == ("router", (Path("runs/a"), Path("runs/b")), ("b=1",))
    with pytest.raises(ConfigError, match="'runs/a' is not key=value"):
        parse_call(["pool", *argv[1:]], "train.py", VERBS, "Train a pool.", takes_folders=("router",))


def test_resume_only_where_it_is_offered() -> None:
    with pytest.raises(ConfigError, match="unrecognized arguments: --resume"):
        call("--resume", "auto", resumable=False)


def test_help_lists_verbs_examples_and_where_keys_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        call("--help")
    text = capsys.readouterr().out
    assert exit.value.code == 0
    for expected in ("Train a pool.", "pool (default), router, augment", "--resume", "--dry-run", "--print-config"):
        assert expected in text
    assert "python train.py --config configs/demo.yaml" in text
    assert "docs/configuration.md explains every key" in text


def test_help_of_a_program_that_cannot_resume(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_call(["--help"], "evaluate.py", ("run",), "Compare methods.")
    text = capsys.readouterr().out
    assert "--resume" not in text
    assert "python evaluate.py run.dir=runs/demo 'methods=[vanilla,poly_prag]'" in text


def test_the_command_line_loads_no_heavy_library() -> None:
    program = (
        "import sys, polyprag.cli; print(sorted({'torch', 'transformers', 'omegaconf', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_run_directory() -> None:
    config = Config()
    assert run_directory(config, None) == Path("runs/default")
    assert run_directory(config, Path("configs/world.v2.yaml")) == Path("runs/world.v2")
    config.run.dir = "/elsewhere/mine"
    assert run_directory(config, Path("configs/demo.yaml")) == Path("/elsewhere/mine")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("a.jsonl:3: no text\nadd it"), 2, "error: a.jsonl:3: no text add it"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(signal.SIGTERM, "stopped; saved step 3"), 143, "stopped; saved step 3"),
        (Interrupted(signal.SIGINT), 130, "interrupted; add --resume auto to go on"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x"),
            2,
            "error: runs/x: No space left on device; make room",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), 2, "error: Permission denied; make room or give access"),
        (OSError(errno.EROFS, "Read-only file system"), 2, "error: Read-only file system"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(raising(error), []) == status
    text = capsys.readouterr().err
    assert text.startswith(line)
    assert text.count("\n") == 1


def test_a_full_gpu_is_one_line_with_what_was_wanted_and_what_to_lower(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which 1 MiB is free"
    )
    error = torch.OutOfMemoryError(f"{wanted}. Process 1 has 2 GiB memory in use.\nSee the documentation")
    assert guarded(raising(error), []) == 2
    text = capsys.readouterr().err
    assert text.startswith(
        f"error: {wanted}; in training lower training.batch_tokens, for PRAG's adapters prag.parallel"
    )
    assert text.count("\n") == 1


def test_a_program_without_torch_does_not_import_it_for_its_errors() -> None:
    program = (
        "import sys; from polyprag.cli import guarded\n"
        "def main(argv): raise RuntimeError('ours')\n"
        "try: guarded(main, [])\n"
        "except RuntimeError: sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "error",
    [ValueError("ours"), RuntimeError("ours"), FileNotFoundError(errno.ENOENT, "No such file"), AssertionError()],
)
def test_our_own_bugs_keep_their_traceback(error: BaseException) -> None:
    with pytest.raises(type(error)):
        guarded(raising(error), [])


def test_success_is_status_zero_with_the_arguments_of_the_process_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(sys, "argv", ["train.py", "a=1"])
    assert guarded(seen.extend) == 0
    assert seen == ["a=1"]


def test_a_closed_pipe_ends_quietly() -> None:
    program = "import sys; from polyprag.cli import guarded; sys.exit(guarded(lambda argv: print('x' * 1000000), []))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_environment_names_versions_machine_and_commit() -> None:
    facts = environment()
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == torch.__version__
    assert facts["pytorch-lightning"] == importlib.metadata.version("pytorch-lightning")
    assert facts["torch_threads"] == torch.get_num_threads()
    assert (facts["cuda_device"] is None) == (not torch.cuda.is_available())
    assert set(facts) >= {"transformers", "peft", "bitsandbytes", "numpy", "platform", "cpu_count"}
    root = Path(__file__).parents[2]
    commit = facts["git_commit"]
    if (root / ".git").exists() and isinstance(commit, str):
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert commit.removesuffix("-dirty") == head.stdout.strip()


def test_environment_without_a_library_or_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("polyprag.cli.PACKAGES", ("no-such-library",))
    monkeypatch.setattr("polyprag.cli.__file__", str(tmp_path / "polyprag" / "cli.py"))
    facts = environment()
    assert facts["no-such-library"] is None
    assert facts["git_commit"] is None
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert environment()["git_commit"] is None
