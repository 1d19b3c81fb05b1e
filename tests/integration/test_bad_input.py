"""Every mistake a user can make ends in one line, with place and remedy, exit status 2, and nothing half-written."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import snapshot

GOOD = (
    b'{"id": "p1", "title": "Ada", "text": "Ada lives in Oslo.", "qas": [{"question": "Where?", "answer": "Oslo"}]}\n'
)
OTHER = b'{"id": "p2", "title": "Ben", "text": "Ben lives in Rome.", "qas": [{"question": "Who?", "answer": "Ben"}]}\n'
ASKED = b'{"id": "q1", "question": "Where is Ada?", "answers": ["Oslo"], "passage_ids": ["p1"]}\n'

BAD_CORPORA = {
    "empty": (b"", r"corpus\.jsonl: holds no passages; write one"),
    "blank": (b"\n  \n", r"corpus\.jsonl: holds no passages; write one"),
    "broken_json": (GOOD + b'{"text": "Ben\n', r"corpus\.jsonl:2: broken JSON in column \d+ .*; every line must be"),
    "no_object": (GOOD + b'["Ben"]\n', r"corpus\.jsonl:2: \['Ben'\] is not a JSON object; write one"),
    "missing_key": (GOOD + b'{"title": "Ben"}\n', r'corpus\.jsonl:2: "text" is missing; it must be given'),
    "missing_pair_key": (
        GOOD + b'{"text": "Ben", "qas": [{"question": "Who?"}]}\n',
        r'corpus\.jsonl:2: "qas"\[0\]: "answer" is missing; it must be given',
    ),
    "wrong_type": (GOOD + b'{"text": 5}\n', r'corpus\.jsonl:2: "text" must be a string, not 5; put it in'),
    "wrong_list": (GOOD + b'{"text": "Ben", "qas": 5}\n', r'corpus\.jsonl:2: "qas" must be a list, not 5; put it in'),
    "blank_text": (GOOD + b'{"text": " "}\n', r'corpus\.jsonl:2: "text" is blank; fill it in or remove the row'),
    "duplicate_id": (
        GOOD + OTHER.replace(b"p2", b"p1"),
        r"corpus\.jsonl:2: id 'p1' belongs to another passage above; give each passage its own id",
    ),
    "invalid_utf8": (GOOD + b'{"text": "Ren\xe9"}\n', r"corpus\.jsonl:2: byte 0xe9 in column \d+ is not UTF-8; save"),
    "utf16": ('{"text": "Ben"}\n'.encode("utf-16"), r"corpus\.jsonl:1: holds UTF-16 or NUL bytes; save the file"),
    "cut_gzip": (gzip.compress(GOOD * 50)[:-20], r"corpus\.jsonl: cannot be read .*; check the file, or copy it again"),
    "nothing_to_train": (
        GOOD + b'{"id": "p2", "text": "Ben lives in Rome."}\n',
        r"'p2' has no question-answer pairs to train on; give `qas` or augmentation",
    ),
}
BAD_QUESTIONS = {
    "empty": (b"", r"questions\.jsonl: holds no questions; write one"),
    "broken_json": (ASKED + b"{\n", r"questions\.jsonl:2: broken JSON in column \d+ .*; every line must be"),
    "missing_key": (b'{"answers": ["Oslo"]}\n', r'questions\.jsonl:1: "question" is missing; it must be given'),
    "without_answers": (
        ASKED + b'{"question": "Where is Ben?", "answers": []}\n',
        r"questions\.jsonl:2: \"answers\" holds none for 'Where is Ben\?'; give at least one, remove the question",
    ),
    "no_answers_key": (
        b'{"question": "Where is Ben?"}\n',
        r'questions\.jsonl:1: "answers" holds none .*; give at least',
    ),
    "wrong_type": (
        b'{"question": "Where?", "answers": "Oslo"}\n',
        r"questions\.jsonl:1: \"answers\" must be a list, not 'Oslo'; put it in square brackets",
    ),
    "duplicate_id": (
        ASKED + ASKED.replace(b"Ada", b"Ben"),
        r"questions\.jsonl:2: id 'q1' belongs to another question above; give each its own id",
    ),
    "unknown_passage": (
        ASKED.replace(b'"p1"', b'"p9"'),
        r"questions\.jsonl:1: passage id 'p9' is not in the corpus; correct it or add the passage",
    ),
    "invalid_utf8": (ASKED + b"\xff\n", r"questions\.jsonl:2: .*UTF-8; save the file"),
}
BAD_AUGMENTATIONS = {
    "unknown_passage": (
        b'{"passage_id": "p9", "rewrites": ["x"]}\n',
        r"augmentation\.jsonl:1: passage id 'p9' is not in the corpus; correct it or add the passage",
    ),
    "missing_key": (b'{"rewrites": ["x"]}\n', r'augmentation\.jsonl:1: "passage_id" is missing; it must be given'),
    "nothing": (b'{"passage_id": "p1"}\n', r'augmentation\.jsonl:1: neither "rewrites" nor "qa" holds anything; give'),
}
BAD_KEYS = {
    "no_experts": ("experts.count=0", r"experts\.count is 0, but must be 1 or more"),
    "no_rank": ("experts.rank=0", r"experts\.rank is 0, but must be 1 or more"),
    "negative_rank": ("experts.rank=-2", r"experts\.rank is -2, but must be 1 or more"),
    "no_adapter_rank": ("prag.rank=0", r"prag\.rank is 0, but must be 1 or more"),
    "top_k": ("routing.top_k=9", r"routing\.top_k is 9, but there are 8 experts; use 0 to 8"),
    "unknown_key": ("experts.cuont=4", r"unknown key 'experts\.cuont'; did you mean experts\.count\?"),
    "unknown_section": ("expert.count=4", r"unknown key 'expert\.count'; did you mean experts\.count\?"),
    "wrong_type": ("experts.count=many", r"experts\.count is 'many', expected a whole number such as 8"),
    "unknown_word": ("routing.granularity=blok", r"routing\.granularity is 'blok', .*; did you mean block\?"),
    "unknown_targets": (
        "experts.targets=[up_prj]",
        r"experts\.targets: no linear layer named 'up_prj' .*has .*up_proj",
    ),
    "too_deep": ("experts.first_layer=77", r"experts\.targets: no linear layer named .* from block 77 on"),
    "unknown_model": ("base.model=no-such-model", r"base\.model=no-such-model: no such folder; name a local folder"),
    "too_many_layers": (
        "router.layers=99",
        r"router\.layers is 99, but the base model has 3 blocks; use 0 to 3, or -1",
    ),
    "no_share": ("answering.abstain_below=2", r"answering\.abstain_below is 2\.0, but must be from 0 to 1"),
    "no_value": ("experts.count", r"train\.py: 'experts\.count' is not key=value; write for example experts\.count=8"),
    "option": ("--config", r"train\.py: argument --config: expected one argument; see python train\.py --help"),
    "no_config": ("--config=none.yaml", r"none\.yaml: no such file; name an existing one after --config"),
}

Files = Callable[..., list[str]]


@pytest.fixture
def files(tmp_path) -> Files:
    """`files(corpus=b"…", questions=b"…")`: write files of JSON lines; returns the overrides that name them."""

    def write(corpus: bytes = GOOD + OTHER, **others: bytes) -> list[str]:
        contents = {"path": ("corpus", corpus)} | {name: (name, content) for name, content in others.items()}
        for name, content in contents.values():
            (tmp_path / f"{name}.jsonl").write_bytes(content)
        named = [f"data.{key}={tmp_path / name}.jsonl" for key, (name, _) in contents.items()]
        return ["data.name=jsonl", "data.train_qas=1", "data.validation_questions=0", *named]

    return write


@pytest.fixture
def refused(in_process, tmp_path, capfd) -> Callable[..., None]:
    """`refused("train.py", …, says=…)`: the program ends with status 2, one line on standard error, no file touched."""

    def check(program: str, *argv: object, says: str) -> None:
        before = snapshot(tmp_path)
        capfd.readouterr()
        status = in_process(program, *argv)
        printed, complaints = capfd.readouterr()
        assert status == 2, complaints
        assert printed == ""
        assert re.fullmatch(r"error: [^\n]+\n", complaints), complaints
        assert re.search(says, complaints), complaints
        assert snapshot(tmp_path) == before

    return check


@pytest.fixture
def train(refused, tiny_keys, tmp_path) -> Callable[..., None]:
    """`train(…, says=…)`: `train.py` on the tiny model refuses this and makes no folder of the run."""

    def check(*argv: object, says: str) -> None:
        refused("train.py", f"run.dir={tmp_path / 'run'}", *tiny_keys, "logging.wandb=disabled", *argv, says=says)
        assert not (tmp_path / "run").exists()

    return check


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the trained run that a test may damage."""
    folder = tmp_path / "run"
    shutil.copytree(trained / "store", folder / "store")
    shutil.copy(trained / "config.yaml", folder)
    return folder


class TestTraining:
    @pytest.mark.parametrize("name", BAD_CORPORA)
    def test_a_bad_corpus(self, train, files, name):
        content, says = BAD_CORPORA[name]
        train(*files(corpus=content), says=says)

    @pytest.mark.parametrize("name", BAD_QUESTIONS)
    def test_bad_questions(self, train, files, name):
        content, says = BAD_QUESTIONS[name]
        train(*files(questions=content), says=says)

    @pytest.mark.parametrize("name", BAD_AUGMENTATIONS)
    def test_a_bad_augmentation(self, train, files, name):
        content, says = BAD_AUGMENTATIONS[name]
        train(*files(augmentation=content), says=says)

    @pytest.mark.parametrize("key", ["path", "questions", "augmentation"])
    def test_a_missing_file(self, train, files, tmp_path, key):
        missing = tmp_path / "none.jsonl"
        train(*files(), f"data.{key}={missing}", says=rf"^error: {missing}: no such file; check the path")

    def test_a_folder_without_a_document(self, train, files, tmp_path):
        empty = tmp_path / "empty"
        empty.mkdir()
        train(*files(), f"data.path={empty}", says="empty: holds no file that ends in .*; name another folder")

    @pytest.mark.parametrize("name", BAD_KEYS)
    def test_a_bad_call(self, train, files, name):
        argument, says = BAD_KEYS[name]
        train(*files(), argument, says=says)

    def test_an_unknown_verb(self, refused):
        refused("train.py", "pol", says=r"train\.py: unknown verb 'pol'; did you mean pool\?")

    def test_a_bad_config_file(self, train, files, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("experts:\n  count: 3\n  rnak: 2\n")
        train(
            "--config", path, *files(), says=r"mine\.yaml:3: unknown key 'experts\.rnak'; did you mean experts\.rank\?"
        )

    def test_a_question_type_that_nobody_asks(self, train, files):
        keys = files(questions=ASKED.replace(b"}", b', "type": "place"}'))
        train(*keys, "data.types=[time]", says=r"data\.types: no question has type 'time'; there are place")

    def test_a_folder_without_a_model(self, train, files, tmp_path):
        (tmp_path / "empty").mkdir()
        train(*files(), f"base.model={tmp_path / 'empty'}", says=r"empty: cannot load a causal language model from")

    def test_a_model_whose_tokenizer_has_no_chat_template(self, train, files, tmp_path, tiny_model_folder):
        folder = tmp_path / "plain"
        shutil.copytree(tiny_model_folder, folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        train(*files(), f"base.model={folder}", says="its tokenizer has no chat template; name an instruct model")

    @pytest.mark.parametrize("content", [None, b"", b"no checkpoint at all"])
    def test_a_checkpoint_that_is_none(self, train, files, tmp_path, content):
        path = tmp_path / "some.ckpt"
        if content is not None:
            path.write_bytes(content)
        train(*files(), "--resume", path, says=r"--resume .*some\.ckpt: no readable checkpoint")

    def test_a_checkpoint_of_another_configuration(self, train, files, trained):
        path = trained / "checkpoints" / "last.ckpt"
        says = r"last\.ckpt: .*experts\.count.* differ from the checkpoint; restore them, or train anew"
        train(*files(), "--resume", path, says=says)

    def test_a_byte_order_mark_is_no_mistake(self, in_process, files, tiny_keys, tmp_path, capfd):
        bom = b"\xef\xbb\xbf"
        keys = files(corpus=bom + GOOD + OTHER, questions=bom + ASKED)
        assert in_process("train.py", f"run.dir={tmp_path / 'run'}", *tiny_keys, *keys, "--dry-run") == 0
        printed, complaints = capfd.readouterr()
        assert re.search(r"^tasks \(passages\) +2$", printed, re.MULTILINE)
        assert complaints == ""


class TestEvaluation:
    @pytest.mark.parametrize(
        ("argument", "says"),
        [
            ("methods=[vanila]", r"evaluation\.methods contains 'vanila', .*; did you mean vanilla\?"),
            ("methods=[]", r"evaluation\.methods is \[\], which is empty; give"),
            ("methods=[vanilla,vanilla]", r"evaluation\.methods .* names vanilla more than once; name each once"),
            ("answering.passges=2", r"unknown key 'answering\.passges'; did you mean answering\.passages\?"),
            (
                "experts.count=4",
                r"experts\.count: fixed by the training in .*run; leave out, or train another run\.dir",
            ),
            ("data.path=none.jsonl", r"data\.path is 'none\.jsonl', but data\.name is demo, .*set data\.name=jsonl"),
        ],
    )
    def test_a_bad_call(self, refused, run, argument, says):
        refused("evaluate.py", f"run.dir={run}", argument, says=says)

    @pytest.mark.parametrize("name", BAD_QUESTIONS)
    def test_bad_questions_for_a_trained_run(self, refused, files, run, name):
        content, says = BAD_QUESTIONS[name]
        questions = content.replace(b'["p1"]', b'["p000001"]')
        keys = [key for key in files(questions=questions) if not key.startswith("data.path")]
        refused("evaluate.py", f"run.dir={run}", *keys, says=says)

    def test_a_control_without_gold_passages(self, refused, files, run):
        keys = [key for key in files(questions=ASKED.replace(b'"p1"', b"")) if not key.startswith("data.path")]
        says = r"question 'q1' has no gold passage in the store; leave oracle, uniform, average, shuffled and random"
        refused("evaluate.py", f"run.dir={run}", *keys, "methods=[vanilla,poly_prag_oracle]", says=says)

    def test_no_store(self, refused, files, tiny_keys, tmp_path):
        keys = [f"run.dir={tmp_path / 'run'}", *tiny_keys, *files(questions=ASKED)]
        says = r"run: no store there; train one first by python train\.py with the same --config and keys"
        refused("evaluate.py", *keys, "methods=[vanilla,poly_prag]", says=says)

    def test_a_store_of_another_base_model(self, refused, run, other_model_folder, tiny_model_folder, tmp_path):
        model = tmp_path / "model"
        shutil.copytree(other_model_folder, model)
        config = (run / "config.yaml").read_text().replace(str(tiny_model_folder), str(model))
        (run / "config.yaml").write_text(config)
        says = rf"belongs to base model {tiny_model_folder} .*, not to {model} .*; set base\.model to the former"
        refused("evaluate.py", f"run.dir={run}", says=says)

    @pytest.mark.parametrize("name", ["manifest.json", "pool.safetensors", "passages.jsonl", "index/words.terms.npy"])
    def test_a_damaged_store(self, refused, run, name):
        path = run / "store" / name
        path.write_bytes(path.read_bytes()[:-9])
        refused(
            "evaluate.py", f"run.dir={run}", says=rf"{name}: the store is damaged here: .*; restore the file or write"
        )

    def test_results_of_other_questions(self, refused, in_process, run, capfd):
        call = ("evaluate.py", f"run.dir={run}", "methods=[vanilla]")
        assert in_process(*call) == 0
        says = r"results\.json: data\.sha256 is .*; set another evaluation\.dir, or move the old folder away"
        refused(*call, "data.limit=2", says=says)


class TestQueryRouter:
    def test_training_it_without_a_store(self, refused, tiny_keys, tmp_path):
        says = r"none/store: no such folder; .* or train one with train\.py"
        refused("train.py", "router", f"run.dir={tmp_path / 'none'}", *tiny_keys, says=says)

    @pytest.mark.parametrize(
        ("argument", "says"),
        [
            ("router.layers=99", r"router\.layers is 99, but the base model has 3 blocks"),
            ("router.steps=0", r"router\.steps is 0, but must be 1 or more"),
            ("router.desing=mlp", r"unknown key 'router\.desing'; did you mean router\.design\?"),
            ("router.encoder=none", r"router\.encoder.*none"),
            (
                "experts.count=4",
                r"experts\.count: fixed by the training in .*run; leave out, or train another run\.dir",
            ),
        ],
    )
    def test_training_it_by_a_bad_call(self, refused, run, argument, says):
        refused("train.py", "router", f"run.dir={run}", argument, says=says)

    def test_training_it_on_a_damaged_store(self, refused, run):
        path = run / "store" / "rows.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        refused(
            "train.py", "router", f"run.dir={run}", says=r"rows\.safetensors: the store is damaged here: it is trunc"
        )

    @pytest.mark.parametrize("name", ["poly_prag_query", "poly_prag_hybrid_combine"])
    def test_there_is_none(self, refused, run, name):
        says = r"router\.safetensors: there is no query router; train it with python train\.py router run\.dir=DIR"
        refused("evaluate.py", f"run.dir={run}", f"methods=[vanilla,{name}]", says=says)

    def test_it_is_damaged(self, refused, run, trained):
        shutil.copytree(trained / "router", run / "router")
        path = run / "router" / "router.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        says = r"router\.safetensors: is damaged .*; train it with python train\.py router"
        refused("evaluate.py", f"run.dir={run}", "methods=[poly_prag_query]", says=says)

    def test_a_threshold_that_is_no_share(self, refused, run):
        says = r"answering\.abstain_below is 2\.0, but must be from 0 to 1"
        refused("evaluate.py", f"run.dir={run}", "answering.abstain_below=2", says=says)


class TestControls:
    def test_nothing_says_which_passages_are_outside(self, refused, files, run):
        says = r"data\.outside is empty, and data\.max_passages leaves no passage over: .* in data\.outside"
        refused("train.py", "controls", f"run.dir={run}", *files(), says=says)

    @pytest.mark.parametrize("name", ["global_lora", "format_lora"])
    def test_they_were_not_trained(self, refused, run, name):
        says = rf"{name}: no store in .*controls/{name}; train it first: python train\.py controls run\.dir={run}, or"
        refused("evaluate.py", f"run.dir={run}", f"methods=[vanilla,{name}]", says=says)


def test_a_mistake_in_a_process_of_its_own_is_one_line_too(run_program, files, tiny_keys, tmp_path):
    keys = files(corpus=GOOD + b"{\n")
    for program, last in (("train.py", []), ("evaluate.py", ["methods=[standard_rag]"])):
        done = run_program(program, f"run.dir={tmp_path / 'run'}", *tiny_keys, *keys, *last)
        assert done.returncode == 2
        assert done.stdout == ""
        assert re.fullmatch(r"error: .*corpus\.jsonl:2: broken JSON in column 2 [^\n]*\n", done.stderr), done.stderr
        assert not (tmp_path / "run").exists()
