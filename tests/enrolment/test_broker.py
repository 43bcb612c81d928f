"""What a real mosquitto says of a robot's certificate, and what is made of its words."""

from pathlib import Path

from agent.contract import certificates
from agent.link.probe import Told, word_of
from tests.enrolment.helpers import CLOCK, TENANT, House


def test_a_robot_enrols_and_its_certificate_connects(house: House) -> None:
    robot = house.robot()
    told = robot.enroll(house.token(robot.name))
    assert told["certificate"]
    assert robot.said == []
    assert robot.connects(robot.pair) == Told("taken")


def test_a_revoked_certificate_is_refused_and_the_word_is_heard(house: House) -> None:
    robot, other = house.enrolled(), house.enrolled()
    told = house.order("revoke", tenant=TENANT, device=robot.name)
    assert (told["credentials"], told["certificates"]) == (1, 1)
    assert told["list"] == str(house.list)
    house.broker.restart()
    heard = robot.connects_until("refused", robot.pair)
    assert (heard.result, heard.word) == ("refused", "revoked")
    assert other.connects(other.pair).result == "taken"


def test_an_expired_certificate_is_refused_with_another_word(house: House, tmp_path: Path) -> None:
    robot = house.enrolled()
    past = house.issue(f"{TENANT}/{robot.name}", 5, ago=30)
    (tmp_path / "past.pem").write_bytes(past.certificate + past.key)
    heard = robot.connects(tmp_path / "past.pem")
    assert (heard.result, heard.word) == ("refused", "expired")


def test_a_stranger_s_certificate_is_refused_without_such_a_word(house: House, tmp_path: Path) -> None:
    robot = house.enrolled()
    own = certificates.authority("own", CLOCK.utc(), 5)
    made = certificates.issue(own, f"{TENANT}/{robot.name}", CLOCK.utc(), 5)
    (tmp_path / "own.pem").write_bytes(made.certificate + made.key)
    heard = robot.connects(tmp_path / "own.pem")
    assert (heard.result, heard.word) == ("refused", "")


def test_a_broker_that_is_away_says_nothing_of_the_certificate(house: House) -> None:
    robot = house.enrolled()
    house.broker.stop()
    try:
        assert robot.connects(robot.pair).result == "unreachable"
    finally:
        house.broker.start()


def test_what_is_said_of_the_server_is_no_word_about_the_robot() -> None:
    server = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:992)"
    assert word_of(server) == ""
    assert word_of("[SSL: SSLV3_ALERT_CERTIFICATE_REVOKED] sslv3 alert certificate revoked (_ssl.c:2580)") == "revoked"
