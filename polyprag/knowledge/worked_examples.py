"""Examples of common knowledge for prompts; in no test set."""

from __future__ import annotations

from polyprag.records import Passage, QAPair

EXAMPLES: tuple[tuple[Passage, QAPair], ...] = (
    (
        Passage("example-1", "Danube", "The Danube is a river in Europe. It rises in the Black Forest in Germany."),
        QAPair("Where does the Danube rise?", "the Black Forest"),
    ),
    (
        Passage("example-2", "Marie Curie", "Marie Curie was a physicist and chemist, born in Warsaw in 1867."),
        QAPair("In which year was Marie Curie born?", "1867"),
    ),
    (
        Passage("example-3", "Moby-Dick", "Moby-Dick is a novel by Herman Melville about the hunt for a white whale."),
        QAPair("Who is the author of Moby-Dick?", "Herman Melville"),
    ),
    (
        Passage(
            "example-4", "Kyoto", "Kyoto was the capital of Japan before Tokyo. Its emblem shows a carriage wheel."
        ),
        QAPair("Which is older as a capital of Japan, Kyoto or Tokyo?", "Kyoto"),
    ),
)
"""Short answers, for the direct prompts of untrained methods."""

CHAINS: tuple[QAPair, ...] = (
    QAPair(
        "In which country does the river rise that flows through Vienna?",
        "Germany",
        "The river that flows through Vienna is the Danube. The Danube rises in the Black Forest, which is in Germany.",
    ),
    QAPair(
        "Which novel came out first, Dracula or Moby-Dick?",
        "Moby-Dick",
        "Dracula came out in 1897. Moby-Dick came out in 1851. 1851 is before 1897.",
    ),
    QAPair(
        "Who was the father of the father of Wolfgang Amadeus Mozart?",
        "Johann Georg Mozart",
        "The father of Wolfgang Amadeus Mozart was Leopold Mozart. The father of Leopold Mozart was Johann Georg "
        "Mozart.",
    ),
    QAPair(
        "Were the authors of Hamlet and of Faust born in the same country?",
        "no",
        "Hamlet was written by William Shakespeare, who was born in England. Faust was written by Goethe, who was born "
        "in Germany. England and Germany are two countries.",
    ),
)
"""Chains of thought, for the prompts of all methods: composition, comparison, relation, and comparison of two hops."""
