import shlex

import pytest

from polyprag.config import Config
from polyprag.config.keys import config_difference, config_values
from polyprag.config.loading import load_config
from polyprag.evaluation.page.numbers import Source
from polyprag.evaluation.page.provenance import changed, commands, environment, settings, value_text

TRAINED = [
    "run.seed=3",
    "experts.count=12",
    "training.learning_rate=1e-4",
    "answering.passages=2",
    "base.quantisation=none",
]


def results_of(overrides, **run):
    return told(load_config(None, overrides), **run)


def told(config, **run):
    values = config_values(config) | {"run.dir": "runs/a b"}
    facts = {"config": values, "dir": "runs/a b", "store": "", "router": "", **run}
    return Source({"run": facts, "data": {"sha256": "ab"}, "methods": {"vanilla": {}, "prag": {}}}), config


def read_back(line):
    program, *words = shlex.split(line)[1:]
    verb = words.pop(0) if "=" not in words[0] else ""
    return program, verb, load_config(None, words)


def test_the_command_makes_the_same_configuration(tmp_path):
    odd = load_config(None, ["data.name=jsonl", "run.seed=3"])
    odd.data.path = 'it\'s a "path" with ${x} and \\${y}.jsonl'
    odd.data.types = ["a b", "c: d", "1", "${z}", "it's"]
    results, config = told(odd)
    (line,) = commands(results, tmp_path)
    program, verb, again = read_back(line)
    assert (program, verb) == ("evaluate.py", "")
    assert set(config_difference(config, again)) == {"run.dir", "evaluation.methods"}
    assert again.run.dir == "runs/a b"
    assert again.evaluation.methods == ["vanilla", "prag"]
    assert (again.data.path, again.data.types) == (config.data.path, config.data.types)


def test_a_trained_run_is_trained_first(tmp_path):
    results, config = results_of(TRAINED, store="abc")
    train, evaluate = map(read_back, commands(results, tmp_path))
    assert train[:2] == ("train.py", "")
    assert config_difference(config, train[2]) == ["run.dir"]
    assert evaluate[0] == "evaluate.py"
    assert config_difference(Config(), evaluate[2]) == ["run.dir", "evaluation.methods"]  # the run's own has the rest


def test_each_stage_has_what_it_was_given_otherwise_than_the_pool(tmp_path):
    pool = load_config(None, [*TRAINED, "data.name=jsonl", "data.path=corpus.jsonl", "data.collection=c.tsv"])
    asked = ["data.questions=gold.jsonl", "data.path=", "data.collection=", "answering.passages=3"]
    asked = load_config(None, [*TRAINED, "data.name=jsonl", *asked])
    trained = {
        "pool": config_values(pool),
        "controls": {"data.outside": "a b.jsonl"},
        "translator": {"data.outside": "out/side", "translator.epochs": 2},
    }
    results, _ = told(asked, store="abc", trained=trained)
    results.content["methods"] |= {"standard_rag_format": {}, "dyprag_combine": {}}
    train, controls, translator, evaluate = commands(results, tmp_path)
    assert config_difference(pool, read_back(train)[2]) == ["run.dir"]
    own = shlex.quote("run.dir=runs/a b")
    assert controls == f"python train.py controls {own} 'data.outside=a b.jsonl' 'evaluation.methods=[format_lora]'"
    assert translator == f"python train.py translator {own} data.outside=out/side translator.epochs=2"
    words = shlex.split(evaluate)[3:-1]
    assert words == ["data.path=", "data.questions=gold.jsonl", "data.collection=", "answering.passages=3"]
    again = load_config(None, [*shlex.split(train)[3:], *words])
    assert config_difference(asked, again) == []


def test_without_a_pool_the_translator_is_given_all_that_the_evaluation_has(tmp_path):
    results, config = results_of(["base.dtype=float32"], trained={"controls": {}, "translator": {"data.outside": "o"}})
    results.content["methods"]["dyprag"] = {}
    translator, evaluate = map(read_back, commands(results, tmp_path))
    assert translator[:2] == ("train.py", "translator")
    assert config_difference(config, translator[2]) == ["run.dir", "data.outside"]
    assert config_difference(config, evaluate[2]) == ["run.dir", "evaluation.methods"]


def test_what_was_trained_apart_has_its_own_command(tmp_path):
    results, _ = results_of([*TRAINED, "router.after_pool=false"], store="abc", router="def")
    results.content["methods"]["format_lora"] = {}
    (tmp_path / "augmentation.jsonl").touch()
    first, *lines = commands(results, tmp_path)
    assert first.startswith("# ")
    assert [read_back(line)[:2] for line in lines] == [
        ("train.py", ""),
        ("train.py", "router"),
        ("train.py", "controls"),
        ("evaluate.py", ""),
    ]


def test_results_without_a_configuration_have_no_commands(tmp_path):
    results = Source({"run": {}, "data": {}, "methods": {}})
    assert commands(results, tmp_path) == []
    assert settings(results) == []
    assert environment(results) == []


def test_changed_keys_stand_beside_their_defaults():
    results, _ = results_of(["experts.count=12"])
    found = settings(results)
    assert len(found) == len(config_values(Config()))
    assert [(one.key, one.value, one.default) for one in changed(found)] == [
        ("experts.count", "12", str(Config().experts.count))
    ]


def test_keys_of_other_versions_are_shown(tmp_path):
    results, _ = results_of([])
    results.content["run"]["config"]["gone.key"] = 5
    assert ("gone.key", "5", "") in [(one.key, one.value, one.default) for one in settings(results)]
    assert "gone.key" not in commands(results, tmp_path)[0]


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (1e-05, "1e-05"), ([], "[]"), (["a", "b c"], "[a, b c]"), ("", "")]
)
def test_values_are_written_as_the_command_line_reads_them(value, text):
    assert value_text(value) == text
