import dataclasses

from polyprag.augmentation.author import Kind, request_key
from polyprag.config import AugmentationConfig
from polyprag.records import Passage

PASSAGE = Passage("p", "T", "text")


def test_a_key_tells_all_that_a_reply_depends_on_and_nothing_else():
    config = AugmentationConfig()

    def key(passage=PASSAGE, kind=Kind.QA, index=0, author="m", version="v", text="ask", **settings) -> str:
        messages = [{"role": "user", "content": text}]
        return request_key(passage, kind, index, messages, author, version, dataclasses.replace(config, **settings))

    different = [
        *(key(), key(kind=Kind.REWRITE), key(kind=Kind.REWRITE, index=1), key(author="n"), key(version="w")),
        *(key(Passage("p", "T", "other")), key(Passage("p", "U", "text"))),
        *(key(text="ask more"), key(temperature=0.0), key(max_tokens=9)),
    ]
    assert len(set(different)) == len(different)
    assert all(len(one) == 64 for one in different)
    assert key(Passage("q", "T", "text")) == key(), "ids may change"
    assert key(index=1) == key(), "pairs are told by their messages"
    assert key(url="http://x", retries=1, rewrites=7, concurrency=2) == key()
