import re

from made_answers import answer

from polyprag.evaluation.page.disagreement import disagreements


def answers_of(f1, types=(), texts=None):
    """Answers by method and question, from an F1 for each question."""
    return {
        method: {
            f"q{at}": answer(
                method,
                at,
                value,
                types[at] if types else "",
                {"question": f"question {at}", **({"prediction": texts[method][at]} if texts else {})},
            )
            for at, value in enumerate(values)
        }
        for method, values in f1.items()
    }


def questions(found):
    return [int(re.search(r"question (\d+)", asked.question)[1]) for asked in found]


def test_the_largest_spread_comes_first():
    f1 = {"vanilla": [0.0, 0.0, 0.0], "prag": [0.5, 1.0, 0.1]}
    assert questions(disagreements(answers_of(f1))) == [1, 0, 2]


def test_every_type_has_its_turn():
    f1 = {"vanilla": [0.0] * 4, "prag": [1.0, 0.9, 0.8, 0.2]}
    assert questions(disagreements(answers_of(f1, ["a", "a", "a", "b"]))) == [0, 3, 1, 2]


def test_questions_without_a_spread_come_last():
    f1 = {"vanilla": [0.0] * 3, "prag": [0.0, 1.0, 0.9]}
    assert questions(disagreements(answers_of(f1, ["b", "a", "a"]))) == [1, 2, 0]


def test_the_same_answer_of_all_is_no_disagreement():
    f1 = {"vanilla": [0.0, 0.0], "prag": [0.0, 1.0]}
    texts = {"vanilla": ["same", "x"], "prag": ["same", "y"]}
    assert questions(disagreements(answers_of(f1, texts=texts))) == [1]


def test_equal_answers_stand_together_the_best_first():
    f1 = {"vanilla": [0.0], "standard_rag": [1.0], "prag": [0.0]}
    texts = {"vanilla": ["wrong"], "standard_rag": ["right"], "prag": ["wrong"]}
    (asked,) = disagreements(answers_of(f1, texts=texts))
    assert [(reply.level, len(reply.methods)) for reply in asked.replies] == [(1.0, 1), (0.0, 2)]
    assert ">right<" in asked.replies[0].text


def test_controls_speak_only_where_nobody_else_does():
    f1 = {"vanilla": [0.0], "prag": [0.0], "format_lora": [1.0]}
    (asked,) = disagreements(answers_of(f1))
    assert len(asked.replies) == 2
    (asked,) = disagreements(answers_of({"vanilla": [0.0], "format_lora": [1.0]}))
    assert len(asked.replies) == 2


def test_no_more_than_asked_for():
    f1 = {"vanilla": [0.0] * 30, "prag": [1.0] * 30}
    assert len(disagreements(answers_of(f1))) == 10
    assert len(disagreements(answers_of(f1), most=3)) == 3


def test_an_empty_answer_is_said_to_be_one():
    f1 = {"vanilla": [0.0], "prag": [1.0]}
    (asked,) = disagreements(answers_of(f1, texts={"vanilla": [""], "prag": ["x"]}))
    assert "no answer" in asked.replies[1].text


def test_one_method_cannot_disagree():
    assert disagreements(answers_of({"vanilla": [0.0, 1.0]})) == []
