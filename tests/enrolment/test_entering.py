"""A robot enters once, by its own token and name; whatever is cut off on the way is finished by the same command."""

import asyncio
import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from agent import enrolment
from agent.contract.registration import jwks
from agent.contract.signing import SigningKey, encode
from agent.errors import BadInput, LedgerBusy, NoLink
from agent.ports.twin import Standing
from agent.profile import Endpoint, Sync
from agent.sim.clock import SimulatedClock
from agent.store import trust
from agent.store.pair import Pair
from agent.store.remote import Remote
from agent.store.state import Lock
from tests.enrolment.cuts import every_cut
from tests.enrolment.helpers import ACCOUNT, CLOCK, House, Robot, profile_of
from tests.link.helpers import Authority, Play, PlayedServer, written

OPERATOR = SigningKey.from_seed(b"o" * 32)
IN_1970 = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def test_who_may_command_it_is_learnt_with_the_certificate(house: House) -> None:
    house.order("operator add", name="night shift", public=encode(OPERATOR.public))
    robot = house.robot()
    told = robot.enroll(house.token(robot.name))
    assert told["operators"] == [OPERATOR.key_id]
    assert trust.read(robot.state).operator_keys == {OPERATOR.key_id: OPERATOR.public}
    assert (told["account"], told["device"]) == (ACCOUNT, robot.name)
    house.order("operator remove", name="night shift")


def test_the_key_is_its_own_and_for_nobody_else_to_read(house: House) -> None:
    robot = house.enrolled()
    assert robot.pair.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" in robot.pair.read_bytes()
    assert not list(robot.state.rglob("*.new"))
    books = b"".join(path.read_bytes() for path in house.backend.state.rglob("*") if path.is_file() and path.suffix != ".key")
    assert Pair(robot.state).files() == (robot.pair, None)
    assert robot.pair.read_bytes().split(b"-----BEGIN PRIVATE KEY-----")[1][:60] not in books


def test_a_robot_that_can_t_read_whom_to_believe_is_mended_by_enrolling_it_again(house: House) -> None:
    robot = house.enrolled()
    before = trust.read(robot.state)
    (robot.state / trust.TRUST_FILE).write_bytes(b"\0" * 100)
    owed = Standing(version=7, state="applied", owed={"ack_keys": jwks([OPERATOR.public])})
    Remote(robot.state, robot.said.append).put(owed)
    token = house.token(robot.name)
    with pytest.raises(BadInput, match="--ca"):
        house.play(enrolment.enroll(robot.profile, robot.state, token, None, CLOCK, robot.said.append))
    robot.enroll(token)
    assert trust.read(robot.state) == before
    assert Remote(robot.state, robot.said.append).standing == replace(owed, owed={})


def test_what_a_twin_brought_stays_owed_where_the_disk_refuses_what_a_registration_brings(house: House) -> None:
    robot = house.enrolled()
    before, in_the_way = trust.read(robot.state), robot.state / f"{trust.TRUST_FILE}.part"
    owed = Standing(version=7, state="applied", owed={"ack_keys": jwks([OPERATOR.public])})
    Remote(robot.state, robot.said.append).put(owed)
    token = house.token(robot.name)
    in_the_way.mkdir()
    with pytest.raises(BadInput, match="check space and rights"):
        robot.enroll(token)
    assert Remote(robot.state, robot.said.append).standing == owed
    assert trust.read(robot.state) == before
    in_the_way.rmdir()
    robot.enroll(token)
    assert Remote(robot.state, robot.said.append).standing == replace(owed, owed={})


def test_the_same_token_again_is_the_same_robot(house: House) -> None:
    robot = house.robot()
    token = house.token(robot.name)
    first, again = robot.enroll(token), robot.enroll(token)  # the certificate is made anew, so its end may be a second later
    assert {**again, "certificate": None} == {**first, "certificate": None}
    assert robot.connects(robot.pair).result == "taken"


def test_a_token_that_is_used_expired_or_another_robot_s_enrols_nobody(house: House) -> None:
    used, other, robot = house.robot(), house.robot(), house.robot()
    token = house.token(used.name)
    used.enroll(token)
    for wrong in (token, house.token(other.name), house.token(robot.name, hours=1e-6), "A" * 43):
        with pytest.raises(BadInput, match="doesn't register this robot"):
            robot.enroll(wrong)
        assert trust.read(robot.state) == trust.Trust()
        assert Pair(robot.state).files() == (None, None)
    pretender = Robot(house, used.name, house.folder / "pretender")
    with pytest.raises(BadInput, match="has been used"):
        pretender.enroll(token)
    robot.enroll(house.token(robot.name))
    assert robot.connects(robot.pair).result == "taken"


def test_a_name_without_room_in_a_certificate_is_told_before_the_token_is_used(house: House) -> None:
    robot = Robot(house, "r" * 70, house.folder / "long")
    with pytest.raises(BadInput, match="too long for a certificate"):
        robot.enroll("A" * 43)
    assert not robot.state.exists()


def test_a_robot_whose_service_runs_is_not_enrolled(house: House) -> None:
    robot = house.robot()
    robot.state.mkdir()
    lock = Lock(robot.state)
    try:
        with pytest.raises(LedgerBusy):
            robot.enroll(house.token(robot.name))
    finally:
        lock.release()


def test_a_robot_that_wakes_in_1970_is_told_the_time_first(house: House) -> None:
    robot, clock = house.robot(), SimulatedClock(start=IN_1970, quality="none")
    robot.enroll(house.token(robot.name), clock)
    assert clock.quality() == "signed"
    assert abs(clock.utc() - CLOCK.utc()) < datetime.timedelta(minutes=5)
    assert robot.connects(robot.pair).result == "taken"
    later = SimulatedClock(start=IN_1970, quality="none")
    assert house.play(enrolment.told_time(robot.profile, robot.state, later))
    assert (later.quality(), later.utc().year) == ("signed", CLOCK.utc().year)


def test_a_synchronised_clock_asks_nobody(house: House) -> None:
    robot = house.enrolled()
    clock = SimulatedClock(quality="ntp")
    assert not house.play(enrolment.told_time(robot.profile, robot.state, clock))


def test_nobody_is_asked_for_the_time_by_a_robot_that_knows_nobody(house: House) -> None:
    robot = house.robot()
    assert not house.play(enrolment.told_time(robot.profile, robot.state, SimulatedClock(quality="none")))


def test_another_authority_enrols_nobody(house: House) -> None:
    robot = house.robot()
    with pytest.raises(NoLink, match="can't be reached"):
        robot.enroll(house.token(robot.name), authority=house.folder / "broker" / "authority.pem")


def test_after_a_power_cut_anywhere_the_same_command_ends_well(house: House) -> None:
    robots: list[Robot] = []
    token = ""

    def story() -> Callable[[], object]:
        nonlocal token
        robots.append(house.robot())
        token = house.token(robots[-1].name)
        return lambda: robots[-1].enroll(token)

    cuts = 0
    for _ in every_cut(story, lambda: robots[-1].enroll(token)):
        cuts += 1
        robot = robots[-1]
        assert not list(robot.state.rglob("*.new"))
        assert trust.read(robot.state).ack_keys
        assert robot.connects(robot.pair).result == "taken"
    assert cuts > 10


def test_a_certificate_the_broker_does_not_take_leaves_the_one_that_is_in_use(house: House) -> None:
    robot = house.enrolled()
    before = robot.pair.read_bytes()
    house.broker.stop()
    try:
        robot.enroll(house.token(robot.name))
    finally:
        house.broker.start()
    assert robot.pair.read_bytes() == before
    assert Pair(robot.state).stage == "candidate"
    assert "does not take the certificate yet" in robot.said[-1]


def test_a_backend_that_issues_no_certificates_still_lets_robots_in(tmp_path: Path) -> None:
    backend = SigningKey.from_seed(b"b" * 32)
    told = {"tenant": "demo", "device": "r", "account": "a", "api_key": "vx_1_secret", "keys": jwks([backend.public])}
    authority = Authority(tmp_path / "ca")
    said: list[str] = []

    async def main() -> dict[str, object]:
        async with PlayedServer([Play(written(201, orjson.dumps(told)))], authority.server()) as server:
            (tmp_path / "ca.pem").write_text(authority.pem)
            profile = profile_of("r", Sync(https=Endpoint(host="127.0.0.1", port=server.port)))
            clock = SimulatedClock(start=CLOCK.utc())
            return await enrolment.enroll(profile, tmp_path / "state", "A" * 43, tmp_path / "ca.pem", clock, said.append)

    assert asyncio.run(main())["certificate"] == ""
    assert "issues no certificates" in said[0]
    assert trust.read(tmp_path / "state").ack_keys
    assert Pair(tmp_path / "state").stage == "nothing"
