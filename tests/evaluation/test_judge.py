from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from emoverse.emt.endpoint import Endpoint
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.judge import agreement, judge, prompt, read_score
from emoverse.evaluation.runner import evaluate, score_predictions
from emoverse.tasks import eri

from .made import FakeEngine, er_records

GOLD = ["She grins because she won.", "He trembles at the dark.", "They shout at each other."]


class _Judge(BaseHTTPRequestHandler):
    """Full marks for two equal descriptions, else 2, and a point more for a longer second one."""

    asked: list[str]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"]
        self.asked.append(text)
        first = text.split("Description 1: ")[1].split("\n")[0]
        second = text.split("Description 2: ")[1].strip()
        points = 10 if first == second else 2 + (len(second) > len(first))
        reply = "I cannot say." if "mute" in text else f"They share little.\nScore: {points}"
        content = json.dumps(
            {"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def served():
    handler = type("Handler", (_Judge,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "stub", retries=0), handler.asked
    server.shutdown()
    server.server_close()


def test_every_pair_is_shown_in_both_orders_and_asked_once(served, tmp_path):
    endpoint, asked = served
    said = [GOLD[0], "He is cold.", "mute"]
    result = judge(GOLD, said, endpoint, tmp_path)
    assert len(asked) == 10  # 3 answers, 2 scales, 2 orders; one pair is the same in both
    clue = result["clue"]
    assert clue["mean"] == pytest.approx((10 + 2.5) / 2)
    assert clue["unparseable"] == 1
    assert clue["agreement"]["n"] == 2 and clue["agreement"]["mean_distance"] == 0.5
    low, high = clue["interval"]
    assert 2.5 <= low < high <= 10
    again = judge(GOLD, said, endpoint, tmp_path)
    assert again == result and len(asked) == 10


def test_an_empty_answer_is_rated_0_without_asking(served, tmp_path):
    endpoint, asked = served
    result = judge(GOLD[:1], [" "], endpoint, tmp_path)
    assert result["label"]["mean"] == 0 and asked == []
    assert result["label"]["agreement"]["n"] == 0


def test_a_run_is_judged_after_the_fact(served, tmp_path):
    endpoint, _ = served
    records = [Record(eri.query(str(n)), text, "eri", id=f"r{n}") for n, text in enumerate(GOLD)]
    data = dump_records(tmp_path / "eri.jsonl", records)
    evaluate("fake", data, out=tmp_path / "out", engine=FakeEngine())
    block = score_predictions(tmp_path / "out", judge=endpoint)["tasks"]["eri"]
    assert block["judge"]["clue"]["mean"] == block["judge"]["label"]["mean"] == 10
    assert len(block["judge"]["prompts"]["clue"]) == 64


def test_a_run_without_reasons_has_nothing_to_judge(served, tmp_path):
    endpoint, asked = served
    data = dump_records(tmp_path / "er.jsonl", er_records(2))
    evaluate("fake", data, out=tmp_path / "out", engine=FakeEngine())
    for option in ({"judge": endpoint}, {"similarity": "m"}):
        with pytest.raises(EmoVerseError, match="asked for no reasons"):
            score_predictions(tmp_path / "out", **option)
    assert asked == []


def test_a_judge_that_is_not_there_is_told_in_one_sentence(tmp_path):
    endpoint = Endpoint("http://127.0.0.1:9/v1", "stub", retries=0)
    with pytest.raises(EmoVerseError, match="judge stub at"):
        judge(GOLD, GOLD, endpoint, tmp_path)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Clues differ.\nScore: 7", 7.0),
        ("Score 3 at first, but then\n**Score:** 4.5/10", 4.5),
        ("8", 8.0),
        ("Score (0-10): 6", 6.0),
        ("Score [0 to 10] = 4.5", 4.5),
        ("Score (0–10):", None),
        ("6/10", 6.0),
        ("Score: 11", None),
        ("No idea.", None),
    ],
)
def test_scores_are_read_out_of_replies(reply, score):
    assert read_score(reply) == score


def test_agreement_is_that_of_scikit_learn():
    dice = np.random.default_rng(0)
    a = dice.integers(0, 11, 50).astype(float)
    b = np.clip(a + dice.integers(-2, 3, 50), 0, 10)
    found = agreement(a, b)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(a, b, weights="quadratic"))
    assert found["pearson"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found["mean_difference"] == pytest.approx((b - a).mean())
    assert agreement(np.array([np.nan]), np.array([1.0]))["n"] == 0


def test_prompts_hold_both_descriptions_on_one_line_each():
    for scale in ("clue", "label"):
        text = prompt(scale, "one $first\nline", "two")
        assert "Description 1: one $first line\n" in text and text.rstrip().endswith("two")
