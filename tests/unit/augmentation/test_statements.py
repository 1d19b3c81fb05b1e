import pytest

from polyprag.augmentation.sentences import repaired, split_sentences
from polyprag.augmentation.statements import Statement, StatementReader
from polyprag.augmentation.topics import Nature
from polyprag.records import Passage


def read(title: str, text: str) -> list[Statement]:
    return StatementReader(Passage("p", title, text)).read()


def told(title: str, text: str) -> list[tuple[str, str]]:
    return [(statement.subject.shown, statement.predicate) for statement in read(title, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Ann( born 1 May 1912) sang" Blue Sea" in town .', 'Ann (born 1 May 1912) sang "Blue Sea" in town.'),
        ("Ann () sang (; 1912).[citation needed][12]", "Ann sang (1912)."),
        ("the end.:121,154 He left", "the end. He left"),
        ("low- budget, pre- and post-war", "low-budget, pre- and post-war"),
        ("He sang.Then he left.", "He sang. Then he left."),
        ("  two\nlines ", "two lines"),
        ('6" of rain', '6" of rain'),
        ("e\u0301", "é"),
    ],
)
def test_repairs(text, expected):
    assert repaired(text) == expected
    assert repaired(expected) == expected


@pytest.mark.parametrize(
    "sentences",
    [
        ["Ann sang.", "She left!", "Why?", "No one knows."],
        ["J. A. Hobson met Mr. Tolk in St. Louis.", "He left the U.S. in 1912."],
        ['He said "Go."', "Then he went (at last).", "It was 1912."],
        ["No end here"],
        [],
    ],
)
def test_sentences(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


class TestSubjects:
    def test_pronouns_surnames_and_kinds_stand_for_the_title(self):
        text = "Mira Tolk (born 1867) was a German painter. She lived in Arlen. In 1890, Tolk moved to Brask."
        assert told("Mira Tolk", text) == [
            ("Mira Tolk", "was a German painter"),
            ("Mira Tolk", "lived in Arlen"),
            ("Mira Tolk", "moved to Brask"),
        ]
        assert [statement.intro for statement in read("Mira Tolk", text)] == ["", "", "In 1890"]
        assert read("Mira Tolk", text)[0].aside == "born 1867"
        text = "Blue Sea is a 1999 film. The film was shot in Arlen. It was released in 2000."
        assert {shown for shown, _ in told("Blue Sea (film)", text)} == {"the film Blue Sea"}

    def test_sentences_are_told_with_the_subject_named(self):
        statements = read("Mira Tolk", "Mira Tolk was a painter. In 1890, she left. Her father was Jon Tolk.")
        assert [statement.sentence for statement in statements] == [
            "Mira Tolk was a painter.",
            "In 1890, Mira Tolk left.",
            "Mira Tolk’s father was Jon Tolk.",
        ]

    def test_nobody_is_taken_for_somebody_else(self):
        text = "Mira Tolk was a painter. Her brother was Jon Veld. He was born in Brask. They died in 1912."
        assert told("Mira Tolk", text) == [("Mira Tolk", "was a painter"), ("Mira Tolk", "'s brother was Jon Veld")]
        assert told("Blue Sea", "Blue Sea is a film. He was born in Brask.") == [("Blue Sea", "is a film")]
        assert told("Mira Tolk", "Mira Tolk was a painter. It was founded in 1912.") == [("Mira Tolk", "was a painter")]

    def test_other_names_are_subjects_too(self):
        text = "French explorer Jean Ribault discovered the river. The Arlen Bridge was built in 1912. Nobody knows."
        assert told("", text) == [
            ("Jean Ribault", "discovered the river"),
            ("the Arlen Bridge", "was built in 1912"),
        ]
        assert read("", text)[0].subject.nature is Nature.PERSON

    def test_brackets_of_titles_are_said_as_people_would(self):
        def shown(title: str) -> str:
            name = title.split(" (")[0]
            return told(title, f"{name} was found in Arlen.")[0][0]

        assert shown("Blue Sea (1999 drama film)") == "the 1999 drama film Blue Sea"
        assert shown("Ham (son of Noah)") == "Ham (son of Noah)"
        assert shown("Arlen (Brask)") == "Arlen (Brask)"

    def test_full_names_in_the_first_sentence(self):
        text = "Sir Arthur Mielziner Myers (19 May 1868 – 9 October 1926) was a politician."
        statement = read("Arthur Myers", text)[0]
        assert (statement.subject.shown, statement.aside) == ("Arthur Myers", "19 May 1868 – 9 October 1926")

    def test_titles_in_front_of_an_article_are_passed_over(self):
        text = "the end of it. Elena Luzzatto Elena Luzzatto (30 October 1900 – 1983) was an architect."
        assert told("Elena Luzzatto", text) == [("Elena Luzzatto", "was an architect")]
