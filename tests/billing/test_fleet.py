"""What robots tell besides their books: kept once, counted whatever the rate, never more than there is room for."""

import asyncio
import datetime
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.billing import fleet as rooms
from agent.billing.access import Access, audit, credentials
from agent.billing.access.credentials import Principal
from agent.billing.access.denied import TooMany, UnknownDevice
from agent.billing.access.tables import AUDIT
from agent.billing.fleet import BURST, Fleet, Reply, books, noticing
from agent.billing.fleet.hearing import said
from agent.billing.fleet.noticing import Noticing
from agent.billing.fleet.silence import ALARM_S_MAX, Habit
from agent.billing.fleet.tables import ALARM, EVENT, SEEN, WEBHOOK
from agent.billing.fleet.telling import DAYS_MAX, Telling, waiting
from agent.billing.http.metrics import Attended, Metrics
from agent.contract import wire
from agent.contract.batch import sign
from agent.contract.canonical import INTEGER_MAX
from agent.contract.fleet import alarm, command, presence, twin
from agent.contract.fleet.twin import AHEAD_MAX
from agent.contract.registration import SignedTime, time_message
from agent.contract.signing import decode, verify
from agent.errors import BadInput
from agent.ports import Retry
from tests.billing.helpers import BACKEND_KEY, KEY, NAME, TENANT, Backend, Robot, with_backend
from tests.billing.serving import Web, error, with_web

DEVICE = f"{TENANT}/{NAME}"
CMD = "01890a5d-ac96-774b-bcce-b302099a8057"
HANDOFF = b'{"device":"sim-1","reason":"asked for","session_id":"s","turn_id":"t"}'
SINCE = "2026-11-27T10:00:00Z"


def raised(name: str = "backlog", state: Any = "raised", since: str = SINCE) -> bytes:
    return alarm.written(alarm.Alarm(name=name, state=state, device=DEVICE, since=since, message="it waits"))


def refused(code: str = "bad-signature", count: int = 1, last: str = SINCE) -> bytes:
    return alarm.written(alarm.Refusals(code=code, count=count, last=last))


def result(state: Any = "succeeded", **more: Any) -> bytes:
    return command.written(command.Result(cmd_id=CMD, device=DEVICE, op="ping", seq=1, state=state, **more))


def birth(nonce: str = "n-1") -> bytes:
    born = presence.Birth(
        device=DEVICE, conn_id=presence.ConnId(boot=1, connect=1), nonce=nonce, software="1", profile="kiosk", clock="none"
    )
    return presence.written(born)


def reported(version: int) -> bytes:
    return twin.written(twin.Reported(version=version, state="applied", in_force=version))


class Wanted:
    """A twin for everybody."""

    version = 3

    async def signed_for(self, tenant: str, device: str, /) -> tuple[int, bytes] | None:
        return self.version, b"twin of %s/%s" % (tenant.encode(), device.encode())


class World:
    """A backend, its fleet, and what it said."""

    def __init__(self, backend: Backend, **more: Any) -> None:
        self.backend, self.said, self.woken = backend, list[str](), 0
        self.fleet = Fleet(backend.store, BACKEND_KEY, backend.clock, hooked=self.wake, say=self.said.append, **more)

    def wake(self) -> None:
        self.woken += 1

    async def hear(self, what: str, content: bytes, **more: Any) -> list[Reply]:
        return await self.fleet.hear(TENANT, NAME, what, content, **more)

    async def lines(self) -> list[tuple[str, dict[str, Any]]]:
        return [(action, orjson.loads(told)) for action, told in await self.backend.rows(AUDIT, "action", "told")]

    async def counted(self, action: str) -> int:
        return sum(told.get("count", 0) for done, told in await self.lines() if done == action)

    def noticing(self, **more: Any) -> Noticing:
        return Noticing(self.fleet, self.backend.store, self.backend.clock, say=self.said.append, **more)


def with_world(folder: Path, run: Callable[[World], Awaitable[None]], **more: Any) -> None:
    async def story(backend: Backend) -> None:
        await run(World(backend, **more))

    with_backend(folder, story)


def test_an_event_that_comes_again_is_one_event(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for content in (HANDOFF, HANDOFF, b'{"turn_id":"t","session_id":"s","reason":"asked for","device":"sim-1"}'):
            assert await world.hear("event/handoff", content) == []
        await world.hear("event/handoff", HANDOFF.replace(b'"t"', b'"u"'))
        assert [name for (name,) in await world.backend.rows(EVENT, "name")] == ["handoff", "handoff"]
        assert world.fleet.counts == Counter(event=4, again=2)
        assert await world.lines() == []

    with_world(tmp_path, story)


def test_alarms_refusals_and_results_stand_on_the_audit_log_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for _ in range(2):
            await world.hear("event/alarm", raised())
            await world.hear("event/refused", refused(count=40))
            for state in ("accepted", "running", "succeeded"):
                await world.hear(f"cmd/res/{CMD}", result(state))
        await world.hear("event/alarm", raised(state="cleared"))
        assert [(action, told["code"], told["count"]) for action, told in await world.lines()] == [
            ("alarm.raised", "backlog", 1),
            ("command.refused", "bad-signature", 40),
            ("command.result", "succeeded", 1),
            ("alarm.cleared", "backlog", 1),
        ]
        assert await world.backend.store.read(audit.first_broken) is None
        assert [orjson.loads(body)["state"] for (body,) in await world.backend.rows(WEBHOOK, "body")] == ["raised", "cleared"]
        assert (world.woken, len(world.said)) == (2, 2)
        assert await world.backend.rows(ALARM, "name", "state") == [("backlog", "cleared")]

    with_world(tmp_path, story)


def test_an_alarm_that_was_cleared_is_not_raised_by_what_comes_late(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.hear("event/alarm", raised(state="cleared", since="2026-11-27T10:00:02Z"))
        await world.hear("event/alarm", raised(since="2026-11-27T10:00:01Z"))
        assert await world.backend.rows(ALARM, "state") == [("cleared",)]
        assert len(await world.lines()) == 2
        world.backend.clock.advance(61)
        await world.hear("event/alarm", raised(since="1970-01-01T00:00:00Z"))
        assert await world.backend.rows(ALARM, "state") == [("raised",)]

    with_world(tmp_path, story)


@pytest.fixture
def few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "LINES_BURST", LINES)


LINES = 20


@pytest.mark.usefixtures("few_lines")
def test_every_refusal_is_counted_whatever_the_rate(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(LINES + 300):
            await world.hear("event/refused", refused(count=2, last=f"at {number}"))
        assert await world.counted("command.refused") == 2 * LINES
        await world.noticing().sweep()
        assert await world.counted("command.refused") == 2 * (LINES + 300)
        world.backend.clock.advance(3600)
        await world.hear("event/refused", refused(count=5))
        assert await world.counted("command.refused") == 2 * (LINES + 300) + 5

    with_world(tmp_path, story)


@pytest.mark.usefixtures("few_lines")
def test_invented_reasons_do_not_fill_the_books(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(LINES + 2 * books.CODES_MAX):
            await world.hear("event/refused", refused(f"code-{number}"))
            await world.hear("event/alarm", raised(f"alarm-{number}"))
        lines = len(await world.lines())
        await world.noticing().sweep()
        assert len(await world.lines()) - lines <= books.CODES_MAX + 4
        assert await world.counted("command.refused") == LINES + 2 * books.CODES_MAX
        assert await world.backend.rows(ALARM) == []

    with_world(tmp_path, story)


def test_a_flood_is_dropped_and_said_once_and_others_are_heard(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.backend.register("sim-2", Robot(name="sim-2", key=BACKEND_KEY).key)
        floods = 0
        for number in range(BURST + 50):
            try:
                await world.hear("state/telemetry", presence.written(presence.Telemetry(device=DEVICE, uptime_s=number)))
            except TooMany as flooded:
                floods += flooded.after_ms > 0
        assert floods == world.fleet.counts["flooded"] == 50
        assert world.said == [f"{DEVICE} tells more than 5 things a second; what is beyond is dropped"]
        await world.fleet.hear(TENANT, "sim-2", "event/handoff", HANDOFF)
        world.backend.clock.advance(1)
        await world.hear("event/handoff", HANDOFF)

    with_world(tmp_path, story)


def test_only_the_newest_events_of_a_robot_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "EVENTS_KEPT", 10)

    async def story(world: World) -> None:
        for number in range(30):
            await world.hear("event/x", b'{"n":%d}' % number)
        assert [body for (body,) in await world.backend.rows(EVENT, "body")] == [f'{{"n":{number}}}' for number in range(20, 30)]
        world.backend.clock.advance(books.EVENTS_DAYS * 24 * 3600 + 1)
        await world.noticing().sweep()
        assert await world.backend.rows(EVENT) == []

    with_world(tmp_path, story)


def test_a_birth_is_answered_with_the_time_and_the_twin_it_lacks(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        told, wanted = await world.hear(wire.BIRTH, birth(), retained=True)
        time = SignedTime.model_validate_json(told.content)
        assert (told.what, told.retained, time.nonce, time.key) == (wire.TIME, False, "n-1", BACKEND_KEY.key_id)
        assert verify(BACKEND_KEY.public, time_message("n-1", time.time), decode(time.signature))
        assert wanted == Reply(wire.DESIRED, f"twin of {DEVICE}".encode(), retained=True)
        assert await world.hear(wire.REPORTED, reported(2), retained=True) == [wanted]
        assert await world.hear(wire.REPORTED, reported(3), retained=True) == []
        assert [one.what for one in await world.hear(wire.BIRTH, birth("n-2"))] == [wire.TIME]
        assert await world.hear(wire.PRESENCE, b'{"device":"%s","conn_id":{"boot":1,"connect":1},"online":false}' % DEVICE.encode()) == []
        (row,) = await world.backend.rows(SEEN, "birth", "presence", "reported")
        assert (orjson.loads(row[0])["nonce"], orjson.loads(row[1])["online"], row[2]) == ("n-2", False, 3)

    with_world(tmp_path, story, twins=Wanted())


GARBAGE = [
    ("event/handoff", b""),
    ("event/handoff", b"no json"),
    ("event/handoff", b"[1]"),
    ("event/handoff", b"[" * 16_000),
    ("event/handoff", b'{"a":"\xff"}'),
    ("event/handoff", b'{"a":"' + b"x" * wire.EVENT_BYTES_MAX + b'"}'),
    ("event/Hand off", HANDOFF),
    ("event/", HANDOFF),
    ("event", HANDOFF),
    ("event/alarm", HANDOFF),
    ("event/alarm", raised().replace(DEVICE.encode(), b"demo/other")),
    ("event/alarm", raised(state="raised").replace(b'"raised"', b'"shouted"')),
    ("event/refused", b'{"code":"x","count":-1}'),
    ("event/refused", b'{"code":"x","count":1e999}'),
    ("cmd/res/other", result()),
    (f"cmd/res/{CMD}", result().replace(DEVICE.encode(), b"demo/other")),
    (f"cmd/res/{CMD}", b'{"a":"' + b"x" * command.RESULT_BYTES_MAX + b'"}'),
    ("state/birth", b"{}"),
    ("state/birth", birth().replace(DEVICE.encode(), b"demo/other")),
    ("state/presence", HANDOFF),
    ("state/telemetry", b'{"device":"' + DEVICE.encode() + b'","uptime_s":-5}'),
    ("twin/reported", reported(1).replace(b":1", b":1.5")),
    ("twin/reported", b" " * 70_000),
    ("usage/ack", HANDOFF),
    ("twin/desired", HANDOFF),
]


@pytest.mark.parametrize(("what", "content"), GARBAGE, ids=[f"{number}-{one[0]}" for number, one in enumerate(GARBAGE)])
def test_garbage_is_nothing_anybody_can_use(what: str, content: bytes) -> None:
    with pytest.raises(BadInput) as raised_:
        said(TENANT, NAME, what, content)
    assert "\n" not in str(raised_.value)


def test_an_event_is_never_retained_and_a_robot_never_speaks_for_the_backend() -> None:
    with pytest.raises(BadInput, match="retained"):
        said(TENANT, NAME, "event/handoff", HANDOFF, retained=True)
    found = said(TENANT, NAME, "event/alarm", raised().replace(b'"by":"robot"', b'"by":"backend"')).told
    assert isinstance(found, alarm.Alarm)
    assert found.by == "robot"


def test_a_robot_nobody_registered_is_not_heard(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        with pytest.raises(UnknownDevice):
            await world.fleet.hear(TENANT, "nobody", "event/handoff", HANDOFF)
        assert await world.backend.rows(EVENT) == []

    with_world(tmp_path, story)


def test_a_fork_and_a_gap_raise_an_alarm_each_once_over_restarts(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.noticing().look()
        robot, clone = Robot().begin().turns(4), Robot().begin().turns(4)
        robot.turns(3, "mine")
        clone.turns(3, "theirs")
        await world.backend.take(robot)
        assert (await world.backend.offer(clone, clone.batch(3, 8))).fork
        lost = Robot(epoch="f" * 32).begin().turns(6)
        hashes = {"h_before": lost.hashes[1].hex(), "h_last": lost.hashes[3].hex()}
        lost.append("gap", {"epoch": lost.epoch, "first": 2, "last": 3, "reason": "damaged"} | hashes)
        await world.backend.take(lost, lost.batch(without=[(2, 3)]))
        for _ in range(3):
            await world.noticing().look()
        alarms = [(orjson.loads(body)["name"], orjson.loads(body)["by"]) for (body,) in await world.backend.rows(WEBHOOK, "body")]
        assert sorted(alarms) == [("fork", "backend"), ("gap", "backend")]
        assert [line.split(":")[2] for line in sorted(world.said)] == [" fork raised", " gap raised"]
        assert {told["code"] for action, told in await world.lines() if action == "alarm.raised"} == {"fork", "gap"}

    with_world(tmp_path, story)


def test_a_twin_nobody_gave_is_said_once_and_not_noted(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        far = Wanted.version + AHEAD_MAX + 1
        await world.hear("twin/reported", reported(far - 1))
        for _ in range(3):
            await world.hear("twin/reported", reported(far))
        await world.hear("twin/reported", reported(INTEGER_MAX))
        assert await world.backend.rows(SEEN, "reported") == [(far - 1,)]
        assert world.said == [f"{DEVICE} reports version {far} of its twin, which nobody gave it; that counts nothing"]
        assert world.fleet.counts["ahead"] == 4

    with_world(tmp_path, story, twins=Wanted())


def test_what_was_found_before_alarms_were_there_raises_none(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.backend.take(Robot().begin().turns(3))
        await world.backend.offer(Robot().begin().turns(3, "other"))
        await world.noticing().look()
        await world.noticing().look()
        assert world.said == []

    with_world(tmp_path, story)


def test_who_is_silent_for_longer_than_usual_is_an_alarm_until_heard_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        clock, watching = world.backend.clock, world.noticing()

        async def pass_(hours: float) -> list[str]:
            clock.advance(hours * 3600)
            before = len(world.said)
            await watching.note()
            return [line.split(": ")[2] for line in world.said[before:]]

        await world.hear(wire.BIRTH, birth())
        assert await pass_(0) == []
        assert await pass_(2.9) == []
        assert await pass_(0.2) == ["silent raised"]
        assert await pass_(9) == []
        await world.hear("event/handoff", HANDOFF)  # it may have waited at the broker for days
        assert await pass_(0) == []
        world.fleet.heard(TENANT, NAME)
        assert await pass_(0) == ["silent cleared"]
        assert await pass_(12) == []  # a night is usual now
        world.fleet.heard(TENANT, NAME)
        await pass_(0)
        watching = world.noticing(listening=lambda: False)
        assert await pass_(1000) == []

    with_world(tmp_path, story)


def test_who_was_struck_off_is_silent_in_peace_and_nobody_mutes_its_own_alarm(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        clock, store, watching = world.backend.clock, world.backend.store, world.noticing()
        access = Access(store, BACKEND_KEY, clock)
        robot = Principal("0" * 16, "robot", TENANT, NAME, frozenset({"usage:write"}))
        office = Principal("1" * 16, "office", TENANT, "", frozenset({"usage:write"}))
        for one in (robot, office):
            await store.write(lambda connection, one=one: credentials.add(connection, one, clock.utc(), secret_hash=b"x"))  # type: ignore[misc]
        gone = presence.Presence(device=DEVICE, online=False, conn_id=presence.ConnId(boot=1, connect=1), why="decommissioned")
        await world.hear("state/presence", presence.written(gone))
        await watching.note()
        clock.advance(4 * 3600)
        await watching.note()
        await access.robots.revoke(TENANT, NAME)
        for _ in range(3):
            await watching.note()
            clock.advance(400 * 3600)
        assert [line.split(": ", 2)[2].split(" since")[0] for line in world.said] == [
            "silent raised: not heard",
            "silent cleared: it was struck off",
        ]
        again = replace(robot, id="2" * 16)
        await store.write(lambda connection: credentials.add(connection, again, clock.utc(), secret_hash=b"x"))
        await watching.note()
        assert len(world.said) == 3

    with_world(tmp_path, story)


def test_what_a_robot_adds_to_an_alarm_takes_no_name_of_the_webhooks(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.hear("event/alarm", raised().replace(b"{", b'{"id":"x","received":"never",', 1))
        ((id_, body),) = await world.backend.rows(WEBHOOK, "id", "body")
        told = orjson.loads(body)
        assert told["id"] == id_
        assert told["received"] == audit.stamp(world.backend.clock.utc())

    with_world(tmp_path, story)


def test_whoever_sends_its_books_is_heard_and_whoever_is_refused_is_not(tmp_path: Path) -> None:
    async def story(backend: Backend) -> None:
        heard: list[tuple[str, str]] = []
        access = Access(backend.store, BACKEND_KEY, backend.clock)
        taking = Attended(backend.ingest, access, Metrics(), backend.clock, lambda *who: heard.append(who))
        batch = Robot().begin().batch()
        await taking.take(TENANT, NAME, batch.content, {})
        assert heard == []
        await taking.take(TENANT, NAME, batch.content, sign(batch, KEY))
        assert heard == [(TENANT, NAME)]

    with_backend(tmp_path, story)


def test_a_habit_learns_at_once_and_forgets_slowly() -> None:
    start = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    habit = Habit(start)
    assert habit.patience_s == 3 * 3600
    habit = habit.again(start + datetime.timedelta(hours=60))
    assert habit.span_s == 60 * 3600
    for _ in range(7 * 24 * 60):
        habit = habit.again(habit.heard + datetime.timedelta(minutes=1))
    assert habit.span_s == pytest.approx(30 * 3600, rel=0.05)
    assert habit.again(start).heard == habit.heard
    assert Habit(start, 10**9).patience_s == ALARM_S_MAX


class Receiver:
    """Answers as told."""

    host = "receiver"

    def __init__(self, *plays: Retry | None) -> None:
        self.plays, self.got = list(plays), list[str]()

    async def post(self, id_: str, body: bytes) -> Retry | None:
        assert orjson.loads(body)["id"] == id_
        self.got.append(orjson.loads(body)["name"])
        return self.plays.pop(0) if self.plays else None


async def told_all(world: World, telling: Telling) -> None:
    running = asyncio.ensure_future(telling.run())
    async with asyncio.timeout(20):
        while await world.backend.store.read(waiting):
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_alarms_wait_for_a_receiver_and_are_told_at_least_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for name in ("fork", "gap", "budget"):
            await world.hear("event/alarm", raised(name))
        receiver = Receiver(Retry("status 500"), Retry("status 500"), Retry("no answer within 10 s", 9000))
        before = world.backend.clock.monotonic()
        await told_all(world, Telling(world.backend.store, receiver, world.backend.clock, world.said.append))
        assert receiver.got == ["fork", "gap", "budget", "fork", "gap", "budget"]
        assert world.backend.clock.monotonic() - before >= 9
        assert world.said[3:] == [
            "the webhook at receiver does not take alarms: status 500; they wait",
            "the webhook at receiver does not take alarms: no answer within 10 s; they wait",
            "the webhook at receiver listens again",
        ]

    with_world(tmp_path, story)


def test_an_alarm_nobody_takes_holds_up_no_other_and_is_given_up_after_a_week(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        class Picky(Receiver):
            async def post(self, id_: str, body: bytes) -> Retry | None:
                await super().post(id_, body)
                if b'"fork"' not in body:
                    return None
                world.backend.clock.advance(24 * 3600)
                return Retry("status 400")

        receiver = Picky()
        for name in ("fork", "gap", "budget"):
            await world.hear("event/alarm", raised(name))
        await told_all(world, Telling(world.backend.store, receiver, world.backend.clock))
        assert receiver.got == ["fork", "gap", "budget"] + ["fork"] * (DAYS_MAX - 1)
        assert (await world.lines())[-1][0] == "webhook.given-up"

    with_world(tmp_path, story)


def test_a_dead_receiver_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "WAITING_MAX", 5)

    async def story(world: World) -> None:
        for number in range(12):
            await world.hear("event/alarm", raised(since=f"{number}"))
        since = [orjson.loads(body)["since"] for (body,) in await world.backend.rows(WEBHOOK, "body")]
        assert since == ["7", "8", "9", "10", "11"]

    with_world(tmp_path, story)


def test_a_look_that_fails_is_said_and_tried_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        watching, looked = world.noticing(), asyncio.Event()
        held = {watching.look: 0}

        async def broken() -> None:
            held[watching.look] += 1
            looked.set() if held[watching.look] > 2 else None
            raise KeyError("role")

        watching._due, watching._every = {broken: 0.0}, {broken: noticing.LOOK_S}
        running = asyncio.ensure_future(watching.run())
        async with asyncio.timeout(20):
            await looked.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert world.said[0] == "the fleet's book: KeyError: 'role'; report this"

    with_world(tmp_path, story)


def test_events_over_https_are_the_same_events(tmp_path: Path) -> None:
    async def story(web: Web) -> None:
        robot, people = await web.robot(), await web.key("fleet:command", tenant=TENANT)
        path = f"/v1/devices/{NAME}/events"
        for _ in range(2):
            told = await web.client.post(path, headers=robot, json={"topic": "event/handoff", "body": orjson.loads(HANDOFF)})
            assert (told.status_code, told.json()) == (200, {"taken": "event/handoff"})
        assert (await web.client.post(path, headers=robot, json={"topic": f"cmd/res/{CMD}", "body": orjson.loads(result())})).is_success
        for topic, body, status in (
            ("state/birth", {}, 422),
            ("event/../x", {}, 422),
            ("event/alarm", {}, 400),
            ("event/x", {"n": 2**80}, 400),
            ("event/x", {"a": "x" * 20_000}, 400),
            ("event/x", [], 422),
        ):
            assert (await web.client.post(path, headers=robot, json={"topic": topic, "body": body})).status_code == status
        other = await web.client.post("/v1/devices/other/events", headers=robot, json={"topic": "event/x", "body": {}})
        assert (other.status_code, error(other)) == (403, "forbidden")
        assert (await web.client.post(path, headers=people, json={"topic": "event/x", "body": {}})).status_code == 403
        assert (await web.client.post(path, json={"topic": "event/x", "body": {}})).status_code == 401
        shown = (await web.client.get("/v1/fleet/events", headers=people)).json()
        assert [(one["name"], one["device"]) for one in shown["events"]] == [("handoff", NAME), ("result", NAME)]
        page = (await web.client.get("/v1/fleet/events?limit=1&name=handoff", headers=people)).json()
        assert (len(page["events"]), page.get("next")) == (1, None)
        assert (await web.client.get("/v1/fleet/events", headers=await web.key("fleet:command", tenant="x"))).json() == {"events": []}
        assert (await web.client.get("/v1/fleet/events", headers=robot)).status_code == 403

    with_web(tmp_path, story)
