"""Prompts: one wording for training and answering, for every method, in the base model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polyprag.records import Passage, QAPair

SYSTEM = "Answer the question in a few words."
QUESTION_PREFIX = "Question: "
ANSWER_PREFIX = "The answer is"

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
"""Short-answer examples of common knowledge for the prompts of untrained methods; in no test set."""


@dataclass(frozen=True)
class PromptWriter:
    """Writes prompts as token ids in a tokenizer's chat template.

    Attributes:
        tokenizer: a tokenizer with a chat template.
    """

    tokenizer: Any

    def question(self, question: str, passages: Sequence[str] = (), shots: int = 0) -> list[int]:
        """The prompt of a question, up to where the answer begins.

        Args:
            question: the question's text.
            passages: texts to put before the question, best first.
            shots: short-answer examples before it; they carry passages exactly if the question does.

        Returns:
            Token ids, ending in the answer prefix.
        """
        messages = [{"role": "system", "content": SYSTEM}]
        for passage, pair in EXAMPLES[:shots]:
            shown = [with_title(passage)] if passages else []
            messages.append({"role": "user", "content": _user_turn(pair.question, shown)})
            messages.append({"role": "assistant", "content": f"{ANSWER_PREFIX} {pair.answer}"})
        messages.append({"role": "user", "content": _user_turn(question, passages)})
        return self._encode(messages)

    def answer(self, answer: str) -> list[int]:
        """The tokens that should follow `question`: the answer and the end of the turn."""
        ids: list[int] = self.tokenizer.encode(f" {answer}", add_special_tokens=False)
        return [*ids, self.end_of_turn]

    def text(self, passage: Passage, text: str) -> tuple[list[int], list[int]]:
        """A passage's text as something to recall: the prompt that names its title, and the text."""
        messages = [{"role": "user", "content": f"What do you know about {passage.title or 'this'}?"}]
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt: list[int] = self.tokenizer.encode(rendered, add_special_tokens=False)
        target: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return prompt, [*target, self.end_of_turn]

    @property
    def end_of_turn(self) -> int:
        """The token that closes an assistant's turn, read off the chat template."""
        mark = "polyprag"
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
        rendered: str = self.tokenizer.apply_chat_template(messages, tokenize=False)
        after = rendered.rpartition(mark)[2].lstrip()
        ids: list[int] = self.tokenizer.encode(after, add_special_tokens=False)
        return ids[0] if ids else int(self.tokenizer.eos_token_id)

    def _encode(self, messages: list[dict[str, str]]) -> list[int]:
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer.encode(rendered + ANSWER_PREFIX, add_special_tokens=False)
        return ids


def with_title(passage: Passage) -> str:
    """A passage as prompts show it."""
    return f"{passage.title}: {passage.text}" if passage.title else passage.text


def _user_turn(question: str, passages: Sequence[str]) -> str:
    """The user's turn: numbered passages, if any, and the question."""
    numbered = "".join(f"Passage {number}: {text}\n" for number, text in enumerate(passages, 1))
    return f"{numbered}{QUESTION_PREFIX}{question}"
