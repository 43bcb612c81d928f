"""What is published for a sending and how it stands, without any network."""

from typing import Any

import pytest

from agent.contract import wire
from agent.contract.fleet import command
from agent.contract.fleet.command import Command, Result
from agent.contract.fleet.presence import Birth, ConnId, Presence, Sync
from agent.contract.signing import SigningKey
from agent.desk import news as reading
from agent.desk.news import News
from agent.desk.roster import Roster
from agent.desk.sending import ANEW_MAX, Parcel, Sending, What, orders
from agent.errors import BadInput
from agent.link.mqtt.message import LOST, NO_SUBSCRIBERS, NOT_AUTHORIZED, Verdict

KEY = SigningKey.from_seed(bytes(32))
ID = "01890000-0000-7000-8000-000000000001"
NOW = 1_800_000_000
TAKEN = Verdict(0, "Success")


def birth(*, boot: int = 1, connect: int = 1, clock: str = "ntp", device: str = "r1") -> News:
    conn = ConnId(boot=boot, connect=connect)
    told = Birth(device=f"demo/{device}", conn_id=conn, nonce=f"n{boot}.{connect}", software="1", profile="p", clock=clock)
    return News("demo", device, wire.BIRTH, told)


def gone(*, boot: int = 1, connect: int = 1, device: str = "r1") -> News:
    told = Presence(device=f"demo/{device}", conn_id=ConnId(boot=boot, connect=connect), online=False, why="lost")
    return News("demo", device, wire.PRESENCE, told)


def sync(boot: int, connect: int, taken: int = 0) -> News:
    told = Sync(device="demo/r1", conn_id=ConnId(boot=boot, connect=connect), nonce=f"n{boot}.{connect}", last={KEY.key_id: taken})
    return News("demo", "r1", wire.SYNC, told)


def result(state: str, code: str = "", device: str = "r1", cmd_id: str = ID) -> News:
    told = {"cmd_id": cmd_id, "device": f"demo/{device}", "op": "ping", "seq": 7, "state": state, "code": code}
    return News("demo", device, f"{wire.RESULT}/{cmd_id}", Result.model_validate(told))


class Room:
    """One robot, one order, one desk."""

    def __init__(self, *known: News) -> None:
        self.roster = Roster()
        for news in known:
            self.roster.take(news)
        made = orders(What("ping", {}, NOW, NOW + 600), "demo", ["r1"], numbers=range(7, 8), ids=[ID])
        self.renewed = 0
        self.sending = Sending("demo", made, KEY, self.roster, self.renew)

    def renew(self) -> tuple[int, str]:
        self.renewed += 1
        return 7 + self.renewed, ID[:-1] + str(1 + self.renewed)

    def hear(self, news: News) -> None:
        self.roster.take(news)
        self.sending.heard(news)

    def publish(self, verdict: Verdict = TAKEN, now: int = NOW) -> Parcel | None:
        parcel = self.sending.next(now)
        if parcel:
            self.sending.given("r1", verdict)
        return parcel

    @property
    def state(self) -> str:
        (order,) = self.sending.orders
        return str(self.sending.outcome(order)["state"])


def told_in(parcel: Parcel | None) -> Command:
    assert parcel
    _, told = command.read(parcel.content, {KEY.key_id: KEY.public})
    return told


def nonce_of(parcel: Parcel | None) -> str:
    told = told_in(parcel)
    assert (told.cmd_id, told.seq) == (ID, 7)
    return told.session_nonce


def test_a_parcel_says_all_a_broker_needs() -> None:
    parcel = Room(birth()).publish(now=NOW + 100)
    assert parcel
    assert parcel[:2] == ("r1", f"v1/demo/r1/cmd/req/{ID}")
    assert parcel[3:] == (500, f"v1/demo/r1/cmd/res/{ID}")


def test_it_is_published_once_while_nothing_happens() -> None:
    room = Room(birth())
    assert nonce_of(room.publish()) == ""
    assert room.publish() is None
    assert (room.state, room.sending.done) == ("sent", False)


def test_it_stands_as_the_robot_says_and_the_first_final_answer_stays() -> None:
    room = Room(birth())
    room.publish()
    for state in ("accepted", "running", "succeeded"):
        room.hear(result(state))
        assert room.state == state
    room.hear(result("failed"))
    assert (room.state, room.sending.done, room.sending.progress().succeeded) == ("succeeded", True, 1)


def test_answers_of_others_and_to_others_are_not_ours() -> None:
    room = Room(birth(), birth(device="r2"))
    room.publish()
    room.hear(result("succeeded", device="r2"))
    room.hear(result("succeeded", cmd_id=ID.replace("1890", "1891")))
    assert room.state == "sent"


@pytest.mark.parametrize("back", [birth(connect=2), sync(1, 2)])
def test_it_is_published_again_once_for_each_connection_of_the_robot(back: News) -> None:
    room = Room(birth())
    room.publish()
    room.hear(back)
    assert room.publish()
    room.hear(birth(connect=2))
    room.hear(sync(1, 2))
    assert room.publish() is None


def test_it_is_published_again_when_we_are_back_unless_it_was_answered() -> None:
    room = Room(birth())
    room.publish(Verdict(LOST, "away"))
    assert room.publish() is None
    room.sending.reconnected()
    assert room.publish()
    room.hear(result("rejected", "unknown-op"))
    room.sending.reconnected()
    assert (room.publish(), room.sending.progress().failed) == (None, 1)


def test_nobody_there_yet_is_no_failure() -> None:
    room = Room(birth(), gone())
    room.publish(Verdict(NO_SUBSCRIBERS, "No matching subscribers"))
    assert (room.state, room.sending.done, room.sending.orders[0].reached) == ("offline", False, False)
    room.hear(birth(connect=2))
    assert room.publish()


def test_a_broker_that_refuses_ends_it() -> None:
    room = Room(birth())
    room.publish(Verdict(NOT_AUTHORIZED, "Not authorized"))
    assert (room.state, room.sending.done, room.sending.progress().failed) == ("refused", True, 1)


@pytest.mark.parametrize("clock", ["none", "floor"])
def test_without_a_clock_it_takes_the_nonce_of_the_connection(clock: str) -> None:
    room = Room(birth(clock=clock))
    assert nonce_of(room.publish()) == "n1.1"
    room.hear(birth(connect=2, clock=clock))
    assert room.publish() is None  # until it says what it has taken
    room.hear(sync(1, 2, taken=6))
    assert nonce_of(room.publish()) == "n1.2"


@pytest.mark.parametrize("clock", ["none", "signed"])
def test_what_it_has_taken_is_published_with_the_same_bytes(clock: str) -> None:
    room = Room(birth(clock="none"))
    first = room.publish()
    room.hear(birth(connect=2, clock=clock))
    room.hear(sync(1, 2, taken=7))
    again = room.publish()
    assert first
    assert again
    assert first.content == again.content


def test_without_a_clock_nothing_is_sent_while_the_robot_is_away() -> None:
    room = Room(birth(clock="none"), gone())
    assert room.publish() is None
    room.hear(birth(boot=2, clock="none"))
    assert nonce_of(room.publish()) == "n2.1"


def test_a_birth_that_came_before_its_presence_loses_nothing() -> None:
    """As of a robot that counts its connections from the beginning again: an old will still speaks against it."""
    room = Room(birth(clock="none"), gone())
    room.hear(birth(clock="none"))
    assert room.publish() is None
    here = Presence(device="demo/r1", conn_id=ConnId(boot=1, connect=1), online=True)
    room.hear(News("demo", "r1", wire.PRESENCE, here))
    room.hear(sync(1, 1))
    assert nonce_of(room.publish()) == "n1.1"


def test_a_clock_that_is_trusted_by_now_needs_no_nonce() -> None:
    room = Room(birth(clock="none"))
    room.publish()
    room.hear(birth(connect=2, clock="signed"))
    room.hear(sync(1, 2))
    assert nonce_of(room.publish()) == ""


def test_a_command_that_came_too_late_for_its_connection_is_ordered_anew() -> None:
    """Its robot has written it off: only another id and number will be taken."""
    room = Room(birth(clock="none"))
    told = told_in(room.publish())
    for connect in range(2, ANEW_MAX + 2):
        room.hear(birth(connect=connect, clock="none"))
        room.hear(result("expired", "stale", cmd_id=told.cmd_id))
        former, told = told, told_in(room.publish())
        assert (told.session_nonce, told.seq) == (f"n1.{connect}", former.seq + 1)
        assert told.cmd_id != former.cmd_id
    room.hear(birth(connect=99, clock="none"))
    room.hear(result("expired", "stale", cmd_id=told.cmd_id))
    assert (room.state, room.sending.done, room.renewed) == ("expired", True, ANEW_MAX)


def test_an_old_copy_that_came_first_is_told_from_the_new_one() -> None:
    """The broker kept the first; the robot wrote that off and does not look at the second, which has the same id."""
    room = Room(birth(clock="none"))
    room.publish()
    room.hear(birth(connect=2, clock="none"))
    room.hear(sync(1, 2))
    assert nonce_of(room.publish()) == "n1.2"
    room.hear(result("expired", "stale"))
    assert told_in(room.publish()).seq == 8


def test_stale_by_the_present_nonce_is_an_answer() -> None:
    room = Room(birth(clock="none"))
    room.publish()
    room.hear(result("expired", "stale"))
    assert room.sending.done


def test_nothing_is_published_after_its_end() -> None:
    assert Room(birth()).publish(now=NOW + 600) is None


def test_an_old_will_says_nothing_against_a_new_birth() -> None:
    room = Room(birth(connect=2), gone(connect=1))
    assert room.roster.robot("r1").present
    room.hear(gone(connect=2))
    assert not room.roster.robot("r1").present


def test_whoever_is_taken_away_is_no_robot_any_more() -> None:
    roster = Roster()
    roster.take(birth())
    assert roster.take(birth()) is False
    assert roster.take(News("demo", "r1", wire.BIRTH, None)) is True
    assert list(roster.known) == []


@pytest.mark.parametrize(
    ("topic", "content", "kept", "says"),
    [
        ("x", b"", False, "no topic of a robot"),
        ("v1/demo/r1/usage/ack", b"{}", False, "nobody here reads"),
        (f"v1/demo/r1/cmd/res/{ID}", b"{}", True, "kept by the broker"),
        (f"v1/demo/r1/cmd/res/{ID}", b"\xff", False, "not JSON"),
        (f"v1/demo/r1/cmd/res/{ID[:-1]}2", command.written(Result.model_validate(result("succeeded").told)), False, "at the place of"),
        (f"v1/demo/r2/cmd/res/{ID}", command.written(Result.model_validate(result("succeeded").told)), False, "r2 speaks of demo/r1"),
        ("v1/demo/r1/event/x", b"[]", False, "no JSON object"),
        ("v1/demo/r1/event/x", b"[" * 5000, False, "not JSON"),
        ("v1/demo/r1/event/x", b"{" + b" " * wire.EVENT_BYTES_MAX, False, "nobody here reads"),
    ],
)
def test_what_is_no_news(topic: str, content: bytes, kept: bool, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        reading.read(topic, content, retained=kept)


def test_events_are_read_as_they_are() -> None:
    told: Any = reading.read("v1/demo/r1/event/handoff", b'{"a":1}', retained=False).told
    assert told == {"a": 1}
