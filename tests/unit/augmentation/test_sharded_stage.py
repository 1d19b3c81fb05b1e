import json
from pathlib import Path

import pytest
from compatible_server import serving
from rich.console import Console

from polyprag.augmentation.stage import AUGMENTATION, REPORT, run_augmentation
from polyprag.config import AugmentBy, Config
from polyprag.errors import ConfigError
from polyprag.records import Knowledge


@pytest.fixture
def augment(passages, tmp_path):
    """`augment(config, name, shard)`: run the stage in a folder of that name; gives the folder."""

    def run(config: Config, name: str, shard: str = "", dry_run: bool = False) -> Path:
        config.run.shard, folder = shard, tmp_path / name
        run_augmentation(config, folder, Knowledge(tuple(passages)), Console(quiet=True), dry_run)
        return folder

    return run


def test_shards_ask_their_share_and_a_call_without_one_asks_nothing_more(augment, configured, passages, capsys):
    with serving() as server:
        config = configured(server.url)
        whole = augment(config, "whole")
    cache = Path(config.augmentation.cache)
    cache.rename(cache.parent / "put away")
    with serving() as server:
        config.augmentation.url = server.url
        for index in range(3):
            server.bodies.clear()
            folder = augment(config, "shared", f"{index}/3")
            assert len(server.bodies) == 2 * len(passages[index::3])
            assert not list(folder.glob("*"))
        server.bodies.clear()
        capsys.readouterr()
        augment(config, "shared")
        assert not server.bodies
    assert (folder / AUGMENTATION).read_bytes() == (whole / AUGMENTATION).read_bytes()
    reports = [json.loads((path / REPORT).read_text()) for path in (folder, whole)]
    assert [report["cached"] for report in reports] == [24, 0]
    assert reports[0]["pairs"] == reports[1]["pairs"]


def test_a_shard_says_what_it_has_done_and_would_do(augment, configured, capsys):
    with serving() as server:
        config = configured(server.url)
        augment(config, "run", "1/4", dry_run=True)
        assert "passages               3\n" in capsys.readouterr().out
        augment(config, "run", "1/4")
    assert capsys.readouterr().out == "shard 1/4: 3 passages are written about; put all together without run.shard\n"


def test_what_asks_no_model_has_no_shards(augment, configured):
    config = configured("http://localhost:1/v1")
    config.augmentation.by = AugmentBy.EXTRACTIVE
    with pytest.raises(ConfigError, match=r"^run\.shard is 0/2, but augmentation\.by=extractive asks no model"):
        augment(config, "run", "0/2")
