"""Replies of misbehaving servers: none lost, none paid twice, no failure a text."""

import json
import signal
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from chat_stub import ChatStub, openai_module

from mmvlm.evaluation.chat_client import (
    ChatClient,
    Endpoint,
    EndpointError,
    ReplyCache,
    Usage,
    _seconds,
    request_key,
)


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", openai_module())
    stub = ChatStub(lambda body: f"to {body['messages'][0]['content']}")
    yield stub
    stub.close()


@pytest.fixture
def client(stub, tmp_path):
    def client(**options):
        options = {"retries": 3, "pause": 0.01, "timeout": 5, **options}
        endpoint = Endpoint(stub.url, "judge-1", **options)
        return ChatClient(endpoint, tmp_path / "cache.jsonl")

    return client


def ask(client, count, **options):
    bodies = [
        client.endpoint.body([dict(role="user", content=f"q{number}")], temperature=0)
        for number in range(count)
    ]
    return client.ask(bodies, **options)


def test_replies_come_in_order_and_are_kept(client, stub, tmp_path):
    first = client(price=(2.0, 5.0))

    replies = ask(first, 20)

    assert [one.text for one in replies] == [f"to q{n}" for n in range(20)]
    cost = (200 * 2.0 + 40 * 5.0) / 1e6
    assert first.usage == Usage(20, 0, 0, 200, 40, pytest.approx(cost))
    assert {one.model for one in replies} == {"stub-1"}
    again = client()
    assert ask(again, 20) == replies
    assert again.usage.cached == 20 and len(stub.bodies) == 20
    rows = (tmp_path / "cache.jsonl").read_text().splitlines()
    assert len(rows) == 20 and set(json.loads(rows[0])) >= {"key", "time", "reply"}


def test_equal_requests_are_paid_once_and_runs_are_told_apart(client, stub):
    one = client()
    body = one.endpoint.body([dict(role="user", content="same")])

    assert {reply.text for reply in one.ask([body] * 5)} == {"to same"}
    assert len(stub.bodies) == 1

    one.ask([body], run=1)
    one.ask([body], attempt=1)
    assert len(stub.bodies) == 3
    other = dict(body, temperature=0.5)
    assert len({request_key(body), request_key(other), request_key(body, 1)}) == 3


@pytest.mark.parametrize("fault", [429, 500, 503, "cut", "nonsense"])
def test_faults_that_pass_are_asked_again(client, stub, fault):
    stub.plan = [fault, fault]
    one = client(concurrency=1)

    assert [reply.text for reply in ask(one, 2)] == ["to q0", "to q1"]
    assert len(stub.bodies) == 4 and one.usage.failed == 0


def test_a_silent_server_is_given_up_after_the_time_limit(client, stub):
    stub.plan = ["silence"]
    begin = time.monotonic()

    (reply,) = ask(client(timeout=0.3), 1)

    assert reply.text == "to q0"
    assert 0.3 <= time.monotonic() - begin < 5


@pytest.mark.parametrize("fault", [500, "cut", "nonsense"])
def test_faults_that_stay_are_counted_not_kept_and_asked_later(client, stub, fault):
    stub.plan = [fault] * 4
    one = client(concurrency=1)

    lost, kept = ask(one, 2)

    assert lost.text is None and lost.error and not lost.refused
    assert kept.text == "to q1" and one.usage.failed == 1
    assert [reply.text for reply in ask(client(), 2)] == ["to q0", "to q1"]
    assert max(stub.paid.values()) == 1


def test_retry_after_is_honoured(client, stub):
    stub.plan = [(429, 0.4)]

    ask(client(pause=30), 1)

    assert 0.4 <= stub.times[1] - stub.times[0] < 5
    assert _seconds("7") == 7 and _seconds("soon") is None and _seconds(None) is None
    assert 3590 < _seconds(formatdate(time.time() + 3600, usegmt=True)) <= 3600


def test_pauses_double_without_it(client, stub):
    stub.plan = [500, 500, 500]

    ask(client(pause=0.1), 1)

    pauses = [two - one for one, two in zip(stub.times, stub.times[1:], strict=False)]
    assert [0.07 * 2**n <= pause for n, pause in enumerate(pauses)] == [True] * 3


def test_a_refused_request_is_not_sent_again(client, stub):
    stub.plan = [400]
    lost, kept = ask(client(concurrency=1), 2)

    assert lost.refused and "stub says no" in lost.error
    assert kept.text == "to q1" and len(stub.bodies) == 2


def test_a_wrong_key_ends_everything_and_the_message_cures(client, stub, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    stub.plan = [401] * 9

    with pytest.raises(EndpointError, match=r"answers 401 .*'judge-1'.*MY_KEY"):
        ask(client(key_env="MY_KEY", concurrency=2), 9)

    assert set(stub.keys) == {"Bearer secret"}
    assert len(stub.bodies) < 9


def test_options_win_and_none_drops_a_field(client):
    endpoint = client(options=dict(temperature=None, seed=3)).endpoint

    body = endpoint.body([], temperature=0.2, max_tokens=5)

    assert body == dict(model="judge-1", messages=[], max_tokens=5, seed=3)


def test_without_a_url_nobody_is_asked(client, tmp_path):
    path = tmp_path / "cache.jsonl"
    with pytest.raises(ValueError, match=r"replies of 0 models \(none\): name one"):
        ChatClient(Endpoint(), path)
    ask(client(), 2)

    offline = ChatClient(Endpoint(), path)

    assert [one.text for one in ask(offline, 3)] == ["to q0", "to q1", None]
    assert offline.endpoint.model == "judge-1" and offline.usage.failed == 1


def test_a_torn_line_costs_its_own_reply_only(client, stub, tmp_path):
    ask(client(), 3)
    path = tmp_path / "cache.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    assert len(ReplyCache(path)) == 2
    ask(client(), 3)

    assert len(stub.bodies) == 4
    assert len(ReplyCache(path)) == 3


def test_wrong_endpoints_are_refused():
    with pytest.raises(ValueError, match="expected a URL"):
        Endpoint("localhost:8000", "m")
    with pytest.raises(ValueError, match="name the model"):
        Endpoint("http://localhost:8000/v1")
    with pytest.raises(ValueError, match="concurrency >= 1"):
        Endpoint(concurrency=0)


def test_a_missing_package_is_named_with_its_cure(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openai", None)

    with pytest.raises(ImportError, match=r"pip install -r requirements/judge\.txt"):
        ChatClient(Endpoint("http://127.0.0.1:1/v1", "m"), tmp_path / "cache.jsonl")


ASKING = """
import sys
sys.path.append("..")
from chat_stub import openai_module
sys.modules["openai"] = openai_module()
from test_chat_client import ask
from mmvlm.evaluation.chat_client import ChatClient, Endpoint
ask(ChatClient(Endpoint(sys.argv[1], "judge-1", concurrency=3), sys.argv[2]), 30)
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_pays_for_nothing_twice(client, stub, tmp_path):
    # Seventeen replies arrive; what is asked then hangs until the kill.
    stub.plan = ["ok"] * 17 + ["silence"] * 3
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING, stub.url, str(tmp_path / "cache.jsonl")],
        cwd=Path(__file__).parent,
    )
    deadline = time.monotonic() + 120
    path = tmp_path / "cache.jsonl"
    while len(stub.bodies) < 20 or path.read_bytes().count(b"\n") < 17:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    replies = ask(client(), 30)

    assert [one.text for one in replies] == [f"to q{n}" for n in range(30)]
    assert set(stub.paid.values()) == {1} and len(stub.paid) == 30
