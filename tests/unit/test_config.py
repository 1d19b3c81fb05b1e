import contextlib
import dataclasses
import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.config import Combine, Composition, Config, MethodName, Range
from polyprag.config.checks import validate
from polyprag.config.keys import Key, config_difference, config_values, keys, sections, shown
from polyprag.config.loading import load_config, to_yaml
from polyprag.config_docs import GENERATED
from polyprag.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


def load_text(folder: Path, text: str | bytes, *overrides: str) -> Config:
    path = folder / "some.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_config(path, overrides)


def complaint(folder: Path, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(load_text(folder, text, *overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(folder / "some.yaml"), "some.yaml")


def outcome(load: Callable[[], Config]) -> Config | str:
    """The configuration, or the complaint about it, which nothing but a ConfigError may be."""
    try:
        config = load()
        with contextlib.suppress(ConfigError):
            validate(config)
        return config
    except ConfigError as error:
        return str(error)


def test_the_defaults_are_valid_and_need_no_file() -> None:
    config = load_config(None)
    validate(config)
    assert config == Config()


def test_file_over_defaults_and_command_line_over_file(folder: Path) -> None:
    config = load_text(folder, "experts: {count: 16, rank: 2}\n", "experts.rank=4", "experts.rank=3")
    assert (config.experts.count, config.experts.rank, config.experts.scale) == (16, 3, 2.0)
    assert config_difference(config, Config()) == ["experts.count", "experts.rank"]


def test_sections_may_be_empty_and_keys_dotted(folder: Path) -> None:
    config = load_text(folder, "# comment\nexperts:\nrouting.top_k: 4\ndata.world: {seed: 3}\n")
    assert config_difference(config, Config()) == ["data.world.seed", "routing.top_k"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeffrun:\n  seed: 0\n", "---\n", "{}"])
def test_an_empty_file_and_a_byte_order_mark_change_nothing(folder: Path, text: str) -> None:
    assert load_text(folder, text) == Config()


@pytest.mark.parametrize("word", ["factor", "FACTOR", "Factor"])
def test_words_of_closed_sets_in_any_case(folder: Path, word: str) -> None:
    assert load_config(None, [f"experts.composition={word}"]).experts.composition is Composition.FACTOR
    assert load_text(folder, f"experts: {{composition: {word}}}").experts.composition is Composition.FACTOR


def test_every_word_of_every_closed_set_loads_as_itself() -> None:
    for key in keys().values():
        for word in key.kind if issubclass(key.kind, StrEnum) else ():
            value = config_values(load_config(None, [f"{key.name}={[word.value] if key.is_list else word.value}"]))
            assert value[key.name] == ([word] if key.is_list else word)
            assert all(type(item) is key.kind for item in ([value[key.name]] if not key.is_list else value[key.name]))


def test_lists_on_the_command_line() -> None:
    config = load_config(None, ["evaluation.methods=[vanilla, Prag]", "experts.targets=['q_proj',v_proj]"])
    assert config.evaluation.methods == [MethodName.VANILLA, MethodName.PRAG]
    assert config.experts.targets == ["q_proj", "v_proj"]
    assert load_config(None, ["data.types=[]"]).data.types == []


@pytest.mark.parametrize("text", ["007", "2024_01", "1e3", "null", "on", "a=b", "a: b", "#1", "'x'", "", "2001-01-01"])
def test_text_keys_take_what_follows_the_equals_sign_as_it_is(text: str) -> None:
    assert load_config(None, [f"run.dir={text}"]).run.dir == text


@pytest.mark.parametrize("text", ["007", "2024_01", "1e3", "on", "2001-01-01"])
def test_text_keys_of_a_file_keep_what_yaml_would_take_for_something_else(folder: Path, text: str) -> None:
    assert load_text(folder, f"run:\n  dir: {text}\n").run.dir == text


@pytest.mark.parametrize(("word", "value"), [("true", True), ("No", False), ("on", True), ("0", False)])
def test_truth_words(word: str, value: bool) -> None:
    assert load_config(None, [f"routing.gumbel={word}"]).routing.gumbel is value


def test_a_value_may_name_another_or_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPRAG_TEST_FOLDER", "/there")
    config = load_text(folder, "run: {dir: '${oc.env:POLYPRAG_TEST_FOLDER}/k${experts.count}'}", "experts.count=3")
    assert config.run.dir == "/there/k3"
    assert load_config(None, [r"run.dir=\${plain}"]).run.dir == "${plain}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experts.cout=3", "command line: unknown key 'experts.cout'; did you mean experts.count?"),
        ("training.granularity=block", "unknown key 'training.granularity'; did you mean routing.granularity?"),
        ("data.wrld.seed=1", "did you mean data.world.seed?"),
        ("exprts={count: 3}", "did you mean experts?"),
        ("zzz=[1", "unknown key 'zzz'; docs/configuration.md explains every key"),
        ("experts=3", "command line: experts is a section; set one of its keys, such as experts.count"),
        ("experts=", "experts is a section"),
        ("experts={cout: 3}", "unknown key 'experts.cout'; did you mean experts.count?"),
        ("experts={rank: 1, rank: 2}", "'experts.rank' is given twice"),
        ("experts.count", "command line: 'experts.count' is not key=value; write for example experts.count=8"),
        ("=3", "'=3' is not key=value"),
        ("experts.count=many", "command line: experts.count is 'many', expected a whole number such as 8"),
        ("experts.count=1.5", "experts.count is '1.5', expected a whole number"),
        ("experts.count=", "experts.count is '', expected a whole number"),
        ("experts.count=true", "expected a whole number"),
        ("experts.count=" + "9" * 5000, "999..., expected a whole number"),
        ("experts.scale=big", "experts.scale is 'big', expected a number such as 2.0"),
        ("experts.scale=nan", "experts.scale is 'nan', expected a number such as 2.0"),
        ("experts.scale=1e999", "experts.scale is '1e999', expected a number such as 2.0"),
        ("routing.gumbel=2", "routing.gumbel is '2', expected true or false"),
        ("experts.composition=summ", "is 'summ', expected one of sum, factor; did you mean sum?"),
        ("experts.composition=", "experts.composition is '', expected one of sum, factor"),
        ("evaluation.methods=[poly_parg]", "evaluation.methods contains 'poly_parg', expected a list"),
        ("evaluation.methods=[poly_parg]", "; did you mean poly_prag?"),
        ("evaluation.methods=vanilla", "evaluation.methods is 'vanilla', expected a list such as [vanilla]"),
        ("evaluation.methods=", "evaluation.methods is empty, expected a list"),
        ("evaluation.methods=[vanilla", "command line: evaluation.methods: not valid YAML"),
        ("experts.targets=[[a]]", "experts.targets contains a sequence, expected a list such as [a, b]"),
        ("experts.targets=[null]", "experts.targets contains null"),
        ("experts.targets={a: 1}", "experts.targets contains a mapping"),
        ("run.dir=${nope}", "run.dir is '${nope}' (Interpolation key 'nope' not found), expected text"),
        ("run.dir=${run.dir}", "Recursive interpolation"),
        ("run.dir=${", "run.dir is '${'"),
        ("run.dir=${experts}", "run.dir is '${experts}'"),
        ("run.dir=???", "missing mandatory value"),
        ("run.seed=${base.model}", "run.seed is '${base.model}'"),
    ],
)
def test_what_the_command_line_may_not_say(folder: Path, override: str, message: str) -> None:
    assert message in complaint(folder, "", override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "run:\n  seed: 1\nexperts:\n  cout: 3\n",
            "some.yaml:4: unknown key 'experts.cout'; did you mean experts.count?",
        ),
        ("experts:\n  count: many\n", "some.yaml:2: experts.count is 'many', expected a whole number such as 8"),
        ("experts:\n  count: [1]\n", "some.yaml:2: experts.count is a sequence, expected a whole number"),
        ("experts:\n  count:\n    a: 1\n", "some.yaml:2: experts.count is a mapping"),
        ("experts:\n  count:\n", "some.yaml:2: experts.count is empty"),
        ("run:\n  dir: null\n", "some.yaml:2: run.dir is null, expected text"),
        ("experts: 3\n", "some.yaml:1: experts is a section; set one of its keys, such as experts.count"),
        ("run: {seed: 1}\nrun: {threads: 1}\n", "some.yaml:2: 'run' is given twice, first at"),
        ("run:\n  seed: 1\nrun.seed: 2\n", "some.yaml:3: 'run.seed' is given twice, first at"),
        ("run: &a\n  seed: *a\n", "some.yaml:2: run.seed is a mapping"),
        ("run: &a\n  run: *a\n", "some.yaml:2: unknown key 'run.run'"),
        ("? [a]\n: 1\n", "some.yaml:1: a key must be a plain word, not a sequence"),
        ("- 1\n", "some.yaml:1: expected sections such as `experts:`"),
        ("just words", "some.yaml:1: expected sections"),
        ("run:\n  seed: 1\n seed: 2\n", "some.yaml:3: not valid YAML:"),
        ("run: [\n", "some.yaml:2: not valid YAML:"),
        ("a: 1\n---\nb: 2\n", "not valid YAML: but found another document"),
        ("run: *nowhere", "some.yaml:1: not valid YAML: found undefined alias"),
        ("run: {dir: \x07}", "some.yaml: not valid YAML: unacceptable character #x0007"),
        (r'run: {dir: "\UFFFFFFFF"}', "some.yaml: not valid YAML:"),
        ("[" * 5000, "some.yaml: nested too deeply"),
        (b"run:\n  dir: caf\xe9\n", "some.yaml:2: not valid UTF-8; save the file in that encoding"),
    ],
)
def test_what_a_file_may_not_say(folder: Path, text: str | bytes, message: str) -> None:
    assert message in complaint(folder, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; name an existing one after --config"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "with\0nul")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.name=jsonl"], "data.name is jsonl, which needs files; set data.path or data.questions"),
        (
            ["data.path=a.jsonl"],
            "data.path is 'a.jsonl', but data.name is demo, which reads no file; set data.name=jsonl",
        ),
        (["data.collection=c.tsv"], "data.collection is 'c.tsv', but data.name is demo, which reads no file"),
        (["data.retrieved=3"], "data.retrieved is 3, but data.name is demo, which is kept whole; use 0"),
        (["data.name=popqa"], "data.path is '', but data.name is popqa; name its published file or folder"),
        (
            ["data.name=hotpotqa", "data.path=d", "data.questions=q.jsonl"],
            "data.questions is 'q.jsonl', but hotpotqa brings its own",
        ),
        (["data.part=outside"], "data.part is outside, which only benchmarks have"),
        (
            ["data.name=popqa", "data.path=d", "data.collection=c.tsv"],
            "data.retrieved is 0, but data.collection is set; say how many passages",
        ),
        (
            ["data.name=jsonl", "data.path=d", "data.collection=c.tsv", "data.retrieved=3"],
            "data.path is 'd', but data.collection is set, which takes its place",
        ),
        (
            ["data.name=popqa", "data.path=d", "data.collection=c.tsv", "data.retrieved=3", "data.max_passages=9"],
            "data.max_passages is 9, but data.collection is set",
        ),
        (
            ["augmentation.by=server"],
            "augmentation.model is '', but augmentation.by is server; name the server's model",
        ),
        (["augmentation.by=file"], "augmentation.file is '', but augmentation.by is file; name the file"),
        (
            ["augmentation.by=extractive", "augmentation.rewrites=0", "augmentation.pairs=0"],
            "augmentation.pairs is 0, and so is augmentation.rewrites; ask for one of them, or by=none",
        ),
        *(
            (
                ["augmentation.by=server", "augmentation.model=m", f"augmentation.url={url}"],
                f"is {url!r}, which {reason}",
            )
            for reason, urls in {
                "is no http or https address; use": ("", "host:8000/v1", "ftp://host/v1", "http://", "http://[::1/v1"),
                "goes on after the base URL; use": (
                    "http://h/v1/chat/completions",
                    "https://h/v1/?key=a",
                    "http://h/#a",
                ),
            }.items()
            for url in urls
        ),
        (
            ["answering.prompt=cot", "answering.max_new_tokens=63"],
            "answering.max_new_tokens is 63, but answering.prompt is cot, which thinks before it answers; use 128",
        ),
        (
            ["answering.prompt=cot", "answering.max_new_tokens=64", "answering.shots=0"],
            "answering.shots is 0, but answering.prompt is cot, whose examples are in all prompts; leave it at -1",
        ),
        (
            ["evaluation.judge=m", "evaluation.judge_url=host:8000"],
            "evaluation.judge_url is 'host:8000', which is no http or https address; use",
        ),
        (["routing.top_k=9"], "routing.top_k is 9, but there are 8 experts; use 0 to 8"),
        (
            ["routing.gumbel=true", "routing.normalisation=softmax"],
            "routing.gumbel is 'true', but routing.normalisation",
        ),
        (["routing.merge_in_training=0.5", "routing.merge_passages=1"], "routing.merge_passages is 1, which merges"),
        (
            ["routing.entropy=0.1", "routing.top_k=1"],
            "routing.entropy is 0.1, but routing.top_k is 1, which leaves one",
        ),
        (["routing.load_balance=0.1", "experts.count=1"], "routing.load_balance is 0.1, but experts.count is 1, which"),
        (["routing.reseed_below=0.1", "experts.count=1"], "routing.reseed_below is 0.1, but experts.count is 1, which"),
        (["experts.orthogonality=0.1"], "experts.orthogonality is 0.1, but experts.shared is 0, so there is no expert"),
        (["training.max_steps=0"], "training.max_steps is 0, which trains nothing; use 1 or more, or -1"),
        (["experts.targets=[]"], "experts.targets is [], which is empty; give names of the linear layers"),
        (["experts.targets=[a,'']"], "experts.targets is [a, ], with an empty element; remove it"),
        (["evaluation.methods=[prag,vanilla,prag]"], "which names prag more than once; name each once"),
        (["evaluation.methods=[]"], "evaluation.methods is [], which is empty"),
        (["base.model="], "base.model is '', which is empty; give local folder"),
        (["training.warmup=1"], "training.warmup is 1.0, but must be from 0 to below 1"),
        (["data.world.passages=19"], "data.world.passages is 19, but must be from 20 to 1000000"),
        (["experts.count=0"], "experts.count is 0, but must be 1 or more"),
    ],
)
def test_what_cannot_be_right(folder: Path, overrides: list[str], message: str) -> None:
    assert message in complaint(folder, "", *overrides)


def test_combinations_that_are_right() -> None:
    for overrides in (
        ["data.name=jsonl", "data.questions=q.jsonl"],
        ["evaluation.judge_url="],
        ["data.name=jsonl", "data.path=a.jsonl", "data.augmentation=b.jsonl"],
        ["data.name=2wikimultihopqa", "data.path=dev.json", "data.retrieved=3", "data.part=outside"],
        ["data.name=complexwebquestions", "data.path=d", "data.collection=c.tsv", "data.retrieved=3"],
        ["data.name=jsonl", "data.questions=q.jsonl", "data.collection=c.tsv", "data.retrieved=3"],
        ["augmentation.by=local", "augmentation.rewrites=0"],
        ["augmentation.by=file", "augmentation.file=a.jsonl"],
        ["augmentation.by=server", "augmentation.model=m", "augmentation.url=https://host:8443/some/v1/"],
        ["augmentation.by=server", "augmentation.model=m", "augmentation.url=http://[::1]:8000/v1"],
        ["routing.top_k=8"],
        ["routing.gumbel=true"],
        ["routing.merge_in_training=1", "routing.merge_passages=2"],
        ["routing.entropy=0.1", "routing.top_k=2", "routing.reseed_below=1"],
        ["routing.z_loss=0.1", "experts.count=1"],
        ["experts.orthogonality=0.1", "experts.shared=4"],
        ["training.batch_tokens=16", "tasks.max_tokens=1024"],
    ):
        validate(load_config(None, overrides))


def number_keys() -> list[Key]:
    return [key for key in keys().values() if key.kind in (int, float)]


def test_every_number_has_a_range_and_its_ends_are_kept() -> None:
    for key in number_keys():
        assert key.allowed is not None, key.name
        step = 1 if key.kind is int else 0.001
        outside = [key.allowed.low if key.allowed.open_low else key.allowed.low - step]
        if key.allowed.high < math.inf:
            outside.append(key.allowed.high if key.allowed.open_high else key.allowed.high + step)
        for value in outside:
            with pytest.raises(ConfigError, match=f"^{key.name} is "):
                validate(load_config(None, [f"{key.name}={value}"]))


def test_every_key_is_explained() -> None:
    assert all(key.help for key in keys().values())
    assert set(sections()) == {name.rpartition(".")[0] for name in keys()}


@given(st.floats(), st.floats(-5, 5), st.floats(-5, 5), st.booleans(), st.booleans())
def test_ranges_against_their_definition(
    value: float, low: float, high: float, open_low: bool, open_high: bool
) -> None:
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    assert (value in Range(low, high, open_low, open_high)) == (above and below)


def test_round_trip_of_the_defaults_names_words_by_value(folder: Path) -> None:
    text = to_yaml(Config())
    assert "  composition: sum\n" in text
    assert "  targets: [gate_proj, up_proj, down_proj]\n" in text
    assert load_text(folder, text) == Config()
    assert to_yaml(load_text(folder, text)) == text


def values_of(key: Key) -> st.SearchStrategy[object]:
    texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["${x", r"\${run.dir}", "null", "1e3"])
    kinds: dict[type, st.SearchStrategy[object]] = {
        bool: st.booleans(),
        int: st.integers(-(10**20), 10**20),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: texts.filter(lambda text: text != "???"),
    }
    each = st.sampled_from(list(key.kind)) if issubclass(key.kind, StrEnum) else kinds[key.kind]
    return st.lists(each, max_size=3) if key.is_list else each


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_values_come_back_from_yaml(folder: Path, data: st.DataObject) -> None:
    config = Config()
    for name in data.draw(st.lists(st.sampled_from(list(keys())), min_size=1, max_size=5)):
        owner, value = config, data.draw(values_of(keys()[name]))
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, value)
    assert load_text(folder, to_yaml(config)) == config


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_number_comes_back_from_the_command_line(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(number_keys()))
    value = data.draw(values_of(key))
    assert config_values(load_config(None, [f"{key.name}={value}"]))[key.name] == value


SCRAPS = ["", "1", "-", "[", "{", "a: b", "null", "~", "!!int x", "!!binary x", "!x", "&a", "*a", "<<", "0x_", "???"]
SCRAPS += ["${", "${run.seed}", "${run}", "${oc.env:X}", r"\${", "'", '"', "%YAML", "---", "|", ">", "? ", "\t", "#"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*keys(), *sections(), "x"]), st.sampled_from(SCRAPS) | st.text(max_size=6)))
    | st.text()
    | st.binary()
)
def test_rubbish_is_refused_or_read(folder: Path, rubbish: list[tuple[str, str]] | str | bytes) -> None:
    text = "".join(f"{name}: {value}\n" for name, value in rubbish) if isinstance(rubbish, list) else rubbish
    result = outcome(lambda: load_text(folder, text))
    assert len(result.splitlines()) == 1 if isinstance(result, str) else load_text(folder, to_yaml(result)) == result


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*keys(), *sections(), "", "x."]), st.sampled_from(SCRAPS) | st.text())
def test_rubbish_on_the_command_line_is_refused_or_read(name: str, value: str) -> None:
    result = outcome(lambda: load_config(None, [f"{name}={value}"]))
    assert len(result.splitlines()) == 1 if isinstance(result, str) else isinstance(result, Config)


def test_difference_is_empty_between_equals_and_names_list_changes() -> None:
    changed = dataclasses.replace(Config(), answering=dataclasses.replace(Config().answering, combine=Combine.MEAN))
    changed.evaluation.methods.reverse()
    assert config_difference(Config(), Config()) == []
    assert config_difference(Config(), changed) == ["answering.combine", "evaluation.methods"]


def test_long_values_are_cut_in_errors() -> None:
    assert shown("x" * 100) == "'" + "x" * 76 + "..."
    assert shown(["a", "b"]) == "[a, b]"
    assert shown(Combine.MEAN) == "mean"


@pytest.mark.parametrize("name", GENERATED)
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "run python -m polyprag.config_docs"


def test_default_yaml_states_every_key_with_its_default() -> None:
    assert load_config(ROOT / "configs" / "default.yaml") == Config()
    text = (ROOT / "configs" / "default.yaml").read_text(encoding="utf-8")
    assert all(f"  {name.rpartition('.')[2]}: " in text and key.help in text for name, key in keys().items())


@pytest.mark.parametrize("name", ["2wiki", "hotpotqa", "popqa", "cwq"])
def test_benchmark_configurations_need_no_more_than_the_path(name: str) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    with pytest.raises(ConfigError, match=r"data\.path is '', but data\.name is"):
        validate(load_config(path))
    for further in ([], ["data.collection=psgs_w100.tsv"]):
        validate(load_config(path, ["data.path=published", *further]))
