import time

import pytest

from polyprag.answering.drafting import Drafter
from polyprag.answering.generation import Generator
from polyprag.config import MethodName
from polyprag.knowledge.prompts import PromptWriter
from polyprag.methods.catalogue import build_method
from polyprag.methods.workbench import Clock, Setting


def test_it_is_noted_while_a_generator_or_a_drafter_is_at_work(tiny_base):
    generator = Generator(tiny_base, max_new_tokens=6)
    prompts = [PromptWriter(tiny_base.tokenizer).question(text) for text in ("Who?", "Where was it then?")]
    for write in (generator.answer, lambda prompts: Drafter(generator).draft(prompts, [4, 2])):
        before = time.perf_counter()
        found = write(prompts)
        after = time.perf_counter()
        assert all(before < one.first_token_at < after for one in found)
    assert generator.read([1]).first_token_at is None


def test_a_clock_counts_from_when_it_was_made():
    clock = Clock()
    assert clock.until(clock.started_at + 1.5) == 1.5
    assert clock.until(None) is None


@pytest.mark.parametrize(
    "name", ["vanilla", "standard_rag", "flare", "dragin", "prag", "poly_prag", "poly_prag_combine", "poly_prag_query"]
)
def test_every_method_tells_it(make_bench, name):
    bench = make_bench("flare.threshold=1", "flare.mask=0", "dragin.threshold=0", router=True)
    method, setting = build_method(MethodName(name), bench), Setting(passages=1)
    questions = bench.knowledge.test[:2]
    method.prepare(questions, [setting])
    began = time.perf_counter()
    answers = method.answer(questions, setting)
    took = time.perf_counter() - began
    for answered in answers:
        assert 0 < answered.first_token_seconds < took
        if name not in ("flare", "dragin"):  # these retrieve after the first draft as well
            assert answered.first_token_seconds > answered.seconds["retrieve"] + answered.seconds["route"]
