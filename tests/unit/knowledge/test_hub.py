import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import constants

from polyprag.errors import DataError
from polyprag.knowledge.hub import read_dataset

RECORDS = [{"n": 1, "text": "one", "qas": [{"question": "?", "answer": "x"}]}, {"n": 2, "text": "two", "qas": []}]


def values_of(*arguments: str) -> list[object]:
    return [row.values for row in read_dataset(*arguments)]


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_list(RECORDS)


def test_forms_of_the_same_rows_on_this_machine(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "saved")
    (tmp_path / "folder").mkdir()
    dataset.to_parquet(tmp_path / "folder" / "part.parquet")
    dataset.to_parquet(tmp_path / "one.parquet")
    dataset.to_json(tmp_path / "one.jsonl")
    for name in ("saved", "folder", "one.parquet", "one.jsonl"):
        assert values_of(str(tmp_path / name)) == RECORDS
    (tmp_path / "one.tsv").write_text("n\ttext\n1\tone\n")
    assert values_of(str(tmp_path / "one.tsv")) == [{"n": 1, "text": "one"}]
    assert [row.place for row in read_dataset(str(tmp_path / "saved"))] == [
        f"hf:{tmp_path}/saved: row {index}" for index in range(2)
    ]


def test_the_split_must_be_named_where_there_are_several(tmp_path, dataset):
    path = str(tmp_path / "both")
    DatasetDict(train=dataset, test=dataset.select([1])).save_to_disk(path)
    assert values_of(path, "", "test") == RECORDS[1:]
    with pytest.raises(DataError, match=r"there are several splits; set data\.split to one of train, test$"):
        values_of(path)
    with pytest.raises(DataError, match=r"there is no split 'dev'; set data\.split to one of train, test$"):
        values_of(path, "", "dev")
    dataset.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"holds no splits, but data\.split is 'test'; leave it empty"):
        values_of(str(tmp_path / "saved"), "", "test")


def test_what_is_not_there_or_damaged(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "broken.jsonl").write_text('{"text": 1}\nno json\n')
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "text.pdf").write_text("text")
    for name, complaint in {
        "none": "no such file or folder; check the path",
        "empty": r"cannot be read \(.*doesn't contain any data files\)",
        "broken.parquet": r"cannot be read \(",
        "broken.jsonl": r"cannot be read \(",
        ".": r"cannot be read \(",
        "text.pdf": r"is none of \.parquet, \.arrow, ",
    }.items():
        with pytest.raises(DataError, match=complaint) as caught:
            values_of(str(tmp_path / name))
        assert str(caught.value).startswith(f"hf:{tmp_path}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_a_subset_that_is_not_there(tmp_path, dataset):
    dataset.to_parquet(tmp_path / "part.parquet")
    with pytest.raises(DataError, match=r"BuilderConfig 'other' not found.*; check data\.path, data\.subset"):
        values_of(str(tmp_path), "other")


def test_offline_only_the_cache_is_asked(monkeypatch):
    assert constants.HF_HUB_OFFLINE
    monkeypatch.setattr("httpx.head", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(DataError, match="hf:squad: HF_HUB_OFFLINE is set and the cache holds no copy; unset it"):
        values_of("squad")


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    """Port 9 of this machine, where nothing listens, stands for the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("went on without the hub"))
    with pytest.raises(DataError, match=r"hf:owner/name: the hub at http://127\.0\.0\.1:9 cannot be reached") as caught:
        values_of("owner/name")
    assert str(caught.value).endswith("or set HF_HUB_OFFLINE=1 to read the copy in the cache")


def test_names_that_no_data_set_has():
    for name in ("a/b/c", "./a", "a b"):
        with pytest.raises(DataError, match=f"hf:{name}: no such file or folder"):
            values_of(name)
    with pytest.raises(DataError, match="hf: is followed by no name"):
        values_of("")
