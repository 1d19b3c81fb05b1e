import pytest

from polyprag.knowledge.bad_rows import RowError
from polyprag.knowledge.corpus import Collector
from polyprag.knowledge.gold import GoldFinder
from polyprag.knowledge.rows import Row
from polyprag.records import Passage, Question

ROWS = [
    {"id": "1", "title": "Brask", "text": "Brask is a town by the Tul, founded in 1702."},
    {"id": "2", "title": "brask", "text": "Its market is held on Mondays, as it was in 1702."},
    {"id": "3", "title": "Corva", "text": "Corva is a town by the Ys."},
]
ASKED = Question("q", "When was Brask founded?", ("1702",))


@pytest.fixture
def corpus():
    collector = Collector()
    for row in ROWS:
        collector.add(Row("corpus", row))
    return collector.corpus()


def test_equal_content_is_gold_whatever_its_id(corpus):
    gold = Passage("other", "Brask", str(ROWS[0]["text"]))
    for foreign in (False, True):
        assert GoldFinder(corpus, foreign).find(ASKED, [gold], "place") == (("1",), 0)


def test_a_collection_that_cuts_otherwise_is_searched_by_title(corpus):
    gold = [Passage("", "Brask", "Brask, a town on the Tul, was founded in 1702 by Ada."), Passage("", "Ettin", "Tul")]
    assert GoldFinder(corpus).find(ASKED, gold, "place") == ((), 2)
    assert GoldFinder(corpus, foreign=True).find(ASKED, gold, "place") == (("1",), 1)


def test_a_title_without_a_common_word_is_no_gold(corpus):
    gold = [Passage("", "Corva", "Nothing alike whatsoever.")]
    assert GoldFinder(corpus, foreign=True).find(ASKED, gold, "place") == ((), 1)


def test_of_a_title_alone_the_passages_with_an_answer_are_gold(corpus):
    gold = [Passage("", "Brask", ""), Passage("", "Corva", "")]
    for foreign in (False, True):
        assert GoldFinder(corpus, foreign).find(ASKED, gold, "place") == (("1", "2"), 1)


def test_ids_must_be_known_except_in_a_collection(corpus):
    asked = Question("q", "?", ("x",), passage_ids=("3", "elsewhere"))
    assert GoldFinder(corpus, foreign=True).find(asked, [], "place") == (("3",), 1)
    with pytest.raises(RowError, match=r"^place: passage id 'elsewhere' is not in the corpus"):
        GoldFinder(corpus).find(asked, [], "place")
