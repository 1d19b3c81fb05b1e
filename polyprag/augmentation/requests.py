"""The requests of an augmentation: which there are, which have been answered, and what the replies say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from polyprag.augmentation.author import Author, Kind, Request, request_key
from polyprag.augmentation.parsing import ReplyError, parse_pairs, parse_rewrite
from polyprag.augmentation.prompts import Prompts
from polyprag.augmentation.report import AugmentationReport, Usage
from polyprag.chat.prompts import Message
from polyprag.chat.replies import Reply, ReplyCache
from polyprag.config import AugmentationConfig, OnBadRow
from polyprag.errors import DataError
from polyprag.records import Augmentation, Passage, QAPair

GIVE_UP_AFTER = 10
"""Failures in a row after which a run that no failure may pass is given up."""

CHARACTERS_PER_TOKEN, PAIR_TOKENS = 4, 50
"""Rules of thumb for English, by which tokens are estimated."""


class Requests:
    """The requests that the passages of a corpus make.

    Args:
        passages: the corpus.
        prompts: what is asked.
        author: the name of who is asked.
        cache: that author's replies.
        config: how many rewrites and pairs, and how they are sampled.
    """

    def __init__(
        self, passages: Sequence[Passage], prompts: Prompts, author: str, cache: ReplyCache, config: AugmentationConfig
    ) -> None:
        self.passages, self.prompts, self.author, self.cache, self.config = passages, prompts, author, cache, config

    def of(self, passage: Passage) -> list[Request]:
        """The requests of one passage: its rewrites, then its pairs, which may take several; all are different."""
        rewrites = [self.prompts.rewrite_messages(passage, index) for index in range(self.config.rewrites)]
        pairs = self.prompts.qa_messages(passage, self.config.pairs)
        made = [
            self._request(passage, kind, index, messages)
            for kind, chats in ((Kind.REWRITE, rewrites), (Kind.QA, pairs))
            for index, messages in enumerate(chats)
        ]
        return list({request.key: request for request in made}.values())

    def count(self) -> tuple[int, int]:
        """How many there are, and how many of them have been answered."""
        answered = Counter(request.key in self.cache for passage in self.passages for request in self.of(passage))
        return answered.total(), answered[True]

    def missing(self) -> Iterator[Request]:
        """Those without an answer, made as they are needed."""
        for passage in self.passages:
            for request in self.of(passage):
                if request.key not in self.cache:
                    yield request

    def estimate(self) -> Usage:
        """About what the missing ones will take, from the number of characters."""
        usage = Usage()
        for request in self.missing():
            prompt = sum(len(message["content"]) for message in request.messages) // CHARACTERS_PER_TOKEN
            usage.add(Reply(request.key, "", prompt, min(self._expected_tokens(request), self.config.max_tokens)))
        return usage

    def _expected_tokens(self, request: Request) -> int:
        if request.kind is Kind.REWRITE:
            return len(request.passage.text) // CHARACTERS_PER_TOKEN
        return PAIR_TOKENS * (self.config.pairs if self.prompts.style == "json" else 1)

    def ask(self, author: Author, report: AugmentationReport) -> Iterator[Reply]:
        """Have the missing ones answered; each reply is on the disk when it is yielded.

        Raises:
            DataError: too many requests in a row stay without an answer, and `augmentation.on_failure` is fail.
            PolyPragError: the author cannot answer any.
        """
        under_way: dict[str, Request] = {}
        in_a_row = 0
        for reply in author.write(_noted(self.missing(), under_way)):
            request = under_way.pop(reply.key)
            report.this_run.add(reply)
            report.faults.update(reply.faults)
            if reply.failure:
                in_a_row += 1
                report.failed[reply.failure.partition(":")[0]] += 1
                report.first_failed = report.first_failed or f"passage {request.passage.id!r}: {reply.failure}"
                if in_a_row == GIVE_UP_AFTER and self.config.on_failure is OnBadRow.FAIL:
                    raise failed_requests(report)
            else:
                in_a_row = 0
                self.cache.add(reply, {"kind": request.kind.value, "passage": request.passage.content_hash})
            yield reply

    def written(self, passage: Passage, report: AugmentationReport) -> Augmentation:
        """What the replies say about a passage, not yet validated; replies that say nothing usable are counted."""
        rewrites: list[str] = []
        pairs: list[QAPair] = []
        for request in self.of(passage):
            reply = self.cache.get(request.key)
            if reply is None:
                continue
            report.all_runs.add(reply)
            try:
                if request.kind is Kind.REWRITE:
                    rewrites.append(parse_rewrite(reply.text))
                else:
                    pairs += parse_pairs(reply.text)
            except ReplyError as error:
                report.rejected[f"{request.kind.value} reply: {error.reason}"] += 1
        return Augmentation(passage.id, tuple(rewrites), tuple(pairs))

    def _request(self, passage: Passage, kind: Kind, index: int, messages: list[Message]) -> Request:
        prompt = self.prompts.rewrite if kind is Kind.REWRITE else self.prompts.qa
        key = request_key(passage, kind, index, messages, self.author, prompt.version, self.config)
        return Request(key, kind, passage, index, tuple(messages))


def failed_requests(report: AugmentationReport) -> DataError:
    """The error of an augmentation in which requests stay without an answer."""
    return DataError(
        f"augmentation: {sum(report.failed.values()):,} of {report.this_run.replies:,} requests got no usable answer, "
        f"the first for {report.first_failed}; all others are kept: run again to ask for these, or set "
        "augmentation.on_failure=skip"
    )


def _noted(requests: Iterable[Request], under_way: dict[str, Request]) -> Iterator[Request]:
    """The same requests, each noted until its reply comes."""
    for request in requests:
        under_way[request.key] = request
        yield request
