import dataclasses

import pytest

from benchmarks import prag_recipe
from polyprag.config.loading import load_config
from polyprag.errors import DataError
from polyprag.training.outside import Outside


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        (
            prag_recipe.tune,
            "no validation question is about one of the first 3 passages alone; give data that has some",
        ),
        (
            prag_recipe.compare_warm_up,
            "no question is about one of the first 3 passages alone; give data that has some",
        ),
    ],
)
def test_without_questions_about_the_passages_nothing_is_trained(tiny_knowledge, monkeypatch, verb, says):
    knowledge = dataclasses.replace(tiny_knowledge, test=(), validation=())
    monkeypatch.setattr(prag_recipe, "load_knowledge", lambda data: knowledge)
    monkeypatch.setattr(prag_recipe, "warm_up_data", lambda config, run: Outside((), {}))
    monkeypatch.setattr(prag_recipe, "trained", None)
    with pytest.raises(DataError, match=f"^{says}$"):
        verb(load_config(None, []))
