"""A robot that is there is told so, once per connection and as it is; what is older never passes for what is newer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import wire
from agent.contract.fleet.presence import present, read_birth, read_presence, read_sync
from agent.errors import LedgerDamaged
from agent.fleet.presence import AGAIN_SECONDS, Facts, Presence, Taken
from agent.ports import Refused, Retry
from agent.sim.clock import SimulatedClock
from tests.fleet.scripted_link import ScriptedLink, Sent

ROBOT = "demo/r1"
ALL = [wire.BIRTH, wire.PRESENCE, wire.SYNC, wire.REPORTED]


async def took() -> Taken:
    return Taken({"key": 7}, ["c-1"])


def presence_of(boot: int = 3, say: Callable[[str], None] = lambda _: None, **others: Any) -> Presence:
    """`others` are other facts."""
    facts = {"groups": lambda: ["lobby"], "reported": lambda: b"{}", "taken": took} | others
    return Presence(Facts(ROBOT, "1.2", "kiosk", ("ping",), **facts), SimulatedClock(seed=boot), boot=boot, say=say)


@contextlib.asynccontextmanager
async def running(presence: Presence, link: ScriptedLink) -> AsyncIterator[None]:
    task = asyncio.create_task(presence.run(link))
    yield
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})


async def settled(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def quiet() -> None:
    """Long enough for whatever would still happen."""
    for _ in range(50):
        await asyncio.sleep(0)


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_each_connection_is_told_whole_and_under_its_own_number() -> None:
    async def story() -> None:
        presence, link = presence_of(), ScriptedLink()
        async with running(presence, link):
            assert presence.nonce == ""
            nonces = []
            for number in (1, 2):
                topic, will = presence.will()
                assert topic == wire.PRESENCE
                last = read_presence(will)
                assert (last.device, last.online, last.why, last.conn_id.order) == (ROBOT, False, "lost", (3, number))
                await quiet()
                assert link.sent == []
                presence.connected()
                await settled(lambda: len(link.sent) == len(ALL))
                assert [one.topic for one in link.sent] == ALL
                assert [one.retained for one in link.sent] == [True, True, False, True]
                birth, online, sync = (
                    read_birth(link.sent[0].body),
                    read_presence(link.sent[1].body),
                    read_sync(link.sent[2].body),
                )
                assert birth.conn_id == online.conn_id == sync.conn_id == last.conn_id
                assert birth.nonce == sync.nonce == presence.nonce
                assert (birth.software, birth.profile, birth.groups, birth.ops, birth.clock) == ("1.2", "kiosk", ["lobby"], ["ping"], "ntp")
                assert online.online
                assert (sync.last, sync.open) == ({"key": 7}, ["c-1"])
                nonces.append(presence.nonce)
                link.sent.clear()
            assert len(set(nonces)) == 2
            assert all(len(nonce) == 32 for nonce in nonces)

    play(story())


def test_what_is_not_taken_now_is_told_again_and_what_never_is_is_said_once() -> None:
    async def story() -> None:
        said: list[str] = []
        presence, link = presence_of(say=said.append), ScriptedLink([Retry("busy"), Retry("busy"), Refused("forbidden", "no right")])
        async with running(presence, link):
            presence.will()
            presence.connected()
            await settled(lambda: len(link.sent) == 3)
        assert link.tries == [wire.BIRTH, wire.BIRTH, *ALL]
        assert said == ["the fleet is not told state/birth: no right"]

    play(story())


def test_a_birth_of_an_earlier_connection_never_leaves_by_a_later_one() -> None:
    async def story() -> None:
        presence, link = presence_of(), ScriptedLink()
        async with running(presence, link):
            presence.will()
            presence.connected()
            link.gate.clear()
            await settled(lambda: link.tries)
            presence.will()
            link.answers = [Retry("lost")]
            link.gate.set()
            await quiet()
            assert link.sent == []
            presence.connected()
            await settled(lambda: len(link.sent) == len(ALL))
        assert read_birth(link.sent[0].body).conn_id.order == (3, 2)

    play(story())


def test_a_goodbye_is_the_last_word() -> None:
    async def story() -> None:
        presence, link = presence_of(), ScriptedLink()
        async with running(presence, link):
            presence.will()
            presence.connected()
            link.gate.clear()
            await settled(lambda: link.tries)
            leaving = asyncio.create_task(presence.goodbye(link, "restarting"))
            await settled(lambda: len(link.tries) == 2)
            link.gate.set()
            await leaving
            presence.changed()
            presence.will()
            presence.connected()
            await quiet()
        (last,) = link.sent
        assert (last.topic, last.retained) == (wire.PRESENCE, True)
        told = read_presence(last.body)
        assert (told.online, told.why, told.conn_id.order) == (False, "restarting", (3, 1))

    play(story())


def test_a_robot_opened_anew_says_so_and_is_told_to_be_back_with_its_next_connection() -> None:
    async def story() -> None:
        presence, link = presence_of(), ScriptedLink()
        async with running(presence, link):
            presence.will()
            presence.connected()
            await settled(lambda: len(link.sent) == len(ALL))
            await presence.goodbye(link, "reopening")
        left, since = read_presence(link.sent[-1].body), presence.since
        assert (left.online, left.why, since) == (False, "reopening", None)
        link.sent.clear()
        async with running(presence, link):
            presence.will()
            presence.connected()
            await settled(lambda: len(link.sent) == len(ALL))
        birth = read_birth(link.sent[0].body)
        assert present(birth, left)
        assert not present(read_birth(link.sent[0].body).model_copy(update={"conn_id": left.conn_id}), left)

    play(story())


def test_a_goodbye_that_nobody_hears_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.fleet.presence.GOODBYE_SECONDS", 0.01)

    async def story() -> None:
        presence, link = presence_of(), ScriptedLink()
        await presence.goodbye(link, "stopped")
        assert link.tries == []
        presence.will()
        presence.connected()
        link.gate.clear()
        await presence.goodbye(link, "stopped")
        assert (link.tries, link.sent) == ([wire.PRESENCE], [])

    play(story())


def test_a_change_is_told_while_there_is_a_connection_and_without_a_twin_there_is_none() -> None:
    async def story() -> None:
        groups: list[str] = []
        presence, link = presence_of(groups=lambda: groups, reported=bytes), ScriptedLink()
        async with running(presence, link):
            presence.changed()
            await quiet()
            assert link.tries == []
            presence.will()
            presence.connected()
            await settled(lambda: len(link.sent) == 3)
            groups.append("night")
            presence.changed()
            await settled(lambda: len(link.sent) == 6)
        assert [one.topic for one in link.sent] == [wire.BIRTH, wire.PRESENCE, wire.SYNC] * 2
        assert read_birth(link.sent[3].body).groups == ["night"]
        assert read_birth(link.sent[3].body).conn_id == read_birth(link.sent[0].body).conn_id

    play(story())


def test_a_book_that_can_not_be_read_and_a_fault_of_ours_are_said_and_it_goes_on() -> None:
    async def damaged() -> Taken:
        raise LedgerDamaged("not what was written")

    async def story() -> None:
        said: list[str] = []
        broken = [True]

        def reported() -> bytes:
            if broken:
                raise RuntimeError("a fault")
            return b"{}"

        presence, link = presence_of(say=said.append, taken=damaged, reported=reported), ScriptedLink()
        async with running(presence, link):
            presence.will()
            presence.connected()
            await settled(lambda: len(said) == 2)
            assert [one.topic for one in link.sent] == [wire.BIRTH, wire.PRESENCE]
            assert "not what was written" in said[0]
            assert "RuntimeError" in said[1]
            broken.clear()
            presence.connected()
            await settled(lambda: link.sent[-1].topic == wire.REPORTED)

    play(story())


def test_it_waits_between_two_tries() -> None:
    async def story() -> None:
        clock, link = SimulatedClock(), ScriptedLink([Retry("busy")] * 3)
        presence = Presence(Facts(ROBOT, "1", "p", (), groups=list, reported=bytes, taken=took), clock, boot=1)
        async with running(presence, link):
            presence.will()
            presence.connected()
            await settled(lambda: link.sent)
        assert clock.monotonic() == 3 * AGAIN_SECONDS

    play(story())


@given(connects=st.lists(st.integers(min_value=1, max_value=3), min_size=1, max_size=3), left=st.sampled_from(["here", "lost", "stopped"]))
def test_whatever_the_broker_kept_last_the_newest_connection_decides(connects: list[int], left: str) -> None:
    """As many connections per start. Wills and births come through queues of their own: any earlier one may be the one that is kept."""

    async def story() -> None:
        wills, births, onlines, link = [], [], [], ScriptedLink()
        for boot, count in enumerate(connects, 1):
            presence = presence_of(boot)
            async with running(presence, link):
                for _ in range(count):
                    link.sent.clear()
                    wills.append(presence.will()[1])
                    presence.connected()
                    await settled(lambda: len(link.sent) == len(ALL))
                    births.append(read_birth(link.sent[0].body))
                    onlines.append(read_presence(link.sent[1].body))
        *before, last_will = map(read_presence, wills)
        if left == "here":
            assert all(present(births[-1], kept) for kept in [None, *before, *onlines])
            return
        await presence.goodbye(link, "stopped")
        end = last_will if left == "lost" else read_presence(link.sent[-1].body)
        assert not any(present(birth, end) for birth in births)

    play(story())


def test_a_link_keeps_what_it_sent() -> None:
    async def story() -> None:
        link = ScriptedLink([Retry("x")])
        assert await link.post("a", b"b") == Retry("x")
        assert await link.post("a", b"b", retained=True) is None
        assert link.sent == [Sent("a", b"b", True)]

    play(story())
