"""The command line that `train.py` and `evaluate.py` share: reading a call, ending in one line, naming the machine."""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from polyprag.config import Config
from polyprag.config.keys import SEE, shown, suggestion
from polyprag.errors import ConfigError, Interrupted, PolyPragError

SHORTHANDS = {"methods": "evaluation.methods", "question": "evaluation.question"}
"""Keys that may be written short on the command line."""

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "pytorch-lightning", "numpy")
USERS_OS_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS})
LESS_MEMORY = (
    "in training lower training.batch_tokens, for PRAG's adapters prag.parallel, in answering answering.batch_size; "
    "see docs/troubleshooting.md"
)
SENTENCES_OF_MEMORY = 3
"""How many sentences of torch's own say what was wanted and what the GPU has; more tell of its allocator."""
EXIT_MISTAKE = 2
EXIT_SIGNAL = 128


@dataclass(frozen=True)
class Call:
    """What a command line asks for.

    Attributes:
        verb: what to do; the program's first verb by default.
        config_path: the YAML file; None for the defaults alone.
        overrides: `key=value` texts in their order, shorthands written out.
        resume: `auto`, the path of a checkpoint, or None to begin afresh.
        dry_run: check everything that can be checked without running.
        print_config: print the configuration and stop.
        folders: what the words of a verb that takes folders name, in their order.
    """

    verb: str
    config_path: Path | None
    overrides: tuple[str, ...]
    resume: str | None
    dry_run: bool
    print_config: bool
    folders: tuple[Path, ...] = ()


def parse_call(
    argv: Sequence[str],
    program: str,
    verbs: tuple[str, ...],
    description: str,
    resumable: bool = False,
    takes_folders: Collection[str] = (),
) -> Call:
    """Read a command line: `[VERB] --config FILE key=value … [--resume auto|PATH] [--dry-run] [--print-config]`.

    Args:
        argv: the arguments after the program's name.
        program: the name of the script, for the help text.
        verbs: what the program can do, the default first.
        description: the first paragraph of the help text.
        resumable: whether `--resume` is offered.
        takes_folders: verbs after which a word that is not `key=value` names a folder.

    Returns:
        The call; keys and values of its overrides are not yet checked.

    Raises:
        ConfigError: an unknown verb or option, a missing argument, or a word that is not `key=value`.
        SystemExit: with status 0 after `--help`.
    """
    arguments = _parser(program, verbs, description, resumable).parse_intermixed_args(argv)
    words: list[str] = arguments.words
    verb = verbs[0]
    if words and "=" not in words[0]:
        verb = words.pop(0)
        if verb not in verbs:
            hint = suggestion(verb, verbs) or f"; expected one of {', '.join(verbs)}, or key=value"
            raise ConfigError(f"{program}: unknown verb {shown(verb)}{hint}")
    folders = tuple(Path(word) for word in words if "=" not in word)
    if folders and verb not in takes_folders:
        raise ConfigError(f"{program}: {shown(str(folders[0]))} is not key=value; write for example experts.count=8")
    return Call(
        verb=verb,
        config_path=arguments.config,
        overrides=tuple(_written_out(word) for word in words if "=" in word),
        resume=arguments.resume if resumable else None,
        dry_run=arguments.dry_run,
        print_config=arguments.print_config,
        folders=folders,
    )


def run_directory(config: Config, config_path: Path | None) -> Path:
    """The folder of a run: `run.dir`, or `runs/` and the config file's name without its ending."""
    if config.run.dir:
        return Path(config.run.dir)
    return Path("runs") / (config_path.stem if config_path is not None else "default")


def guarded(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run a program so that what its user can mend ends in one line on standard error.

    Args:
        main: the program, called with its arguments.
        argv: the arguments; those of the process by default.

    Returns:
        The exit status: 0, 2 after a user's mistake, a full disk or GPU or a missing permission, 128 plus the signal's
        number after an interruption. Any other exception is a bug of ours and goes on with its traceback.
    """
    try:
        main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except Interrupted as interruption:
        return _end(str(interruption), EXIT_SIGNAL + interruption.signum)
    except PolyPragError as error:
        return _end(f"error: {error}", EXIT_MISTAKE)
    except KeyboardInterrupt:
        return _end("interrupted", EXIT_SIGNAL + signal.SIGINT)
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_SIGNAL + signal.SIGPIPE
    except RuntimeError as error:
        if not _is_of_memory(error):
            raise
        said = ". ".join(str(error).split(". ")[:SENTENCES_OF_MEMORY]).rstrip(".")
        return _end(f"error: {said}; {LESS_MEMORY}", EXIT_MISTAKE)
    except OSError as error:
        if error.errno not in USERS_OS_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        return _end(
            f"error: {place}{error.strerror}; make room or give access, or choose another run.dir", EXIT_MISTAKE
        )
    return 0


def environment() -> dict[str, str | int | None]:
    """What a run's figures depend on besides its configuration, for `environment.json`.

    Returns:
        Versions of Python and of the libraries (None where one is missing), the platform, CPU and thread counts, the
        CUDA device, and the commit of the checkout, marked `-dirty` where files differ from it.
    """
    import torch

    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git_commit": _commit(Path(__file__).resolve().parents[1]),
    }


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are errors of ours, one line each."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see python {self.prog} --help")


def _parser(program: str, verbs: tuple[str, ...], description: str, resumable: bool) -> _Parser:
    resume = " [--resume auto|PATH]" if resumable else ""
    parser = _Parser(
        prog=program,
        usage=f"python {program} [VERB] --config FILE key=value ...{resume} [--dry-run] [--print-config]",
        description=description,
        epilog=_examples(program, resumable),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = f"{verbs[0]} (default)"
    parser.add_argument(
        "words", nargs="*", metavar="VERB, key=value", help=f"verb: {', '.join((default, *verbs[1:]))}; then overrides"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file that states what differs from defaults")
    if resumable:
        parser.add_argument("--resume", metavar="auto|PATH", help="go on from the run's last checkpoint, or from PATH")
    parser.add_argument("--dry-run", action="store_true", help="check everything without running, and print sizes")
    parser.add_argument("--print-config", action="store_true", help="print the configuration and stop")
    return parser


def _examples(program: str, resumable: bool) -> str:
    call = f"  python {program} --config configs/demo.yaml"
    last = (
        [f"{call} --resume auto"]
        if resumable
        else [
            f"  python {program} run.dir=runs/demo 'methods=[vanilla,poly_prag]'",
            f"  python {program} inspect run.dir=runs/demo question='Where was … born?'",
            f"  python {program} compare runs/demo runs/other",
        ]
    )
    lines = ["examples:", call, f"{call} run.dir=runs/mine run.seed=1", *last, ""]
    return "\n".join([*lines, f"{SEE}; configs/default.yaml shows them with their defaults."])


def _written_out(override: str) -> str:
    name, equals, value = override.partition("=")
    return f"{SHORTHANDS.get(name, name)}{equals}{value}"


def _is_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory was full; torch is not imported for it, since without it no GPU was in use."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _end(message: str, status: int) -> int:
    print(" ".join(message.splitlines()), file=sys.stderr)
    return status


def _silence_stdout() -> None:
    """Keep the interpreter from complaining at exit that nobody reads its output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(root: Path) -> str | None:
    """The commit of the checkout that polyprag lies in; None for an installed copy or without git."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
