"""A clock that nobody keeps is told the time by the backend, at the start and every few hours."""

import asyncio
import datetime
from pathlib import Path

import orjson
import pytest

from agent import enrolment
from agent.clock import FLOOR
from agent.contract import certificates
from agent.contract.registration import jwks, signed_time
from agent.contract.signing import SigningKey
from agent.enrolment.timekeeping import AGAIN_S, SPREAD, first_time
from agent.ports import LinkSettings
from agent.profile import Endpoint, Sync
from agent.sim.clock import SimulatedClock
from agent.store import trust
from tests.enrolment.helpers import profile_of
from tests.link.helpers import Authority, Play, PlayedServer, written

BACKEND = SigningKey.from_seed(b"b" * 32)
DAY = datetime.timedelta(days=1)
NONCE_AT = "GET /v1/time?nonce="


class Told(PlayedServer):
    """Signs the time for each nonce it is asked with."""

    moment = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
    key = BACKEND

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)  # type: ignore[arg-type]  # only counted
        nonce = head.removeprefix(NONCE_AT).split(" ")[0]
        time = signed_time(nonce, self.moment.isoformat().replace("+00:00", "Z"), self.key)
        writer.write(written(200, orjson.dumps(time.model_dump())))
        await writer.drain()
        return True


class Ending(SimulatedClock):
    """Ends after so many sleeps, and notes them."""

    def __init__(self, sleeps: int, quality: str) -> None:
        super().__init__(start=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), quality=quality)  # type: ignore[arg-type]
        self.left, self.slept = sleeps, list[float]()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError
        await super().sleep(seconds)


def kept(tmp_path: Path, clock: Ending, *, key: SigningKey = BACKEND, days_ago: int = 0) -> tuple[int, list[str]]:
    """How often the backend was asked, and what was said."""
    authority, said = Authority(tmp_path / "ca"), list[str]()

    async def main() -> int:
        context = authority.server(days=5, now=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago))
        server = Told([Play()], context)
        server.key = key
        async with server:
            state = tmp_path / "state"
            trust.write(state, jwks([BACKEND.public]), authority.pem)
            profile = profile_of("r", Sync(https=Endpoint(host="127.0.0.1", port=server.port)))
            task = asyncio.ensure_future(enrolment.keep_time(profile, state, clock, said.append))
            await asyncio.wait({task})
            assert task.cancelled()
        return len(server.asked)

    return asyncio.run(main()), said


def test_it_is_asked_at_the_start_and_every_few_hours(tmp_path: Path) -> None:
    clock = Ending(3, "none")
    asked, said = kept(tmp_path, clock, days_ago=20)  # an expired certificate is no obstacle here
    assert asked == 3
    assert clock.quality() == "signed"
    assert said == ["the time is 2026-12-01T00:00:00+00:00, by the backend's word"]
    assert all(AGAIN_S * (1 - SPREAD) <= seconds <= AGAIN_S * (1 + SPREAD) for seconds in clock.slept)
    assert clock.utc() - Told.moment < datetime.timedelta(seconds=5)


def test_what_nobody_trustworthy_signs_is_not_the_time(tmp_path: Path) -> None:
    clock = Ending(3, "none")
    asked, said = kept(tmp_path, clock, key=SigningKey.from_seed(b"x" * 32))
    assert (asked, said, clock.quality(), clock.utc().year) == (3, [], "none", 1970)
    assert max(clock.slept) < 60


class Strange(Told):
    """Shows its keys as well."""

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if len(self.asked) % 2:
            return await super()._answered(reader, writer)
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())  # type: ignore[arg-type]  # only counted
        writer.write(written(200, orjson.dumps({"keys": jwks([BACKEND.public])})))
        await writer.drain()
        return True


@pytest.mark.parametrize(
    ("made", "told", "believed"),
    [
        (FLOOR - 30 * DAY, FLOOR + DAY, True),
        (FLOOR - 30 * DAY, FLOOR - DAY, False),
        (FLOOR + 20 * DAY, FLOOR + 20 * DAY, True),
        (FLOOR + 20 * DAY, FLOOR + 10 * DAY, False),
    ],
)
def test_a_first_time_before_the_authority_began_is_none(
    tmp_path: Path, made: datetime.datetime, told: datetime.datetime, believed: bool
) -> None:
    authority = Authority(tmp_path / "ca", certificates.authority("played", made, 300))
    clock = SimulatedClock(start=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), quality="none")

    async def main() -> None:
        server = Strange([Play()], authority.server(days=5, now=made))
        server.moment = told
        async with server:
            await first_time(LinkSettings("demo", "r", "127.0.0.1", server.port, authority.pem), clock)
            assert len(server.asked) == 2

    asyncio.run(main())
    assert clock.quality() == ("signed" if believed else "none")


def test_what_is_no_certificate_begins_never() -> None:
    assert certificates.begun("") is None
    assert certificates.begun("x") is None


def test_a_synchronised_clock_asks_nobody(tmp_path: Path) -> None:
    assert kept(tmp_path, Ending(3, "ntp")) == (0, [])
