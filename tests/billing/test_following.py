"""Live streams: as long as the credential is good, and so many of one."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import pytest
from starlette.requests import HTTPConnection

from agent.billing.access.denied import TooMany
from agent.billing.access.grants import TOKEN_SECONDS
from agent.billing.http import following
from agent.billing.http.backend import Backend
from agent.billing.http.following import OF_ONE_MAX, Following
from agent.contract.jwt import LEEWAY_S
from tests.billing.helpers import Robot
from tests.billing.serving import Web, with_web

WAIT_S = 20


async def followed(web: Web, shown: str) -> Following:
    """By whoever shows that."""
    connection = HTTPConnection({"type": "http", "state": {"again": partial(web.access.who, shown)}})
    held: Backend = web.api.state.backend
    return Following(held, await web.access.who(shown), connection)


async def until_ended(stream: Following) -> int:
    """How many batches it saw."""
    seen = 0
    async with asyncio.timeout(WAIT_S):
        with stream.open() as watch:
            async for _ in stream.seen(watch):
                seen += 1
    return seen


def test_a_stream_ends_when_its_credential_is_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(web: Web) -> None:
        made = await web.access.create("office", ["statements:read"])
        stream = await followed(web, made["api_key"])
        ended = asyncio.create_task(until_ended(stream))
        await asyncio.sleep(0)
        await web.backend.take(Robot().begin().turns(1))
        await web.access.revoke(made["id"])
        web.clock.advance(following.HEARTBEAT_S)
        await web.backend.take(Robot().begin().turns(2))
        assert await ended == 1
        assert stream.ended[0] == 1008
        assert web.metrics.watchers == 0

    with_web(tmp_path, run)


def test_a_silent_stream_ends_when_its_token_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.01)

    async def run(web: Web) -> None:
        id_, _, secret = (await web.access.create("office", ["statements:read"]))["api_key"].removeprefix("vx_").partition("_")
        stream = await followed(web, (await web.access.grant(id_, secret))["access_token"])
        ended = asyncio.create_task(until_ended(stream))
        await asyncio.sleep(0.05)
        web.clock.advance(TOKEN_SECONDS - 1)
        await asyncio.sleep(0.05)
        assert not ended.done()
        web.clock.advance(LEEWAY_S + 2)
        assert await ended == 0
        assert stream.ended[0] == 1008

    with_web(tmp_path, run)


def test_a_stream_whose_credential_is_good_goes_on(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        stream = await followed(web, (await web.access.create("office", ["statements:read"]))["api_key"])
        ended = asyncio.create_task(until_ended(stream))
        await asyncio.sleep(0)
        for turns in (1, 2, 3):
            web.clock.advance(following.HEARTBEAT_S)
            await web.backend.take(Robot().begin().turns(turns))
        while web.metrics.watchers and not ended.done():
            web.backend.ingest.close()
            await asyncio.sleep(0)
        await ended
        assert stream.ended == (1001, "the backend stops")

    with_web(tmp_path, run)


def test_a_credential_follows_so_many_times_and_others_still_can(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        one, two = [(await web.access.create(name, ["statements:read"]))["api_key"] for name in ("one", "two")]
        late = await followed(web, one)
        with contextlib.ExitStack() as streams:
            for _ in range(OF_ONE_MAX):
                streams.enter_context((await followed(web, one)).open())
            with pytest.raises(TooMany, match=f"follows the usage {OF_ONE_MAX} times"):
                await followed(web, one)
            with pytest.raises(TooMany), late.open():
                pass
            streams.enter_context((await followed(web, two)).open())
        assert not web.api.state.backend.following
        await followed(web, one)

    with_web(tmp_path, run)
