"""What small models do wrong, and people do not: it is left out, and counted by its reason."""

import pytest

from polyprag.augmentation.validation import validate
from polyprag.config import AugmentationConfig
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.records import Augmentation, Passage, QAPair

PASSAGE = Passage(
    "p",
    "Mira Tolk",
    "Mira Tolk was born in Arlen in 1867. She learned to make glass from Jon Veld in Brask, where she lived until "
    "1902. The museum of Arlen keeps 12 of her bowls.",
)


def reasons(rewrites: tuple[str, ...] = (), pairs: tuple[QAPair, ...] = ()) -> dict[str, int]:
    augmentation = Augmentation("p", rewrites, pairs)
    return dict(validate(PASSAGE, augmentation, AugmentationConfig(), QuestionIndex(()))[1])


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        (
            "Born in Arlen in 1867, Mira Tolk learned from Jon Veld in Brask to make glass. She stayed there until "
            "1902. Arlen's museum has 12 bowls by her.",
            {},
        ),
        (
            "Mira Tolk was born in Arlen in 1867 and learned from Jon Veld in Brask until 1902, where she lived in "
            "Brask until 1902, where she lived in Brask until 1902, where she lived in Brask until 1902. She made 12.",
            {"rewrite: repeats itself": 1},
        ),
        (
            "Mira Tolk, who learned to make glass from Jon Veld in Brask and lived there until 1902, was born in 1867 "
            "in Arlen, where the museum keeps 12 of",
            {"rewrite: cut off": 1},
        ),
    ],
)
def test_rewrites_without_an_end(rewrite, expected):
    assert reasons(rewrites=(rewrite,)) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("In which year did Mira Tolk leave Brask?", {}),
        ("In which year did the emperor move from Kyoto to Tokyo?", {"question about something else": 1}),
        ("In which year did the government of Japan leave Brask for Kyoto?", {"question about something else": 1}),
        ("In which year did the Norwegian leave the town?", {}),
    ],
)
def test_questions_about_an_example_of_the_prompt(question, expected):
    assert reasons(pairs=(QAPair(question, "1902"),)) == expected
