"""A certificate is renewed in time, or after its time; a power cut costs a look; who is struck off is told from who is late."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.clock import ClockQuality
from agent.contract import certificates
from agent.contract.certificates import Certificate
from agent.enrolment import Renewing
from agent.enrolment.renewing import RETRY_S, WATCH_S, Around
from agent.errors import BadInput, NoLink
from agent.files import write_durably
from agent.fleet.certificate import DAY_S, UNWELCOME_S
from agent.sim.clock import SimulatedClock
from agent.store import trust
from agent.store.pair import IN_USE, Pair
from tests.enrolment.cuts import every_cut
from tests.enrolment.helpers import CLOCK, TENANT, House, Robot

REVOKED = "failed to receive on socket: [SSL: SSLV3_ALERT_CERTIFICATE_REVOKED] sslv3 alert certificate revoked"
EXPIRED = "failed to receive on socket: [SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired"


def holding(robot: Robot, made: Certificate) -> None:
    """That certificate is in use."""
    write_durably(robot.state / "keys" / IN_USE, made.certificate + made.key)


def late(house: House, *, ago: int = 4, days: int = 5) -> Robot:
    """An enrolled robot whose certificate was made so many days ago; by default it is about to expire."""
    robot = house.enrolled()
    holding(robot, house.issue(f"{TENANT}/{robot.name}", days, ago=ago))
    return robot


def renewing(robot: Robot, around: Around | None = None, clock: SimulatedClock | None = None) -> Renewing:
    return Renewing(robot.profile, robot.state, clock or SimulatedClock(start=CLOCK.utc()), robot.said.append, around)


def until(robot: Robot) -> datetime.datetime:
    shown = Pair(robot.state).shown()
    assert shown is not None
    return shown.not_after


def fresh(robot: Robot) -> bool:
    return until(robot) > CLOCK.utc() + datetime.timedelta(days=80)


def test_a_good_certificate_is_left_alone(house: House) -> None:
    robot = house.enrolled()
    before = robot.pair.read_bytes()
    looking = renewing(robot)
    house.play(looking.watch())
    assert (looking.state, robot.said, robot.pair.read_bytes()) == ("good", [], before)


def test_an_enrolment_that_was_cut_off_before_the_certificate_came_is_finished_by_the_service(house: House) -> None:
    robot = house.enrolled()
    robot.pair.unlink()
    looking = renewing(robot)
    house.play(looking.watch())
    assert (looking.state, Pair(robot.state).stage, robot.said) == ("none", "nothing", [])  # enrolled otherwise, or never
    Pair(robot.state).key()
    looking = renewing(robot)
    house.play(looking.watch())
    assert (looking.state, Pair(robot.state).stage) == ("good", "nothing")
    assert robot.connects(robot.pair).result == "taken"


@pytest.mark.parametrize("ago", [4, 30], ids=["due", "expired"])
def test_one_that_is_due_or_over_is_renewed_tried_and_put_to_use(house: House, ago: int) -> None:
    robot, calls = late(house, ago=ago), list[str]()
    before = robot.pair.read_bytes()
    looking = renewing(robot, Around(reconnect=lambda: calls.append("again")))
    house.play(looking.watch())
    assert fresh(robot)
    assert looking.state == "good"
    assert looking.status() == {"state": "good", "until": until(robot).isoformat(timespec="seconds")}
    assert calls == ["again"]
    assert robot.said == [f"certificate: a new one is in use, until {until(robot).isoformat(timespec='seconds')}"]
    assert robot.pair.read_bytes().split(b"PRIVATE KEY")[1] != before.split(b"PRIVATE KEY")[1]
    assert robot.connects(robot.pair).result == "taken"
    house.play(looking.watch())
    assert len(robot.said) == 1


def test_a_clock_that_can_t_be_trusted_expires_nothing_but_the_broker_s_word_does(house: House) -> None:
    robot = house.enrolled()
    before = robot.pair.read_bytes()
    wild = SimulatedClock(start=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), quality="none")
    house.play(renewing(robot, clock=wild).watch())
    assert robot.pair.read_bytes() == before
    house.play(renewing(robot, Around(problem=lambda: EXPIRED), wild).watch())
    assert robot.pair.read_bytes() != before


def test_a_robot_that_was_struck_off_asks_once_and_says_so(house: House) -> None:
    robot = late(house)
    house.order("revoke", tenant=TENANT, device=robot.name)
    looking, before = renewing(robot, Around(problem=lambda: REVOKED)), robot.pair.read_bytes()
    for _ in range(3):
        house.play(looking.watch())
    assert looking.state == "revoked"
    assert house.play(looking.look("expired"))  # whatever the broker says of it later
    assert looking.state == "revoked"
    assert robot.said == ["certificate: this robot was struck off: its operator must enrol it again"]
    assert robot.pair.read_bytes() == before
    refused = [one for one in house.order("audit")["entries"] if one["action"] == "refused"]
    assert len([one for one in refused if one["told"].get("path", "").endswith(f"{robot.name}/certificates")]) == 1


def test_a_key_the_backend_never_knew_is_not_struck_off(house: House) -> None:
    robot = late(house)
    trust.keep_api_key(robot.state, "vx_0123456789abcdef_" + "A" * 43)
    with pytest.raises(BadInput, match="the backend issues no certificate: no such credential"):
        house.play(renewing(robot).look())
    assert renewing(robot).status()["state"] == "none"


def test_what_only_the_broker_says_is_revoked_is_asked_of_the_backend(house: House) -> None:
    robot = house.enrolled()
    before = robot.pair.read_bytes()
    looking = renewing(robot, Around(problem=lambda: REVOKED))
    house.play(looking.watch())
    assert looking.state == "good"
    assert robot.pair.read_bytes() != before


def test_a_robot_without_certificate_is_left_without(house: House) -> None:
    robot = house.enrolled()
    robot.pair.unlink()
    looking = renewing(robot)
    house.play(looking.watch())
    assert (looking.state, robot.said) == ("none", [])


def test_while_the_broker_is_away_the_new_one_waits(house: House) -> None:
    robot = late(house)
    before, clock = robot.pair.read_bytes(), SimulatedClock(start=CLOCK.utc())
    looking = renewing(robot, clock=clock)
    house.broker.stop()
    try:
        for _ in range(3):
            house.play(looking.watch())
        assert robot.said == ["certificate: the new certificate waits for the broker"]
        assert robot.pair.read_bytes() == before
        candidate = Pair(robot.state).candidate.read_bytes()
    finally:
        house.broker.start()
    clock.advance(10 * WATCH_S)
    house.play(looking.watch())
    assert robot.pair.read_bytes() == candidate


def test_a_candidate_that_was_revoked_before_its_day_is_given_up(house: House) -> None:
    robot = late(house)
    house.broker.stop()
    try:
        house.play(renewing(robot).watch())
    finally:
        house.broker.start()
    spent = house.issue(f"{TENANT}/{robot.name}", 5, ago=30)
    write_durably(Pair(robot.state).candidate, spent.certificate + spent.key)
    house.play(renewing(robot).watch())
    assert fresh(robot)


def stranger(robot: Robot) -> Certificate:
    """By an authority that no broker here believes."""
    return certificates.issue(certificates.authority("own", CLOCK.utc(), 90), f"{TENANT}/{robot.name}", CLOCK.utc(), 90)


@pytest.mark.parametrize("quality", ["ntp", "none"])
def test_a_candidate_that_is_refused_without_a_word_for_a_day_gives_way_to_another(house: House, quality: ClockQuality) -> None:
    robot, clock = late(house), SimulatedClock(start=CLOCK.utc(), quality=quality)
    made = stranger(robot)
    write_durably(Pair(robot.state).candidate, made.certificate + made.key)
    looking = renewing(robot, clock=clock)
    for _ in range(3):
        house.play(looking.look())
        clock.advance(RETRY_S)
    assert Pair(robot.state).candidate.read_bytes().startswith(made.certificate[:-1])
    clock.advance(DAY_S - 3 * RETRY_S)
    house.play(looking.look())
    assert fresh(robot)


def test_one_in_use_that_is_refused_without_a_word_for_hours_is_renewed(house: House) -> None:
    robot, clock = house.enrolled(), SimulatedClock(start=CLOCK.utc())
    holding(robot, stranger(robot))
    before = robot.pair.read_bytes()
    problems = ["the broker hangs up: the other side closed the connection", "h:1: [SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca"]
    away = "h:1: [Errno 111] Connection refused"
    problem = [away]
    looking = renewing(robot, Around(problem=lambda: problem[0]), clock)
    for _ in range(int(UNWELCOME_S / WATCH_S) + 2):  # nobody there
        house.play(looking.watch())
        clock.advance(WATCH_S)
    for step in range(int(UNWELCOME_S / WATCH_S)):
        problem[0] = (*problems, away)[step % 3]
        house.play(looking.watch())
        clock.advance(WATCH_S)
    assert robot.pair.read_bytes() == before
    problem[0] = problems[0]
    house.play(looking.watch())
    assert robot.pair.read_bytes() != before
    after = robot.pair.read_bytes()
    for _ in range(3):
        house.play(looking.watch())
        clock.advance(WATCH_S)
    assert robot.pair.read_bytes() == after


def test_a_welcome_in_between_begins_the_hours_anew(house: House) -> None:
    robot, clock = house.enrolled(), SimulatedClock(start=CLOCK.utc())
    before, problem = robot.pair.read_bytes(), ["the broker hangs up: x"]
    looking = renewing(robot, Around(problem=lambda: problem[0]), clock)
    for step in range(int(2 * UNWELCOME_S / WATCH_S)):
        problem[0] = "" if step == int(UNWELCOME_S / WATCH_S) else "the broker hangs up: x"
        house.play(looking.watch())
        clock.advance(WATCH_S)
    assert robot.pair.read_bytes() == before


def test_a_backend_that_is_away_is_said_once_and_asked_again(house: House) -> None:
    robot = late(house)
    clock = SimulatedClock(start=CLOCK.utc())
    looking = renewing(robot, clock=clock)
    house.play(house.backend.stop())
    try:
        with pytest.raises(NoLink):
            house.play(looking.look())
        for _ in range(3):
            house.play(looking.watch())
            clock.advance(10 * WATCH_S)
        assert len(robot.said) == 1
        assert "can't be reached" in robot.said[0]
    finally:
        house.play(house.backend.start())
    house.play(looking.watch())
    assert fresh(robot)


def test_after_a_power_cut_anywhere_a_look_finishes_it(house: House) -> None:
    robots: list[Robot] = []

    def story() -> Callable[[], object]:
        robots.append(late(house))
        return lambda: house.play(renewing(robots[-1]).look())

    def again() -> None:
        assert robots[-1].pair.is_file()
        house.play(renewing(robots[-1]).look())

    cuts = 0
    for _ in every_cut(story, again):
        cuts += 1
        assert fresh(robots[-1])
        assert not list(robots[-1].state.rglob("*.new"))
        assert robots[-1].connects(robots[-1].pair).result == "taken"
    assert cuts > 6


def test_a_pair_that_is_damaged_is_replaced(house: House) -> None:
    robot = house.enrolled()
    robot.pair.write_bytes(b"x")
    house.play(renewing(robot).watch())
    assert fresh(robot)


def test_a_pair_made_elsewhere_gives_way_to_the_new_one(house: House, tmp_path: Path) -> None:
    robot = house.enrolled()
    made = house.issue(f"{TENANT}/{robot.name}", 5, ago=4)
    for name, content in (("crt", made.certificate), ("key", made.key)):
        (tmp_path / name).write_bytes(content)
    trust.keep_tls(robot.state, tmp_path / "crt", tmp_path / "key")
    assert trust.tls_files(robot.state)[1] is not None
    assert not fresh(robot)
    house.play(renewing(robot).watch())
    assert fresh(robot)
    assert trust.tls_files(robot.state) == (robot.pair, None)
