import itertools

import pytest
from compatible_server import passage_text

from polyprag.chat import pace
from polyprag.config import AugmentationConfig, AugmentBy, Config, OnBadRow, Structured
from polyprag.records import Passage


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def passages() -> list[Passage]:
    return [Passage(f"p{number}", "", passage_text(number)) for number in range(12)]


@pytest.fixture
def configured(tmp_path):
    """`configured(url, **settings)`: a configuration that asks the server at this URL."""
    counter = itertools.count()

    def make(url: str, **settings) -> Config:
        settings = {"timeout": 5.0, "cache": str(tmp_path / f"cache{next(counter)}"), **settings}
        own = AugmentationConfig(by=AugmentBy.SERVER, model="m", url=url, **settings)
        own.on_failure, own.structured = OnBadRow(own.on_failure), Structured(own.structured)
        return Config(augmentation=own)

    return make
