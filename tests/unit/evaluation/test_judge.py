import contextlib
import io
import json

import numpy as np
import pytest
from compatible_server import Answer as Sent
from compatible_server import Moody, completion, error, good, serving
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from polyprag.augmentation.parsing import ReplyError
from polyprag.chat import pace
from polyprag.config import EvaluationConfig, OnBadRow
from polyprag.errors import ConfigError, DataError, ModelError, PolyPragError
from polyprag.evaluation.answers import Answer
from polyprag.evaluation.judge import OWN_PROMPT, Judge, judged, read_verdict
from polyprag.evaluation.statistics import bootstrap_ci
from polyprag.methods.workbench import STEPS
from polyprag.metrics import Scores


def answer(prediction: str = "Arlen", question: str = "Where?", gold: tuple[str, ...] = ("Arlen",), em: float = 0.0):
    return Answer(
        method="prag",
        question_id=f"{question} {prediction}",
        question=question,
        type="",
        gold=gold,
        prediction=prediction,
        raw_prediction=prediction,
        scores=Scores(em, em, em, em),
        retrieved=(),
        top_experts=(),
        prompt_tokens=1,
        new_tokens=1,
        seconds=dict.fromkeys(STEPS, 0.0),
    )


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """`judge(url, **settings)`: a judge whose verdicts are kept in the test's own folder."""
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def make(url: str, **settings) -> Judge:
        named = {f"judge_{name}": value for name, value in {"timeout": 5.0, "cache": str(tmp_path), **settings}.items()}
        return Judge(EvaluationConfig(judge="m", judge_url=url, **named), Console(file=io.StringIO()))

    return make


ANSWERS = [answer("Arlen"), answer("Brask"), answer("arlen"), answer("Corvo", "Who?"), answer("")]
VERDICTS = [True, False, True, False, False]


class TestAsking:
    def test_every_answer_gets_its_verdict(self, judge):
        with serving() as server:
            assert judge(server.url).verdicts(ANSWERS) == VERDICTS

    def test_what_is_sent(self, judge, monkeypatch):
        monkeypatch.setenv("SOME_KEY", "sk-secret")
        with serving() as server:
            judge(server.url, key_env="SOME_KEY", max_tokens=33).verdicts([answer("A\nB", 'Say "x"', ("C", "Ü"))])
        (body,) = server.bodies
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 33)
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["properties"] == {"verdict": {"type": "string", "enum": ["correct", "incorrect"]}}
        asked = body["messages"][-1]["content"]
        assert 'Question: "Say \\"x\\""\n' in asked
        assert 'Accepted answers: ["C", "Ü"]\n' in asked
        assert 'Given answer: "A\\nB"\n' in asked, "an answer cannot begin a line of its own"
        assert server.headers[0]["authorization"] == "Bearer sk-secret"

    def test_equal_cases_are_asked_once(self, judge):
        with serving() as server:
            assert judge(server.url).verdicts([*ANSWERS, *ANSWERS]) == VERDICTS * 2
            assert len(server.bodies) == 4, "and nobody is asked about the empty answer"

    def test_nothing_is_asked_again_in_later_calls(self, judge):
        with serving() as server:
            judge(server.url).verdicts(ANSWERS[:2])
            judge(server.url).verdicts(ANSWERS)
            assert len(server.bodies) == 4
            before = len(server.bodies)
            judge(server.url, retries=2, concurrency=1).verdicts(ANSWERS)
            assert len(server.bodies) == before
        assert judge("http://127.0.0.1:9/v1").verdicts(ANSWERS) == VERDICTS, "no server is needed any more"

    def test_other_prompts_models_and_lengths_are_asked_anew(self, judge, tmp_path):
        own = tmp_path / "own.md"
        own.write_text("---\nversion: 7\n---\nGiven answer: {answer}\nAccepted answers: {gold}\nQuestion: {question}\n")
        with serving() as server:
            keys = {
                judge(server.url, **settings).case(ANSWERS[0]).key
                for settings in ({}, {"prompt": str(own)}, {"max_tokens": 9})
            }
            named = judge(server.url, prompt=str(own))
            assert named.verdicts(ANSWERS[:1]) == [True]
        assert len(keys) == 3
        assert named.name.startswith("m, own-7-")

    def test_lone_surrogates_are_no_obstacle(self, judge):
        with serving() as server:
            assert judge(server.url).verdicts([answer("\ud800 Arlen", "Where\udfff?")]) == [False]

    @pytest.mark.parametrize("seed", range(2))
    def test_all_are_judged_by_a_moody_server(self, judge, seed):
        answers = [answer(f"A{number}", gold=(f"a{number}" if number % 3 else "b",)) for number in range(40)]
        with serving(Moody(seed, slow=0.02, pause="0.02")) as server:
            verdicts = judge(server.url).verdicts(answers)
        assert verdicts == [number % 3 > 0 for number in range(40)]

    def test_what_was_judged_before_an_end_is_kept(self, judge, monkeypatch):
        answers = [answer(f"A{number}") for number in range(30)]
        with serving() as server:
            ends = judge(server.url, concurrency=3)
            add = ends.cache.add

            def add_some(reply, about):
                if len(ends.cache) == 10:
                    raise KeyboardInterrupt
                add(reply, about)

            monkeypatch.setattr(ends.cache, "add", add_some)
            with pytest.raises(KeyboardInterrupt):
                ends.verdicts(answers)
            assert len(judge(server.url).cache) == 10
            assert judge(server.url).verdicts(answers) == [False] * 30
            assert server.tries.total() <= 30 + 3, "only what was under way is asked again"


class TestFailures:
    def test_a_verdict_that_cannot_be_had_ends_in_one_line_and_all_others_are_kept(self, judge):
        def behave(body, nth):
            return error(400, "content filter") if "Brask" in body["messages"][-1]["content"] else good(body)

        with serving(behave) as server:
            with pytest.raises(DataError) as raised:
                judge(server.url).verdicts(ANSWERS)
            assert str(raised.value) == (
                "evaluation.judge: 1 of 4 verdicts could not be had, the first on 'Where?': HTTP 400: content filter; "
                "all others and all answers are kept: run again to ask for these, or set "
                "evaluation.judge_on_failure=skip"
            )
            assert judge(server.url, on_failure=OnBadRow.SKIP).verdicts(ANSWERS) == [True, None, True, False, False]
            assert server.tries.total() == 5, "that one alone is asked about again"

    def test_many_failures_in_a_row_end_it(self, judge):
        with serving(lambda body, nth: completion("I cannot say.")) as server:
            with pytest.raises(DataError, match=r"10 of 10 verdicts could not be had, .*: no verdict; "):
                judge(server.url, retries=0, concurrency=1).verdicts([answer(f"A{number}") for number in range(50)])
            assert server.tries.total() < 15

    def test_where_all_fail_skipping_does_not_help(self, judge):
        with serving(lambda body, nth: error(500, "oom")) as server, pytest.raises(DataError, match="2 of 2 verdicts"):
            judge(server.url, retries=0, on_failure=OnBadRow.SKIP).verdicts(ANSWERS[:2])

    @pytest.mark.parametrize(
        ("sent", "kind", "says"),
        [
            (error(401, "no key"), ConfigError, "the environment variable OPENAI_API_KEY"),
            (error(404, "no such model"), ConfigError, "check evaluation.judge=m and evaluation.judge_url"),
            (Sent(302), ConfigError, "correct evaluation.judge_url"),
            (error(429, "later", **{"Retry-After": "900"}), ModelError, "asks to wait 900 s"),
        ],
    )
    def test_what_no_request_can_pass_ends_at_once(self, judge, sent, kind, says):
        with serving(lambda body, nth: sent) as server, pytest.raises(PolyPragError) as raised:
            judge(server.url).verdicts(ANSWERS)
        assert isinstance(raised.value, kind)
        assert str(raised.value).startswith(f"evaluation.judge_url={server.url}: ")
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_no_server(self, judge):
        with pytest.raises(ModelError, match=r"^evaluation\.judge_url=http://127\.0\.0\.1:9/v1: no server answers"):
            judge("http://127.0.0.1:9/v1").verdicts(ANSWERS)

    def test_a_key_that_cannot_be_sent(self, judge, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
        with pytest.raises(ConfigError, match=r"^evaluation\.judge_key_env=OPENAI_API_KEY: "):
            judge("http://127.0.0.1:9/v1").verdicts(ANSWERS)

    @pytest.mark.parametrize(
        ("text", "says"),
        [("x", "has no version"), ("---\nversion: 1\n---\n{question} {gold}", "the placeholder {answer} is missing")],
    )
    def test_a_prompt_that_cannot_be_used(self, judge, tmp_path, text, says):
        path = tmp_path / "own.md"
        path.write_text(text)
        with pytest.raises(DataError, match=says):
            judge("http://127.0.0.1:9/v1", prompt=str(path))

    def test_a_missing_prompt_file(self, judge, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            judge("http://127.0.0.1:9/v1", prompt=str(tmp_path / "none.md"))


class TestReading:
    @pytest.mark.parametrize(
        ("text", "verdict"),
        [
            ('{"verdict": "correct"}', True),
            ('{"verdict": "Incorrect."}', False),
            ('```json\n{"verdict": "incorrect"}\n```', False),
            ('Here it is: {"verdict": "correct", "why": "it is not incorrect"}', True),
            ("correct", True),
            (" **Incorrect.**\n", False),
            ('<think>It is {"verdict": "incorrect"} … no.</think>{"verdict": "correct"}', True),
            ('[{"verdict": "correct"}, {"verdict": "correct"}]', True),
        ],
    )
    def test_verdicts(self, text, verdict):
        assert read_verdict(text) is verdict

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "empty"),
            ("<think>hm", "empty"),
            ("<html><body>", "HTML"),
            ("The answer is correct.", "no verdict"),
            ("not correct", "no verdict"),
            ("incorrect, correct", "no verdict"),
            ('{"verdict": true}', "no verdict"),
            ('{"verdict": "partly"}', "no verdict"),
            ('{"answer": "correct"}', "no verdict"),
            ('{"verdict": "correct"} {"verdict": "incorrect"}', "several verdicts"),
            ('{"verdict": "corr', "no verdict"),
        ],
    )
    def test_what_is_none(self, text, reason):
        with pytest.raises(ReplyError, match=f"^{reason}$"):
            read_verdict(text)

    @given(text=st.text(max_size=60))
    def test_no_text_breaks_it(self, text):
        with contextlib.suppress(ReplyError):
            assert read_verdict(text) in (True, False)


def test_the_prompt_shows_both_forms_of_the_verdict_that_it_asks_for():
    text = OWN_PROMPT.read_text(encoding="utf-8")
    for verdict in ("correct", "incorrect"):
        assert json.dumps({"verdict": verdict}) in text


class TestSummingUp:
    def test_share_interval_and_agreement(self):
        answers = [answer(em=em) for em in (1.0, 1.0, 0.0, 0.0, 0.0)]
        found = judged(answers, [True, False, True, False, None], 200, 3, "m, judge-1-abc")
        values = [1.0, 0.0, 1.0, 0.0]
        assert found == {
            "judge": 0.5,
            "judge_ci95": list(bootstrap_ci(np.array(values), 200, 3)),
            "judge_n": 4,
            "judge_agreement": 0.5,
            "judge_by": "m, judge-1-abc",
        }

    def test_without_any_verdict_there_is_nothing_to_tell(self):
        assert judged([answer()], [None], 200, 3, "m") == {}
