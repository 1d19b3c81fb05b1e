import hashlib
import re

import pytest

from polyprag.augmentation.prompts import OWN_FOLDER, load_prompts
from polyprag.errors import DataError
from polyprag.records import Passage

PASSAGE = Passage("p", "Ada Lovelace", "Ada wrote {notes}.")


def own(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path)


def test_a_version_names_file_number_and_content():
    content = (OWN_FOLDER / "qa_json.md").read_bytes()
    number = re.search(r"version: (\d+)", content.decode())[1]
    assert load_prompts().qa.version == f"qa_json-{number}-{hashlib.sha256(content).hexdigest()[:8]}"
    assert load_prompts().version.split() == [load_prompts().rewrite.version, load_prompts().qa.version]


def test_messages_hold_the_passage_as_it_is():
    prompts = load_prompts()
    rewrite, [qa] = prompts.rewrite_messages(PASSAGE, 0), prompts.qa_messages(PASSAGE, 7)
    for messages in (rewrite, qa):
        assert [message["role"] for message in messages] == ["system", "user"]
        assert messages[-1]["content"].endswith("Title: Ada Lovelace\n\nAda wrote {notes}.")
    assert "Write 7 question-answer pairs" in qa[1]["content"]
    assert '{"pairs": [{"question":' in qa[1]["content"]
    assert prompts.qa_messages(Passage("p", "", "Text."), 1)[0][1]["content"].endswith("\n\nText.")


def test_further_rewrites_are_asked_for_in_other_styles():
    prompts = load_prompts()
    styles = len(prompts.rewrite.styles)
    asked = [prompts.rewrite_messages(PASSAGE, index)[1]["content"] for index in range(styles + 1)]
    assert len(set(asked)) == styles > 1
    assert asked[-1] == asked[0]


def test_the_schema_is_strict():
    schema = load_prompts().schema
    pair = schema["properties"]["pairs"]["items"]
    assert pair["required"] == list(pair["properties"]) == ["question", "answer", "full_answer"]
    assert schema["additionalProperties"] is pair["additionalProperties"] is False


def test_files_of_ones_own_take_the_place_of_ours(tmp_path):
    folder = own(tmp_path, "qa_json.md", "---\nversion: mine\n---\nAsk {pairs} of:\r\n{passage}\n")
    prompts = load_prompts(folder)
    assert prompts.rewrite == load_prompts().rewrite
    assert prompts.qa.version.startswith("qa_json-mine-")
    assert prompts.qa_messages(Passage("p", "", "x"), 2) == [[{"role": "user", "content": "Ask 2 of:\nx"}]]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("rewrite.md", "Rewrite {passage}", "has no version; begin the file with the lines ---, version: 1, ---"),
        ("rewrite.md", "---\nauthor: me\n---\n{passage}", "has no version"),
        ("rewrite.md", "---\n: [\n---\n{passage}", "the lines between --- are not YAML"),
        ("rewrite.md", "---\nversion: 1\n---\nRewrite it.", "the placeholder {passage} is missing"),
        (
            "rewrite.md",
            "---\nversion: 1\n---\n{passage} {title}",
            "the placeholder {title} is unknown; this file may use",
        ),
        ("qa_json.md", "---\nversion: 1\n---\n{passage}", "the placeholder {pairs} is missing"),
        ("rewrite.md", "---\nversion: 1\n---\n{passage} {style}", "uses {style} but lists no styles"),
        ("rewrite.md", "---\nversion: 1\nstyles: plain\n---\n{passage}", "styles must be a list of texts"),
        ("rewrite.md", "---\nversion: 1\n---\nx\n## user\n{passage}", "must hold messages under the headings"),
        ("rewrite.md", "---\nversion: 1\n---\n## user\n{passage}\n## system\nx", "must hold messages under"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path, name, text, complaint):
    with pytest.raises(DataError) as caught:
        load_prompts(own(tmp_path, name, text))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_prompts_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"augmentation\.prompts: .* holds neither rewrite\.md nor qa_json\.md; copy"):
        load_prompts(str(tmp_path))
    (tmp_path / "rewrite.md").write_bytes(b"\xff")
    with pytest.raises(DataError, match="is not UTF-8"):
        load_prompts(str(tmp_path))
