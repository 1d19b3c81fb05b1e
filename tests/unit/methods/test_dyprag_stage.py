import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from polyprag.answering.generation import Generator
from polyprag.cli import Call
from polyprag.config import Composition, Config
from polyprag.errors import ConfigError, Interrupted, TrainingError
from polyprag.experts import base_model
from polyprag.experts.base_model import load_base
from polyprag.knowledge.loading import load_knowledge
from polyprag.methods import dyprag_stage
from polyprag.methods.adapters import WARM_UP, AdapterEncoder
from polyprag.methods.dyprag_adapters import TranslatedAdapters
from polyprag.methods.dyprag_stage import train_translator
from polyprag.training.translator_data import translator_passages
from polyprag.training.translator_module import TranslatorModule
from polyprag.translator_store import FILE, FOLDER, StoredTranslator, open_translator

SHORT = ("translator.epochs=2", "translator.learning_rate=0.01", "translator.init=0.05", "run.threads=1")

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty:UserWarning")


def call(resume: str | None = None, dry_run: bool = False) -> Call:
    return Call("translator", None, (), resume, dry_run, print_config=False)


@pytest.fixture
def begin(configure, outside_file, tmp_path) -> Callable[..., tuple[Config, Path]]:
    """`begin(*overrides, name="run")`: configuration and folder of a run that is not trained."""
    return lambda *overrides, name="run": (
        configure(f"data.outside={outside_file}", *SHORT, *overrides),
        tmp_path / name,
    )


def opened(config: Config, run: Path) -> StoredTranslator:
    base = load_base(config.base)
    return open_translator(run / FOLDER, base.fingerprint, base.name)


def weights_of(config: Config, run: Path) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in opened(config, run).translator.parameters()])


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_it_writes_a_translator_that_says_what_it_has_learned_from(begin, capsys):
    config, run = begin()
    train_translator(config, run, call())
    stored = opened(config, run)
    outside = translator_passages(config, load_knowledge(config.data))
    assert stored.learned_from == {passage.content_hash for passage in outside.passages}
    facts = stored.facts
    assert sorted(facts.targets) == ["down_proj", "gate_proj", "up_proj"]
    assert (facts.size, facts.rank, facts.hidden, facts.scale) == (32, 2, 32, 16.0)
    said = facts.training
    assert (said["passages"], said["steps"], said["left_out"]) == (3, 6, {})
    assert said["seconds"] > said["adapter_seconds"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert "translator: 3 outside passages with 6 pairs" in lines
    assert lines[-1].startswith(f"the translator is {run / FOLDER}; it explains ")
    assert f" {said['explained']:.1%} of what tells" in lines[-1]
    assert list((run / FOLDER / "logs").rglob("metrics.csv"))
    assert not (run / "adapters").exists()  # those are PRAG's own, which counts them


def test_a_dry_run_tells_sizes_and_writes_nothing(begin, capsys):
    config, run = begin()
    train_translator(config, run, call(dry_run=True))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["outside", "passages", "3"]
    assert lines[2].split() == ["adapters", "to", "train", "3"]
    assert lines[3].split() == ["steps", "6"]
    assert not run.exists()
    train_translator(config, run, call())
    weights = weights_of(config, run)
    assert int(lines[4].split()[-1].replace(",", "")) == len(weights)
    capsys.readouterr()
    train_translator(config, run, call(dry_run=True))
    assert capsys.readouterr().out.splitlines()[2].split()[-1] == "0"


def test_seed_and_settings_decide_the_translator_and_adapters_at_hand_do_not(begin):
    config, run = begin()
    train_translator(config, run, call())
    first = weights_of(config, run)
    (run / FOLDER / FILE).unlink()
    train_translator(config, run, call())  # on the adapters that are there
    assert torch.equal(weights_of(config, run), first)
    for override in ("run.seed=1", "translator.learning_rate=0.02", "translator.sequences=2", "prag.epochs=2"):
        config, other = begin(override, name=override)
        train_translator(config, other, call())
        assert not torch.equal(weights_of(config, other), first), override


def test_it_starts_adapters_from_a_warm_up_where_prag_does(begin):
    config, run = begin("warm_up.prag=true")
    train_translator(config, run, call())
    assert len(list((run / FOLDER / "adapters").glob(f"*/{WARM_UP}"))) == 1


@pytest.mark.parametrize("adapters", ["kept", "removed"])
def test_a_translator_from_before_rows_were_in_fingerprints_is_kept(begin, monkeypatch, adapters):
    config, run = begin()
    now = base_model.fingerprint
    with monkeypatch.context() as patched:
        patched.setattr(base_model, "fingerprint", lambda model, files: now(model, []))
        train_translator(config, run, call())
    if adapters == "removed":
        shutil.rmtree(run / FOLDER / "adapters")
    before = snapshot(run)
    assert "-" not in opened(config, run).facts.base
    train_translator(config, run, call(resume="auto"))
    assert snapshot(run) == before


def test_a_stopped_training_goes_on_to_the_same_translator_bit_for_bit(begin, stop_after):
    config, whole = begin(name="whole")
    train_translator(config, whole, call())
    config, parts = begin(name="parts")
    for batches in (1, 3, 2):  # after steps 1, 4 and 6 of 6
        stop_after(batches)
        with pytest.raises(Interrupted, match=r"go on with --resume auto"):
            train_translator(config, parts, call("auto"))
    assert not (parts / FOLDER / FILE).exists()
    stop_after(99)
    train_translator(config, parts, call("auto"))
    assert torch.equal(weights_of(config, parts), weights_of(config, whole))
    before = snapshot(parts)
    train_translator(config, parts, call("auto"))  # there is nothing left to do
    assert snapshot(parts) == before


def test_a_checkpoint_of_other_settings_is_refused(begin, stop_after):
    config, run = begin()
    stop_after(2)
    with pytest.raises(Interrupted):
        train_translator(config, run, call())
    (checkpoint,) = (run / FOLDER / "checkpoints").rglob("last.ckpt")
    changed, _ = begin("translator.kl=0.5", "translator.composition=factor", "experts.count=4", "prag.parallel=2")
    with pytest.raises(ConfigError, match=r"last\.ckpt: translator\.kl differ from the checkpoint"):
        train_translator(changed, run, call(str(checkpoint)))


def test_a_loss_that_is_not_finite_leaves_no_translator(begin, monkeypatch):
    config, run = begin("translator.mse=1e38")
    monkeypatch.setattr(
        dyprag_stage, "explained", lambda *_: pytest.fail("the training went on after a loss that is not finite")
    )
    original = TranslatorModule.losses
    monkeypatch.setattr(
        TranslatorModule, "losses", lambda self, own: original(self, own)._replace(mse=torch.tensor(torch.inf))
    )
    with pytest.raises(TrainingError, match=r"the translator's loss is inf at step 0"):
        train_translator(config, run, call())
    assert not (run / FOLDER / FILE).exists()


def test_without_outside_passages_it_says_so(configure, tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.outside is empty"):
        train_translator(configure(), tmp_path / "run", call())


def test_a_translator_that_has_two_adapters_by_heart_answers_as_prag_does(begin):
    two = ("translator.passages=2", "translator.batch_size=2")
    long = ("translator.epochs=150", "translator.learning_rate=2e-3", "translator.mse=1e5")
    config, run = begin("prag.epochs=10", *two, *long)
    train_translator(config, run, call())
    stored = opened(config, run)
    assert stored.facts.training["explained"] > 0.999
    outside = translator_passages(config, load_knowledge(config.data))
    prag = AdapterEncoder(load_base(config.base), config, run / FOLDER, outside.augmentations)
    dyprag = TranslatedAdapters(stored, load_base(config.base), Composition.SUM)
    dyprag.put(outside.passages)
    prompt = prag.writer.question("By which river is Gard?")
    tokens = torch.tensor([prompt])
    for chosen in ((), (0,), (1,), (0, 1)):
        prag.load_and_merge([outside.passages[number] for number in chosen])
        with torch.no_grad(), dyprag.pool.pool.gated(dyprag.pool.gates([chosen], 2)):
            expected, found = prag.model(tokens).logits[0], dyprag.base.model(tokens).logits[0]
        answers = Generator(prag.base, 6).answer([prompt])
        assert Generator(dyprag.base, 6, dyprag.pool.pool).answer([prompt], dyprag.pool.gates([chosen], 2)) == answers
        prag.unload()
        if chosen:
            plain = dyprag.base.model(tokens).logits[0].detach()
            assert (found - expected).norm() < 0.05 * (expected - plain).norm()
        assert torch.equal(found[-1].argmax(-1), expected[-1].argmax(-1))
