"""The demo world: deterministic, consistent, hard to game, and as large as asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.config import WorldConfig
from polyprag.errors import ConfigError
from polyprag.knowledge.demo_world import generate_world, iterate_passages
from polyprag.knowledge.world import people, texts
from polyprag.knowledge.world.facts import World
from polyprag.knowledge.world.questions import COMPARISONS, DESCRIPTIONS, WORDINGS, QuestionType
from polyprag.knowledge.world.wordings import Kind, Relation, Split
from polyprag.knowledge.world.words import PLACE_ENDS, SURNAME_ENDS, made_up_names
from polyprag.records import Knowledge, Question

TEXTS = (*people.TEXTS, *texts.PLACE_TEXTS, *texts.INSTITUTION_TEXTS, *texts.WORK_TEXTS)
SIZES = (20, 24, 40, 2000)


@cache
def world_of(passages: int, seed: int = 0, phrasings: int = 4) -> Knowledge:
    """A world with four phrasings and all its test questions."""
    return generate_world(
        WorldConfig(
            passages=passages, seed=seed, phrasings=phrasings, qa_per_fact=4, questions=0, validation_questions=10**6
        )
    )


def index_of(passage_id: str) -> int:
    return int(passage_id.removeprefix("p"))


def texts_of(knowledge: Knowledge, passage_id: str) -> tuple[str, ...]:
    return knowledge.passages[index_of(passage_id)].text, *knowledge.augmentations[passage_id].rewrites


def named(template: str, value: str) -> str:
    """The template with all its slots filled with one value."""
    slots = [name for _, name, _, _ in Formatter().parse(template) if name]
    return template.format_map(dict.fromkeys(slots, value))


def runs_of_four(wordings: Iterable[str]) -> set[tuple[str, ...]]:
    """All runs of four words, names standing as one word and also left out, `X's` read as one word and as two."""
    runs = set()
    for wording, name, word in product(wordings, ("Xyz", ""), (r"[\w']+", r"\w+")):
        tokens = re.findall(word, named(wording, name).lower())
        runs |= set(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))
    return runs


def questions_of(split: Split) -> set[str]:
    """Every wording that a question of the split can have, names left as slots."""
    plain = [wording for wordings in WORDINGS.values() for wording in wordings.asked(split)]
    bridges = [wordings.bridge_phrase(split) for wordings in WORDINGS.values() if wordings.bridge]
    described = [description.phrase(split) for kind in Kind for description in DESCRIPTIONS[kind]]
    composed = [wording.replace("{e}", entity) for wording in plain for entity in (*bridges, *described)]
    compared = [
        w for _, comparison in COMPARISONS.values() for way in (True, False) for w in comparison.asked(split, way)
    ]
    return {*plain, *composed, *compared}


def trained_wordings() -> set[str]:
    pairs = {wording for wordings in WORDINGS.values() for wording in wordings.train}
    return pairs | {sentence for phrasing in TEXTS for sentence in phrasing}


def without_names(text: str, names: re.Pattern[str]) -> str:
    return names.sub("{name}", text)


def test_same_config_gives_the_same_world() -> None:
    config = WorldConfig(passages=40, seed=7)
    assert generate_world(config) == generate_world(config)


def test_another_seed_gives_another_world() -> None:
    first, second = (generate_world(WorldConfig(seed=seed)) for seed in (0, 1))
    assert not {p.title for p in first.passages} & {p.title for p in second.passages}
    assert not {q.text for q in first.test} & {q.text for q in second.test}


def test_passages_come_one_by_one_too() -> None:
    config = WorldConfig(passages=50, seed=3)
    whole, pairs = generate_world(config), list(iterate_passages(config))
    assert tuple(passage for passage, _ in pairs) == whole.passages
    assert {augmentation.passage_id: augmentation for _, augmentation in pairs} == whole.augmentations


@pytest.mark.parametrize("passages", SIZES)
def test_passages_are_distinct_and_of_the_right_length(passages: int) -> None:
    knowledge = world_of(passages)
    assert [p.id for p in knowledge.passages] == [f"p{i:06d}" for i in range(passages)]
    assert len({p.title for p in knowledge.passages}) == passages
    for passage in knowledge.passages:
        wordings = texts_of(knowledge, passage.id)
        assert len(set(wordings)) == 4
        assert all(passage.title in text and 50 <= len(text.split()) <= 90 for text in wordings)
        assert not any("{" in text or "  " in text for text in wordings)


@settings(max_examples=25, deadline=None)
@given(passages=st.integers(20, 70), seed=st.integers())
def test_every_passage_has_its_facts_in_every_wording(passages: int, seed: int) -> None:
    config = WorldConfig(passages=passages, seed=seed, phrasings=4)
    world = World(config)
    for index, (passage, augmentation) in enumerate(iterate_passages(config)):
        facts = world.facts(index)
        assert 5 <= len(facts) == len({fact.relation for fact in facts})
        assert all(fact.link is None or fact.link in set(range(passages)) - {index} for fact in facts)
        for text in (passage.text, *augmentation.rewrites):
            assert 50 <= len(text.split()) <= 90
            assert all(fact.text in text for fact in facts)


def test_half_of_the_world_are_people_and_many_share_a_surname() -> None:
    world = World(WorldConfig(passages=2000))
    names = [world.name(i).split() for i in range(2000) if world.locate(i)[0] is Kind.PERSON]
    surnames = Counter(surname for _, surname in names)
    sharing = sum(count for count in surnames.values() if count > 1)
    assert len(names) == 1000
    assert sharing >= 0.15 * len(names)
    assert all(world.shares_surname(i) == (surnames[world.name(i).split()[-1]] > 1) for i in range(0, 2000, 2))


def test_families_are_consistent() -> None:
    world = World(WorldConfig(passages=2000, seed=5))
    facts = [{fact.relation: fact for fact in world.facts(i)} for i in range(2000)]
    for index, own in enumerate(facts):
        if spouse := own.get(Relation.SPOUSE):
            assert spouse.link is not None
            assert facts[spouse.link][Relation.SPOUSE].link == index
        if mother := own.get(Relation.MOTHER):
            assert mother.link is not None
            assert world.is_woman(mother.link)
            assert 18 <= int(own[Relation.BORN].text) - int(facts[mother.link][Relation.BORN].text) <= 42
        if work := own.get(Relation.WROTE):
            assert work.link is not None
            assert facts[work.link][Relation.AUTHOR].link == index
            assert int(facts[work.link][Relation.PUBLISHED].text) >= int(own[Relation.BORN].text) + 20


@pytest.mark.parametrize("qa_per_fact", [1, 2, 4])
def test_training_pairs_ask_every_fact_once_a_round_in_other_words(qa_per_fact: int) -> None:
    config = WorldConfig(passages=60, qa_per_fact=qa_per_fact)
    world = World(config)
    for index, (_, augmentation) in enumerate(iterate_passages(config)):
        facts = sorted(fact.answers[0] for fact in world.facts(index))
        pairs = augmentation.qa
        rounds = [pairs[i : i + len(facts)] for i in range(0, len(pairs), len(facts))]
        assert len(rounds) == qa_per_fact
        assert all(sorted(pair.answer for pair in one) == facts for one in rounds)
        assert len({pair.question for pair in pairs}) == len(pairs)


def test_there_are_enough_wordings() -> None:
    assert set(WORDINGS) == set(Relation)
    for wordings in WORDINGS.values():
        assert len(set(wordings.train)) >= 6
        assert len(set(wordings.test)) >= 2
        assert len(set(wordings.validation)) >= 2
        assert not any("'s" in wording for split in Split for wording in wordings.asked(split))


def test_splits_share_no_run_of_four_words_with_training_or_one_another() -> None:
    trained = runs_of_four(trained_wordings())
    test, validation = (runs_of_four(questions_of(split)) for split in Split)
    assert sorted(test & trained) == []
    assert sorted(validation & trained) == []
    assert sorted(test & validation) == []


def test_generated_questions_share_no_run_of_four_words() -> None:
    knowledge = world_of(200)
    names = re.compile("|".join(re.escape(p.title) for p in knowledge.passages))
    trained = runs_of_four(
        without_names(text, names)
        for passage in knowledge.passages
        for text in (*texts_of(knowledge, passage.id), *(qa.question for qa in knowledge.augmentations[passage.id].qa))
    )
    test = runs_of_four(without_names(question.text, names) for question in knowledge.test)
    validation = runs_of_four(without_names(question.text, names) for question in knowledge.validation)
    assert sorted(test & trained) == []
    assert sorted(validation & trained) == []
    assert sorted(test & validation) == []


@pytest.mark.parametrize("passages", SIZES)
def test_answers_stand_in_the_last_gold_passage_in_all_wordings(passages: int) -> None:
    knowledge = world_of(passages)
    for question in (*knowledge.test, *knowledge.validation):
        if question.type != QuestionType.COMPARISON:
            assert all(question.answers[0] in text for text in texts_of(knowledge, question.passage_ids[-1]))
    for augmentation in knowledge.augmentations.values():
        for text in texts_of(knowledge, augmentation.passage_id):
            assert all(pair.answer in text for pair in augmentation.qa)


@pytest.mark.parametrize("passages", SIZES)
def test_question_types_keep_their_promises(passages: int) -> None:
    knowledge, world = world_of(passages), World(WorldConfig(passages=passages))
    for question in (*knowledge.test, *knowledge.validation):
        gold = [index_of(passage_id) for passage_id in question.passage_ids]
        titles = [knowledge.passages[index].title for index in gold]
        answer_is_given = re.search(rf"\b{re.escape(question.answers[0])}\b", question.text)
        assert question.id.split("-")[1] == question.type
        match QuestionType(question.type):
            case QuestionType.ONE_HOP:
                assert titles[0] in question.text
                assert not world.shares_surname(gold[0])
            case QuestionType.NAMESAKE:
                assert titles[0] in question.text
                assert world.shares_surname(gold[0])
            case QuestionType.DESCRIPTION:
                assert titles[0] not in question.text
                assert not answer_is_given
            case QuestionType.TWO_HOP:
                assert titles[0] in question.text
                assert titles[1] not in question.text
                assert not answer_is_given
                assert gold[1] in {fact.link for fact in world.facts(gold[0])}
            case QuestionType.COMPARISON:
                assert all(title in question.text for title in titles)
                assert question.text.index(titles[0]) < question.text.index(titles[1])


def test_descriptions_fit_one_entity_only() -> None:
    knowledge, world = world_of(2000), World(WorldConfig(passages=2000))
    phrases: dict[tuple[Split, str], list[int]] = {}
    for index, split in product(range(2000), Split):
        slots = {fact.relation.value: fact.text for fact in world.facts(index)}
        for description in DESCRIPTIONS[world.locate(index)[0]]:
            if slots.keys() >= {relation.value for relation in description.relations}:
                phrases.setdefault((split, description.phrase(split).format_map(slots)), []).append(index)
    for split, questions in ((Split.TEST, knowledge.test), (Split.VALIDATION, knowledge.validation)):
        by_gold: dict[int, list[str]] = {}
        for (of_split, phrase), owners in phrases.items():
            if of_split is split and len(owners) == 1:
                by_gold.setdefault(owners[0], []).append(phrase)
        for question in questions:
            if question.type == QuestionType.DESCRIPTION:
                text = question.text[0].lower() + question.text[1:]
                assert any(phrase in text for phrase in by_gold[index_of(question.passage_ids[0])])


def test_comparisons_are_right_and_balanced() -> None:
    knowledge, world = world_of(400), World(WorldConfig(passages=400))
    years = {Relation.BORN, Relation.FOUNDED, Relation.PUBLISHED}
    earlier = {w for _, c in COMPARISONS.values() for split in Split for w in c.asked(split, earlier=True)}
    first_named = Counter[tuple[bool, bool]]()
    compared = [q for q in (*knowledge.test, *knowledge.validation) if q.type == QuestionType.COMPARISON]
    for question in compared:
        pair = [index_of(passage_id) for passage_id in question.passage_ids]
        a, b = (int(next(f.text for f in world.facts(i) if f.relation in years)) for i in pair)
        template = question.text.replace(world.name(pair[0]), "{a}").replace(world.name(pair[1]), "{b}")
        wants_earlier = template in earlier
        right = pair[0] if (a < b) == wants_earlier else pair[1]
        assert a != b
        assert question.answers == world.names(right)
        first_named[wants_earlier, right == pair[0]] += 1
    assert len(first_named) == 4
    assert max(first_named.values()) - min(first_named.values()) <= 2


def asked_facts(question: Question, world: World) -> set[tuple[str, str]]:
    """The facts that a question asks for, as (passage, value); for a comparison, the two years."""
    last = question.passage_ids[-1]
    match QuestionType(question.type):
        case QuestionType.TWO_HOP:
            bridge = world.name(index_of(last))
            return {(question.passage_ids[0], bridge), (last, question.answers[0])}
        case QuestionType.COMPARISON:
            years = {Relation.BORN, Relation.FOUNDED, Relation.PUBLISHED}
            facts = {p: world.facts(index_of(p)) for p in question.passage_ids}
            return {(p, fact.answers[0]) for p, own in facts.items() for fact in own if fact.relation in years}
        case _:
            return {(last, question.answers[0])}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_test_and_validation_ask_for_different_facts_in_different_words(seed: int) -> None:
    knowledge, world = world_of(60, seed), World(WorldConfig(passages=60, seed=seed))
    test, validation = (
        {f for q in split for f in asked_facts(q, world)} for split in (knowledge.test, knowledge.validation)
    )
    everything = (*knowledge.test, *knowledge.validation)
    repeated = {(i, v) for i, v in test & validation if _values(world, index_of(i)).count(v) == 1}
    assert test
    assert validation
    assert not repeated
    assert len({question.text for question in everything}) == len(everything)
    assert len({question.id for question in everything}) == len(everything)


def _values(world: World, index: int) -> list[str]:
    """An entity's values; one may stand there twice, as when an author dedicates a work to the own spouse."""
    return [fact.answers[0] for fact in world.facts(index)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(), size=st.sampled_from([(24, 48, 24), (40, 200, 60)]))
def test_small_worlds_give_as_many_questions_as_promised(seed: int, size: tuple[int, int, int]) -> None:
    passages, test, validation = size
    knowledge = generate_world(
        WorldConfig(passages=passages, seed=seed, questions=test, validation_questions=validation)
    )
    assert len(knowledge.test) == test
    assert len(knowledge.validation) == validation
    assert {question.type for question in knowledge.test} == set(QuestionType)


def test_question_types_come_in_proportion() -> None:
    knowledge = generate_world(WorldConfig(passages=400, questions=200, validation_questions=60))
    assert Counter(q.type for q in knowledge.test) == {
        "one_hop": 90,
        "namesake": 30,
        "description": 30,
        "two_hop": 30,
        "comparison": 20,
    }
    assert Counter(q.type for q in knowledge.validation) == {
        "one_hop": 27,
        "namesake": 9,
        "description": 9,
        "two_hop": 9,
        "comparison": 6,
    }


def test_a_tiny_world_gives_what_it_has() -> None:
    everything = world_of(20)
    many = generate_world(WorldConfig(passages=20, questions=10**6, validation_questions=0))
    assert len(many.test) == len(everything.test)
    assert many.validation == ()


def test_test_questions_do_not_depend_on_validation() -> None:
    config = WorldConfig(passages=40)
    assert generate_world(config).test == generate_world(replace(config, validation_questions=0)).test


@pytest.mark.parametrize("split", ["test", "validation"])
def test_every_wording_is_used(split: str) -> None:
    knowledge = world_of(2000)
    asked = [q.text for q in (knowledge.test if split == "test" else knowledge.validation)]
    joined = "\n".join(text[0].lower() + text[1:] for text in asked)
    for wordings in WORDINGS.values():
        for wording in wordings.asked(Split(split)):
            pattern = re.escape(wording[0].lower() + wording[1:]).replace(re.escape("{e}"), ".+")
            assert re.search(f"^{pattern}$", joined, re.MULTILINE)


def test_made_up_names_are_distinct_however_many() -> None:
    rng = World(WorldConfig()).stream("names")
    for count in (10, 3000, 187_500):
        surnames, places = (set(made_up_names(ends, count, rng)) for ends in (SURNAME_ENDS, PLACE_ENDS))
        assert len(surnames) == len(places) == count
        assert not surnames & places


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("passages", 19),
        ("passages", 1_000_001),
        ("phrasings", 0),
        ("phrasings", 5),
        ("qa_per_fact", 0),
        ("qa_per_fact", 5),
        ("questions", -1),
        ("validation_questions", -1),
    ],
)
def test_values_out_of_range_are_refused_by_name(key: str, value: int) -> None:
    config = WorldConfig()
    setattr(config, key, value)
    for build in (generate_world, iterate_passages):
        with pytest.raises(ConfigError, match=rf"^data\.world\.{key}: {value} is out of range; set it to [^\n]+$"):
            build(config)
