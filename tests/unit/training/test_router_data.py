from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyprag.config import Config, RouterConfig
from polyprag.experts.base_model import BaseModel
from polyprag.knowledge.prompts import PromptWriter
from polyprag.records import Knowledge
from polyprag.training.router_data import DrawnBatches, Query, build_queries, texts_of


def writer_of(base: BaseModel) -> PromptWriter:
    return PromptWriter(base.tokenizer)


class TestQueries:
    def test_validation_questions_are_held_back_where_there_are_some(self, tiny_base, tiny_knowledge):
        queries, held_back = build_queries(tiny_knowledge, Config(), writer_of(tiny_base))
        assert [(query.text, query.tasks) for query in held_back] == [
            (question.text, (task,)) for task, question in enumerate(tiny_knowledge.validation)
        ]
        assert not {query.text for query in queries} & {query.text for query in held_back}
        pairs = [pair.question for own in tiny_knowledge.augmentations.values() for pair in own.qa]
        assert [query.text for query in queries if query.pack is not None] == pairs

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.integers(0, 1000), share=st.floats(0, 1))
    def test_else_a_share_of_the_training_questions(self, tiny_base, tiny_knowledge, seed, share):
        config = Config()
        config.run.seed, config.router.held_back, config.router.sentences = seed, share, False
        knowledge = Knowledge(tiny_knowledge.passages, tiny_knowledge.augmentations)
        queries, held_back = build_queries(knowledge, config, writer_of(tiny_base))
        texts = [query.text for query in (*queries, *held_back)]
        assert len(set(texts)) == len(texts) == 6
        assert len(held_back) == min(5, round(6 * share))
        assert all(query.pack is not None for query in queries)

    def test_a_question_learns_with_its_answer_alone(self, tiny_base, tiny_knowledge):
        writer = writer_of(tiny_base)
        queries, _ = build_queries(tiny_knowledge, Config(), writer)
        first = queries[0]
        prompt, answer = writer.question("Where does Arlen lie?"), writer.answer("by the river Om")
        assert (first.text, first.tasks) == ("Where does Arlen lie?", (0,))
        assert first.pack.tokens == (*prompt, *answer)
        assert first.pack.targets == tuple(answer)

    def test_sentences_are_those_of_passages_and_rewrites(self, tiny_base, tiny_knowledge):
        queries, _ = build_queries(tiny_knowledge, Config(), writer_of(tiny_base))
        said = [(query.text, query.tasks) for query in queries if query.pack is None]
        assert said[:3] == [
            ("Arlen lies by the river Om.", (0,)),
            ("Arlen was founded in 1867.", (0,)),
            ("Founded in 1867, Arlen is a city by the river Om.", (0,)),
        ]
        assert len(said) == 9

    def test_a_key_is_made_of_all_that_is_known_of_a_passage(self, tiny_knowledge):
        own = texts_of(tiny_knowledge)[1]
        assert own == [
            "Brask\nBrask lies by the river Tul. Brask was founded in 1702.",
            "Founded in 1702, Brask is a city by the river Tul.",
            *("Where does Brask lie?", "When was Brask founded?"),
        ]
        bare = Knowledge(tiny_knowledge.passages)
        assert texts_of(bare)[1] == own[:1]


class TestDrawnBatches:
    def drawn(self, seed: int = 0, **changes: int) -> DrawnBatches:
        """Ten queries, every other of which has an answer."""
        packed: Any = object()
        queries = [Query(str(at), (at,), packed if at % 2 else None) for at in range(10)]
        sizes = {"steps": 6, "batch_size": 4, "lm_steps": 3, "lm_batch_size": 2}
        return DrawnBatches(queries, RouterConfig(**{**sizes, **changes}), seed)

    def test_two_phases_of_batches_without_repeats(self):
        batches = list(self.drawn())
        assert len(batches) == len(self.drawn()) == 9
        assert [len(batch) for batch in batches] == [4] * 6 + [2] * 3
        assert all(len(set(batch)) == len(batch) for batch in batches)
        assert {index % 2 for batch in batches[:6] for index in batch} == {0, 1}
        assert {index % 2 for batch in batches[6:] for index in batch} == {1}

    def test_a_batch_is_no_larger_than_what_there_is(self):
        sizes = [len(batch) for batch in self.drawn(batch_size=99, lm_batch_size=99)]
        assert sizes == [10] * 6 + [5] * 3

    def test_seed_and_step_decide(self):
        assert list(self.drawn(3)) == list(self.drawn(3)) != list(self.drawn(4))
        assert list(self.drawn(lm_steps=0)) == list(self.drawn())[:6]

    @pytest.mark.parametrize("start", [0, 1, 6, 8, 9])
    def test_it_goes_on_from_any_step_once(self, start):
        sampler = self.drawn()
        expected = list(sampler)
        sampler.start = start
        assert list(sampler) == expected[start:]
        assert list(sampler) == expected
