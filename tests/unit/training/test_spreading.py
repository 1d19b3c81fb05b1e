"""That spread weights compute what whole ones do is checked in two processes by `test_exchange.py`."""

import pytest
from torch import nn

from polyprag.config import Config
from polyprag.config.checks import validate
from polyprag.errors import ConfigError
from polyprag.training.spreading import blocks_of


def test_the_blocks_of_a_model(tiny_base):
    blocks = list(blocks_of(tiny_base.model, "tiny"))
    assert len(blocks) == 3
    assert all(parameter.requires_grad is False for block in blocks for parameter in block.parameters())


def test_a_model_without_a_list_of_blocks_is_refused():
    class Odd(nn.Module):
        def get_decoder(self) -> nn.Module:
            return nn.Linear(1, 1)

    with pytest.raises(ConfigError, match=r"^training\.strategy is fsdp, but odd keeps no list of blocks"):
        blocks_of(Odd(), "odd")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"strategy": "deepspeed_stage_2"}, r"training\.strategy is 'deepspeed_stage_2', which could shard the small"),
        ({"strategy": "ddp_spawn"}, r"training\.strategy is 'ddp_spawn', but must be auto, ddp or fsdp"),
        ({"accelerator": "GPU"}, r"training\.accelerator is 'GPU', but must be auto, cpu, gpu or cuda$"),
        ({"accelerator": "gpus"}, r"training\.accelerator is 'gpus', but must be auto, cpu, gpu or cuda$"),
        ({"strategy": "fsdp"}, r"training\.strategy is 'fsdp', but one process trains, .* set training\.devices"),
    ],
)
def test_accelerators_and_strategies_that_cannot_work_are_refused(keys, line):
    config = Config()
    for name, value in keys.items():
        setattr(config.training, name, value)
    with pytest.raises(ConfigError, match=f"^{line}"):
        validate(config)


@pytest.mark.parametrize(("name", "value"), [("layers", 4), ("layers", -1), ("lm_steps", 10)])
def test_a_router_that_needs_the_whole_base_model_is_refused_with_a_spread_one(name, value):
    config = Config()
    config.training.strategy, config.training.devices = "fsdp", 2
    validate(config)
    setattr(config.router, name, value)
    with pytest.raises(ConfigError, match=r"set both to 0, or router\.after_pool=false$"):
        validate(config)
    config.router.after_pool = False
    validate(config)
