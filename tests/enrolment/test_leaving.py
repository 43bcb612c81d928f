"""A robot leaves with nothing owed and nothing left behind; what is cut off is finished by the same command."""

import asyncio
import contextlib
import sqlite3
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from agent import enrolment
from agent.app import ledger_of
from agent.enrolment import leaving
from agent.enrolment.leaving import wipe
from agent.errors import BadInput, LedgerBusy, NoLink
from agent.link.auth import api_key
from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import LinkSettings
from agent.profile import Endpoint, Sync
from agent.sim.clock import SimulatedClock
from agent.sim.real.broker import HOST
from agent.store import trust
from agent.store.state import LOCK_FILE, Lock
from agent.store.waiting import waiting
from tests.enrolment.cuts import PowerCut, every_cut
from tests.enrolment.helpers import CLOCK, TENANT, House, Robot, profile_of
from tests.link.mqtt_helpers import confirming


def leave(robot: Robot, *, force: bool = False) -> dict[str, Any]:
    return robot.house.play(enrolment.decommission(robot.profile, robot.state, CLOCK, robot.said.append, force=force))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def with_books(robot: Robot) -> None:
    await ledger_of(robot.profile, robot.state, CLOCK).aclose()


async def with_news(robot: Robot, *topics: str) -> None:
    ledger = ledger_of(robot.profile, robot.state, CLOCK)
    for topic in topics:
        await ledger.post(topic, b'{"device":"x","reason":"asked for"}')
    await ledger.aclose()


def credentials(house: House, robot: Robot) -> list[dict[str, Any]]:
    return [one for one in house.order("keys list") if one.get("device") == robot.name]


def test_a_robot_leaves_and_nothing_of_it_stays(house: House) -> None:
    robot = house.enrolled()
    house.play(with_books(robot))
    pair, shown = robot.pair.read_bytes(), api_key(trust.api_key_file(robot.state))()
    assert leave(robot) == {"device": f"{TENANT}/{robot.name}", "lost": 0, "unsent": 0, "struck_off": True}
    assert names(robot.state) == []
    assert all(one["revoked"] for one in credentials(house, robot))
    actions = [one["action"] for one in house.order("audit")["entries"] if one["device"] == robot.name]
    assert "device.decommissioned" in actions
    house.broker.restart()
    kept = house.folder / f"{robot.name}.pem"
    kept.write_bytes(pair)
    assert robot.connects_until("refused", kept).word == "revoked"
    assert house.play(asked_with(house, robot, shown)) == (401, "revoked")
    assert house.play(asked_with(house, robot, "vx_0123456789abcdef_" + "A" * 43)) == (401, "unauthorized")


async def asked_with(house: House, robot: Robot, shown: str) -> tuple[int, str]:
    verify = ssl.create_default_context(cadata=house.backend.authority.decode())
    base = httpx.URL(scheme="https", host="127.0.0.1", port=house.backend.port)
    async with httpx.AsyncClient(base_url=base, verify=verify) as client:
        where = f"/v1/devices/{robot.name}/usage-state"
        answer = await client.get(where, params={"nonce": "n"}, headers={"Authorization": f"Bearer {shown}"})
    return answer.status_code, answer.json()["code"]


@pytest.mark.long
@pytest.mark.parametrize("ways", [("mqtt", "https"), ("https",)])
def test_events_that_wait_leave_first_and_those_who_watch_are_told(house: House, ways: tuple[str, ...]) -> None:
    robot = house.enrolled()
    robot.ways = ways
    house.play(with_news(robot, "event/handoff", "event/other"))
    seen: list[Incoming] = []

    async def story() -> dict[str, Any]:
        certificate, key = house.broker.client("operator/alice")
        settings = LinkSettings("-", "-", HOST, house.broker.port, house.broker.authority.decode(), certificate, key)
        desk = Mqtt(settings, "alice", CLOCK, [f"v1/{TENANT}/{robot.name}/state/presence"], confirming(seen))
        await desk.ready()
        told = await enrolment.decommission(robot.profile, robot.state, CLOCK, robot.said.append)
        while "mqtt" in ways and not seen:
            await asyncio.sleep(0.01)
        await desk.aclose()
        return told

    assert house.play(story())["unsent"] == 0
    if "mqtt" in ways:
        assert [(one.retained, orjson.loads(one.content)["why"]) for one in seen] == [(True, "decommissioned")]
    house.play(told_of(house, robot.name, ["handoff", "other"]))


async def told_of(house: House, robot: str, wanted: list[str]) -> None:
    """Until the backend has taken these off the broker; a story that takes too long fails."""
    store = house.backend.state
    names: list[str] = []
    while names != wanted:
        await asyncio.sleep(0.05)
        with contextlib.closing(sqlite3.connect(f"file:{next(store.glob('*.db'))}?mode=ro", uri=True)) as books:
            held = books.execute("SELECT event.name FROM event JOIN device ON device.id = device_id WHERE device.name = ?", (robot,))
            names = sorted(name for (name,) in held)


def test_events_that_nobody_takes_are_lost_by_force_alone(house: House) -> None:
    robot = house.robot()
    house.play(with_news(robot, "event/handoff"))
    with pytest.raises(NoLink, match="1 events and results wait on this robot"):
        leave(acked(robot))
    assert leave(robot, force=True)["unsent"] == 1


def acked(robot: Robot) -> Robot:
    """As if all records had been taken."""
    held = waiting(robot.state)
    with contextlib.closing(sqlite3.connect(robot.state / "ledger.db")) as books, books:
        books.execute("INSERT OR REPLACE INTO meta VALUES ('acked', ?)", (str(held["epochs"][-1]["last"]),))
    return robot


@pytest.mark.long
def test_events_go_by_another_link_where_the_broker_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "OUTBOX_S", 3.0)
    robot = house.enrolled()
    house.play(with_news(robot, "event/handoff"))
    house.broker.stop()
    try:
        assert leave(robot)["unsent"] == 0
    finally:
        house.broker.start()


def test_it_can_come_back_by_another_token(house: House) -> None:
    robot = house.enrolled()
    leave(robot)
    robot.enroll(house.token(robot.name))
    assert robot.connects(robot.pair).result == "taken"


def test_a_robot_that_can_t_tell_anybody_stays_as_it_is(house: House) -> None:
    robot = house.enrolled()
    house.play(with_books(robot))
    before = names(robot.state)
    robot.ways = ("https",)
    house.play(house.backend.stop())
    try:
        with pytest.raises(NoLink, match="--force gives them up"):
            leave(robot)
        assert [name for name in names(robot.state) if not name.startswith("ledger")] == [
            name for name in before if not name.startswith("ledger")
        ]
        told = leave(robot, force=True)
    finally:
        house.play(house.backend.start())
    assert (told["struck_off"], told["lost"] > 0) == (False, True)
    assert f"voxmeter billing revoke {TENANT}/{robot.name}" in robot.said[-1]
    assert names(robot.state) == []


def test_nothing_is_wiped_under_a_service_that_runs(house: House) -> None:
    robot = house.enrolled()
    lock = Lock(robot.state)
    try:
        for force in (False, True):
            with pytest.raises(LedgerBusy):
                leave(robot, force=force)
    finally:
        lock.release()
    assert robot.connects(robot.pair).result == "taken"


def test_after_a_power_cut_anywhere_the_same_command_ends_it(house: House) -> None:
    robots: list[Robot] = []

    def story() -> Callable[[], object]:
        robots.append(house.enrolled())
        house.play(with_books(robots[-1]))
        return lambda: leave(robots[-1])

    cuts = 0
    for _ in every_cut(story, lambda: leave(robots[-1])):
        cuts += 1
        assert names(robots[-1].state) == []
        assert all(one["revoked"] for one in credentials(house, robots[-1]))
    assert cuts > 6


def test_a_wipe_that_is_cut_off_at_any_file_took_keys_first_and_is_finished(tmp_path: Path) -> None:
    files = ["keys/usage", "keys/tls.pem", "keys/api", "trust.toml", "ledger.db", "text.db", "deep/er/file", "leaving", LOCK_FILE]
    for at in range(1, len(files) + 1):
        state = tmp_path / str(at)
        for name in files:
            (state / name).parent.mkdir(parents=True, exist_ok=True)
            (state / name).write_bytes(b"struck-off\n" if name == "leaving" else b"x")
        gone: list[str] = []

        def cut(path: Path, gone: list[str] = gone, state: Path = state, at: int = at) -> None:
            gone.append(str(path.relative_to(state)))
            if len(gone) == at:
                raise PowerCut

        with pytest.raises(PowerCut):
            wipe(state, cut)
        assert set(gone[:3]) <= {"keys/usage", "keys/tls.pem", "keys/api"}
        assert (state / "leaving").exists() == (at < len(files) - 1)
        told = asyncio.run(enrolment.decommission(profile_of("r", Sync()), state, SimulatedClock(), print))
        assert told["lost"] == 0
        assert names(state) == []


def test_a_robot_of_nobody_is_wiped_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    profile = profile_of("r", Sync())
    with pytest.raises(BadInput, match="no robot here"):
        asyncio.run(enrolment.decommission(profile, tmp_path / "nowhere", SimulatedClock(), print))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "text.db").write_bytes(b"words")
    told = asyncio.run(enrolment.decommission(profile, tmp_path / "state", SimulatedClock(), print))
    assert told["struck_off"] is False
    assert names(tmp_path / "state") == []


def test_one_that_can_t_read_whom_to_believe_is_wiped_by_force_alone(tmp_path: Path) -> None:
    profile, said, state = profile_of("r", Sync(https=Endpoint(host=HOST, port=1))), list[str](), tmp_path / "state"
    state.mkdir()
    (state / trust.TRUST_FILE).write_bytes(b"")
    with pytest.raises(BadInput, match=r"trust\.toml"):
        asyncio.run(enrolment.decommission(profile, state, SimulatedClock(), said.append))
    assert names(state) == [trust.TRUST_FILE]
    told = asyncio.run(enrolment.decommission(profile, state, SimulatedClock(), said.append, force=True))
    assert told["struck_off"] is False
    assert said[-1].startswith("the backend still knows this robot: ")
    assert names(state) == []
