import json

import pytest

from polyprag.knowledge.bad_rows import RowError
from polyprag.knowledge.benchmarks.contexts import context_of
from polyprag.knowledge.rows import Row

PAIRS = {
    "context": [["A", ["One.", " Two."]], ["B", ["Three. ", " "]], ["Empty", []]],
    "supporting_facts": [["A", 1], ["Empty", 0], ["C", 0], ["C", 1]],
}
COLUMNS = {
    "context": {"title": ["A", "B", "Empty"], "sentences": [["One.", " Two."], ["Three. ", " "], []]},
    "supporting_facts": {"title": ["A", "Empty", "C", "C"], "sent_id": [1, 0, 0, 1]},
}
CONTENT = {"context": {"title": ["A", "B", "Empty"], "content": COLUMNS["context"]["sentences"]}}
STRINGS = {key: json.dumps(value) for key, value in PAIRS.items()}


@pytest.mark.parametrize("values", [PAIRS, COLUMNS, COLUMNS | CONTENT, STRINGS])
def test_all_published_forms_mean_the_same(values):
    assert context_of(Row("place", values)) == {
        "passages": [
            {"title": "A", "text": "One. Two.", "is_support": True},
            {"title": "B", "text": "Three.", "is_support": False},
        ],
        "gold_titles": ["C", "Empty"],
    }


@pytest.mark.parametrize(
    ("number", "gold"),
    [(0, [True, False]), (1, [False, True]), (9, [True, False]), (-1, [True, False]), (None, [True, False])],
)
def test_of_paragraphs_of_one_title_the_one_with_the_sentence_is_meant(number, gold):
    values = {"context": [["A", ["One."]], ["A", ["Two.", "Three."]]], "supporting_facts": [["A", number]]}
    assert [passage["is_support"] for passage in context_of(Row("place", values))["passages"]] == gold


@pytest.mark.parametrize("values", [{}, {"context": None, "supporting_facts": []}, {"context": ""}])
def test_there_may_be_none(values):
    assert context_of(Row("place", values)) == {"passages": [], "gold_titles": []}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"context": 5}, '"context" must be a list of pairs, or an object of lists'),
        ({"context": "[5"}, '"context" is a string that holds no JSON'),
        ({"context": [["A"]]}, r'"context"\[0\] must be a pair that begins with a title'),
        ({"context": [[1, []]]}, r'"context"\[0\] must be a pair'),
        ({"context": [["A", [1]]]}, '"context": the sentences of a paragraph must be a list of strings'),
        ({"context": {"title": ["A"], "sentences": []}}, '"context" must hold lists "title" and "sentences" of one le'),
        ({"context": {"title": ["A"]}}, '"context" must hold lists "title" and "sentences"'),
        ({"supporting_facts": [["A", 0, 1]]}, r'"supporting_facts"\[0\] must be a pair'),
        ({"supporting_facts": {"title": ["A"]}}, '"supporting_facts" must hold lists "title" and "sent_id"'),
    ],
)
def test_other_forms_are_bad_rows(values, complaint):
    with pytest.raises(RowError, match=f"^place: {complaint}") as caught:
        context_of(Row("place", values))
    assert caught.value.reason == "context or supporting facts in another form"
