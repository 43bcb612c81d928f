"""Whatever anyone sends that the OpenAPI page allows, or almost allows: no 5xx, and every error in its one shape."""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from agent.clock import SystemClock
from tests.billing.helpers import TENANT, Backend
from tests.billing.serving import Web

EXAMPLES = int(os.environ.get("VOXMETER_SCHEMATHESIS_EXAMPLES", "12"))
"""For each operation; a campaign sets more."""

SEED = int(os.environ.get("VOXMETER_SCHEMATHESIS_SEED") or SystemClock().seed())

ENDLESS = ("/v1/usage/stream",)
"""Answers that never end; tests/billing/test_http_live.py reads them."""


class Loop:
    """An event loop in a thread, so that a synchronous tester can ask an app whose books belong to one loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def done(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Loop, Web, list[dict[str, str]]]]:
    """An app with one robot, and three ways to be somebody: nobody, the robot, the office."""
    loop = Loop()

    async def opened() -> tuple[Web, list[dict[str, str]]]:
        web = Web(Backend(tmp_path_factory.mktemp("books")))
        office = await web.key("usage:write", "statements:read", "admin", tenant=TENANT)
        return web, [{}, await web.robot(), office]

    async def closed(web: Web) -> None:
        await web.client.aclose()
        await web.backend.aclose()

    web, callers = loop.done(opened())
    yield loop, web, callers
    loop.done(closed(web))
    loop.close()


def test_no_question_makes_the_backend_fail(served: tuple[Loop, Web, list[dict[str, str]]], capsys: pytest.CaptureFixture[str]) -> None:
    loop, web, callers = served
    with capsys.disabled():
        print(f"schemathesis seed {SEED}, {EXAMPLES} examples each", end=" ")  # noqa: T201  so that a failure can be repeated
    schema = schemathesis.openapi.from_dict(web.api.openapi())
    asked = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.path in ENDLESS:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            asked += _tried(operation, mode, loop, web, callers)
    assert asked >= len(callers) * EXAMPLES * 5


def _tried(operation: Any, mode: GenerationMode, loop: Loop, web: Web, callers: list[dict[str, str]]) -> int:
    asked = 0

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        nonlocal asked
        for headers in callers:
            asked += 1
            _ask(case, headers, loop, web)

    try:
        hypothesis.given(case=operation.as_strategy(generation_mode=mode))(ask)()
    except hypothesis.errors.Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # there is nothing that could be wrong in it
    return asked


def _ask(case: Any, headers: dict[str, str], loop: Loop, web: Web) -> None:
    told = case.as_transport_kwargs(base_url=str(web.client.base_url))
    wanted = {name: told[name] for name in ("method", "url", "params", "json", "data") if told.get(name) is not None}
    if isinstance(wanted.get("data"), bytes | str):
        wanted["content"] = wanted.pop("data")
    answer = loop.done(web.client.request(**wanted, headers=_bytes({**dict(told["headers"]), **headers})))
    assert answer.status_code < 500, (answer.status_code, answer.text, case)
    if answer.status_code >= 400 and answer.status_code != 409:
        assert {"code", "message", "request_id", "latency"} <= set(answer.json())


def _bytes(headers: dict[Any, Any]) -> list[tuple[bytes, bytes]]:
    """As a careless client writes them: not all is ASCII."""
    return [(_encoded(name), _encoded(value)) for name, value in headers.items()]


def _encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")
