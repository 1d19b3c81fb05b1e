"""Prompts: one wording for training and answering, for every method, in the base model's own chat template.

A direct prompt ends in the answer prefix and the answer follows at once. A chain-of-thought prompt shows the same
worked examples to all methods, and the answer follows what leads to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polyprag.config import PromptStyle
from polyprag.knowledge.conclusions import AROUND, conclusion_of
from polyprag.knowledge.worked_examples import CHAINS, EXAMPLES
from polyprag.records import Passage, QAPair

__all__ = ["ANSWER_PREFIX", "CHAINS", "DATE", "EXAMPLES", "PromptWriter", "as_chat", "with_title"]

SYSTEM = "Answer the question in a few words."
CHAIN_SYSTEM = "Answer the question: first what leads to the answer, step by step, then the answer in a few words."
QUESTION_PREFIX = "Question: "
ANSWER_PREFIX = "The answer is"
CHAIN_PREFIX = "Answer:"
"""What a chain of thought begins with, as in the official PRAG code."""
DATE = "26 Jul 2024"
"""What chat templates that tell the model today's date, such as Llama 3.2's, tell it on every day."""
_CLOCK = "strftime_now"
_STOPPED_CLOCK = f"{{%- macro {_CLOCK}(format) -%}}{DATE}{{%- endmacro +%}}"


@dataclass(frozen=True)
class PromptWriter:
    """Writes prompts as token ids in a tokenizer's chat template, and reads what the model wrote after them.

    Attributes:
        tokenizer: a tokenizer with a chat template.
        style: direct, or with a chain of thought.
    """

    tokenizer: Any
    style: PromptStyle = PromptStyle.DIRECT

    def question(self, question: str, passages: Sequence[str] = (), shots: int = 0) -> list[int]:
        """The prompt of a question, up to where the answer begins.

        Args:
            question: the question's text.
            passages: texts to put before the question, best first.
            shots: short-answer examples before it; they carry passages exactly if the question does. A chain of
                thought has all its worked examples in any case, without passages.

        Returns:
            Token ids, ending in the answer prefix.
        """
        own = {"role": "user", "content": _user_turn(question, passages)}
        if self.style is PromptStyle.COT:
            turns = [turn for pair in CHAINS for turn in _turns(pair, (), f"{CHAIN_PREFIX} {explained(pair)}")]
            return self._encode([{"role": "system", "content": CHAIN_SYSTEM}, *turns, own], CHAIN_PREFIX)
        turns = [
            turn
            for passage, pair in EXAMPLES[:shots]
            for turn in _turns(pair, [with_title(passage)] if passages else [], f"{ANSWER_PREFIX} {pair.answer}")
        ]
        return self._encode([{"role": "system", "content": SYSTEM}, *turns, own], ANSWER_PREFIX)

    def answer(self, answer: str) -> list[int]:
        """The tokens of an answer as it stands behind `question`, and the end of the turn."""
        ids: list[int] = self.tokenizer.encode(f" {answer}", add_special_tokens=False)
        return [*ids, self.end_of_turn]

    def target(self, pair: QAPair) -> list[int]:
        """The tokens that should follow the `question` of a pair: its answer, explained in a chain of thought."""
        return self.answer(explained(pair) if self.style is PromptStyle.COT else pair.answer)

    def read(self, raw: str, ended: bool = True) -> str:
        """The answer in a text that was generated after a prompt, on a single line.

        A direct answer is the first line, that of a chain of thought its conclusion, see `conclusion_of`.

        Args:
            raw: the text.
            ended: whether the model was done.
        """
        if self.style is PromptStyle.COT:
            return conclusion_of(raw, ended)
        return next(iter(raw.strip().splitlines()), "").strip()

    def text(self, passage: Passage, text: str) -> tuple[list[int], list[int]]:
        """A passage's text as something to recall: the prompt that names its title, and the text."""
        messages = [{"role": "user", "content": f"What do you know about {passage.title or 'this'}?"}]
        prompt = self._encode(messages, "")
        target: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return prompt, [*target, self.end_of_turn]

    @property
    def end_of_turn(self) -> int:
        """The token that closes an assistant's turn, read off the chat template."""
        mark = "polyprag"
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
        after = as_chat(self.tokenizer, messages).rpartition(mark)[2].lstrip()
        ids: list[int] = self.tokenizer.encode(after, add_special_tokens=False)
        return ids[0] if ids else int(self.tokenizer.eos_token_id)

    @property
    def stops(self) -> list[int]:
        """The tokens that end an answer: end of turn, end of text, and the line end where answers have one line."""
        newline = self.tokenizer.encode("\n", add_special_tokens=False)[-1:]
        line_ends = newline if self.style is PromptStyle.DIRECT else []
        return sorted({self.end_of_turn, self.tokenizer.eos_token_id, *line_ends})

    def _encode(self, messages: list[dict[str, str]], prefix: str) -> list[int]:
        rendered = as_chat(self.tokenizer, messages, open_turn=True)
        ids: list[int] = self.tokenizer.encode(rendered + prefix, add_special_tokens=False)
        return ids


def as_chat(tokenizer: Any, messages: Sequence[dict[str, str]], *, open_turn: bool = False) -> str:
    """Messages in a tokenizer's chat template, the same on every day, so that answers meet the prompts of training.

    Args:
        tokenizer: with a chat template, which is told `DATE` where it asks for today's.
        messages: the chat, each with `role` and `content`.
        open_turn: whether the assistant's turn is opened at the end.
    """
    template: str = tokenizer.get_chat_template()
    stopped = {"chat_template": _STOPPED_CLOCK + template} if _CLOCK in template else {}
    rendered: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_turn, **stopped)
    return rendered


def explained(pair: QAPair) -> str:
    """What leads to an answer and then the answer, as the end of a chain of thought; the latter alone without it."""
    full = " ".join(pair.full_answer.split())
    concluded = f"{ANSWER_PREFIX} {pair.answer}"
    if not full or full.strip(AROUND).casefold() == pair.answer.strip(AROUND).casefold():
        return concluded
    return f"{full if full[-1] in '.!?' else f'{full}.'} {concluded}"


def with_title(passage: Passage) -> str:
    """A passage as prompts show it."""
    return f"{passage.title}: {passage.text}" if passage.title else passage.text


def _turns(pair: QAPair, passages: Sequence[str], said: str) -> list[dict[str, str]]:
    """An example: the question of a pair and what is said to it."""
    asked = {"role": "user", "content": _user_turn(pair.question, passages)}
    return [asked, {"role": "assistant", "content": said}]


def _user_turn(question: str, passages: Sequence[str]) -> str:
    """The user's turn: numbered passages, if any, and the question."""
    numbered = "".join(f"Passage {number}: {text}\n" for number, text in enumerate(passages, 1))
    return f"{numbered}{QUESTION_PREFIX}{question}"
