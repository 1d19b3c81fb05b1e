"""Two real processes run this file as a script; see `CHECKS`. Shapes: N rows, D numbers, G groups, K experts."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from polyprag.config import BaseConfig, Dtype, ExpertsConfig, Granularity, Quantisation, TrainingConfig
from polyprag.errors import ConfigError, Interrupted, PolyPragError
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.training.exchange import StepMeans, average_gradient, from_all, largest
from polyprag.training.launching import Children
from polyprag.training.place import EXIT_LOST
from polyprag.training.processes import ending_together, first_decides, join, leave, wait_for_all
from polyprag.training.spreading import blocks_of, load_spread

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


def gradient(rank: int) -> Tensor:
    """Rows with a gradient, some of them twice; other rows and another number of them in each process."""
    rows = [[0, 4, 4], [4, 2, 7, 0, 0]][rank]
    values = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(rank))
    return torch.sparse_coo_tensor([rows], values, (1000, 3), check_invariants=True)


def gradients_are_averaged(rank: int) -> None:
    expected = (gradient(0).to_dense() + gradient(1).to_dense()) / 2
    sparse = average_gradient(gradient(rank))
    torch.testing.assert_close(sparse.to_dense(), expected)
    assert sparse.coalesce().indices()[0].tolist() == [0, 2, 4, 7]  # none but rows that a process has
    ours, theirs = from_all(sparse.to_dense())
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(average_gradient(gradient(rank).to_dense()), expected)


def wishes_and_values_are_told(rank: int) -> None:
    assert largest([float(rank), 5.0 - rank], CPU) == [1.0, 5.0]
    assert from_all({"rank": rank}) == [{"rank": 0}, {"rank": 1}]


def means_are_over_all_batches_that_count(rank: int) -> None:
    means = StepMeans()
    for value, counts in [[(1.0, True), (2.0, True)], [(6.0, True), (100.0, False)]][rank]:
        means.add({"loss": torch.tensor(value)}, counts)
    assert means.take() == {"loss": 3.0}
    means.add({"loss": torch.tensor(float(rank))}, counts=True)
    assert means.take() == {"loss": 0.5}
    means.add({"loss": torch.tensor(float("nan") if rank else 1.0)}, counts=True)
    assert means.take()["loss"].isnan()  # so both refuse the step


def the_first_decides(rank: int) -> None:
    asked = []
    assert first_decides(lambda: asked.append(rank) or ("found", Path("here"))) == ("found", Path("here"))
    assert asked == ([0] if rank == 0 else [])


def its_errors_are_those_of_all(rank: int) -> None:
    def fail() -> None:
        raise Interrupted(15, "stopped by a signal")

    with pytest.raises(PolyPragError, match=r"^stopped by a signal$") as raised:
        first_decides(fail)
    assert isinstance(raised.value, Interrupted) == (rank == 0)
    wait_for_all()


def trained_step(base: BaseModel) -> tuple[float, list[Tensor], Tensor]:
    """Loss and gradients of a step, and an answer after it."""
    torch.manual_seed(0)
    pool = ExpertPool(base.model, ExpertsConfig(count=3, rank=2), Granularity.MODULE)
    for layer in pool.layers.values():
        nn.init.normal_(layer.B, std=0.1)
    gates_BGK = torch.rand(2, pool.groups, 3)
    tokens_BT = torch.arange(5, 25).view(2, 10)
    pool.context.activate(gates_BGK)
    loss = base.model(input_ids=tokens_BT).logits.square().mean()
    loss.backward()
    pool.context.deactivate()
    with pool.gated(gates_BGK):
        mask = torch.ones_like(tokens_BT)
        answer = base.model.generate(tokens_BT, attention_mask=mask, max_new_tokens=4, do_sample=False)
    return loss.item(), [parameter.grad for parameter in pool.parameters()], answer


def a_spread_base_model_computes_what_a_whole_one_does(rank: int) -> None:
    for quantisation in (Quantisation.NONE, Quantisation.NF4):
        config = BaseConfig(sys.argv[2], quantisation, Dtype.FLOAT32)
        whole, spread = load_base(config), load_spread(config, CPU, turn=rank, turns=2)
        sizes = [
            sum(
                getattr(p, "to_local", lambda p=p: p)().numel()
                for block in blocks_of(base.model, "")
                for p in block.parameters()
            )
            for base in (whole, spread)
        ]
        assert sizes[1] == sizes[0] / 2
        assert spread.fingerprint == whole.fingerprint
        (loss, gradients, answer), (expected, all_expected, same) = trained_step(spread), trained_step(whole)
        assert loss == expected
        assert all(torch.equal(*pair) for pair in zip(gradients, all_expected, strict=True))
        assert torch.equal(answer, same)


def a_process_that_misses_another_ends_quietly(rank: int) -> None:
    if rank == 1:
        dist.destroy_process_group()
        sys.exit("error: it broke")
    with ending_together():
        while True:
            dist.all_reduce(torch.zeros(1))


CHECKS: tuple[Callable[[int], None], ...] = (
    gradients_are_averaged,
    wishes_and_values_are_told,
    means_are_over_all_batches_that_count,
    the_first_decides,
    its_errors_are_those_of_all,
    a_spread_base_model_computes_what_a_whole_one_does,
    a_process_that_misses_another_ends_quietly,
)
"""What both processes run, one check after the other."""


@pytest.mark.slow
def test_two_processes(tiny_model_folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    children = Children(tmp_path)
    children.start([sys.executable, __file__, "check", str(tiny_model_folder)], 2, threads=1)
    status = children.wait()
    said = capfd.readouterr()
    assert said.out.split() == [check.__name__ for check in CHECKS], said.err + children.log(1).read_text()
    assert children.log(1).read_text().splitlines()[-1] == "error: it broke"
    assert status == 1
    assert [process.returncode for process in children.processes] == [EXIT_LOST, 1]
    assert said.err.splitlines()[-1] == f"process 1 of 2 failed: error: it broke (see {children.log(1)})"


def test_another_number_of_processes_than_was_started_is_refused(monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError,
        match=r"^training\.devices=3 and training\.nodes=2 make 6 processes, but 2 were started; make both the same$",
    ):
        join(TrainingConfig(devices=3, nodes=2))


def test_a_process_that_is_alone_keeps_all_to_itself():
    own = gradient(1)
    assert average_gradient(own) is own
    assert largest([1, 2.0], CPU) == [1, 2.0]
    assert from_all("own") == ["own"]
    assert first_decides(lambda: 3) == 3
    means = StepMeans()
    means.add({"loss": torch.tensor(1.0)}, counts=True)
    means.add({"loss": torch.tensor(2.0)}, counts=True)
    assert means.take() == {"loss": 1.5}
    leave()
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"), ending_together():
        raise RuntimeError("Connection closed by peer")


if __name__ == "__main__":
    join(TrainingConfig(devices=2, accelerator="cpu"))
    for check in CHECKS:
        print(check.__name__, flush=True)
        check(dist.get_rank())
