"""Events over HTTPS, for a robot that has no broker: what is given up, what waits, what never leaves."""

from typing import Any

import orjson
import pytest

from agent.link.https import HttpsLink
from agent.ports import Poster, Refused, Retry
from tests.link.helpers import Authority, Play, PlayedServer, written
from tests.link.https_helpers import QUICK_MS, played

BODY = b'{"reason":"asked for"}'


def answer(trusted: Authority, play: Play, **more: Any) -> tuple[Retry | Refused | None, PlayedServer]:
    answers: list[Retry | Refused | None] = []

    async def script(link: HttpsLink, server: PlayedServer) -> None:
        assert isinstance(link, Poster)
        answers.append(await link.post("event/handoff", BODY))

    server = played(trusted, [play], script, **more)
    return answers[0], server


def test_an_event_is_posted_as_it_would_be_published(trusted: Authority) -> None:
    told, server = answer(trusted, Play(written(200, b"{}")))
    assert told is None
    (asked,) = server.asked
    assert asked.line.startswith("POST /v1/devices/robot/events ")
    assert orjson.loads(asked.body) == {"topic": "event/handoff", "body": orjson.loads(BODY)}
    assert asked.headers["authorization"] == "Bearer vx_1_secret"


ERROR = orjson.dumps({"code": "bad-request", "message": "body: no"})


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_wrong_with_the_event_itself_is_final(trusted: Authority, status: int) -> None:
    assert isinstance(answer(trusted, Play(written(status, ERROR)))[0], Refused)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 409, 429, 500, 503])
def test_all_else_may_pass(trusted: Authority, status: int) -> None:
    assert isinstance(answer(trusted, Play(written(status, ERROR)))[0], Retry)


def test_whoever_asks_for_patience_gets_it(trusted: Authority) -> None:
    told, _ = answer(trusted, Play(written(429, ERROR, Retry_After="7")))
    assert isinstance(told, Retry)
    assert told.after_ms == 7000


def test_a_server_that_hangs_is_tried_again(trusted: Authority) -> None:
    assert isinstance(answer(trusted, Play(then="hang"), wait_ms=QUICK_MS)[0], Retry)


def test_what_a_broker_would_keep_never_leaves(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        for topic, retained in (("state/birth", True), ("twin/reported", True), ("state/telemetry", False), ("event/x", True)):
            assert isinstance(await link.post(topic, b"{}", retained=retained), Refused)

    assert played(trusted, [Play(written(200))], script).asked == []
