"""How long a robot was away is kept through reboots, by whichever clock can tell."""

import datetime
from pathlib import Path

import pytest

from agent.enrolment.contact import CONTACT_FILE, WRITTEN_S, Contacts
from agent.sim.clock import SimulatedClock

DAY_S = 86_400.0


def test_the_longest_span_stays_when_shorter_ones_follow(tmp_path: Path) -> None:
    clock = SimulatedClock()
    for days in (0, 3, 20, 5):
        clock.advance(days * DAY_S)
        Contacts(tmp_path, clock).note()
    assert Contacts(tmp_path, clock).longest_s == 20 * DAY_S


def test_a_span_over_a_reboot_is_counted_in_trusted_time(tmp_path: Path) -> None:
    clock = SimulatedClock()
    Contacts(tmp_path, clock).note()
    clock.advance(60 * DAY_S)
    wall = clock.utc()
    clock.reboot()
    clock.step_wall(wall - clock.utc())
    Contacts(tmp_path, clock).note()
    assert Contacts(tmp_path, clock).longest_s == 60 * DAY_S


def test_a_clock_that_can_t_be_trusted_counts_from_the_boot(tmp_path: Path) -> None:
    clock = SimulatedClock(quality="none")
    Contacts(tmp_path, clock).note()
    clock.step_wall(datetime.timedelta(days=3650))
    clock.reboot()
    clock.advance(2 * DAY_S)
    Contacts(tmp_path, clock).note()
    assert Contacts(tmp_path, clock).longest_s == 2 * DAY_S


def test_the_card_is_not_written_at_every_contact(tmp_path: Path) -> None:
    clock = SimulatedClock()
    contacts = Contacts(tmp_path, clock)
    contacts.note()
    kept = (tmp_path / CONTACT_FILE).read_bytes()
    clock.advance(60)
    contacts.note()
    assert (tmp_path / CONTACT_FILE).read_bytes() == kept
    clock.advance(WRITTEN_S)
    contacts.note()
    assert (tmp_path / CONTACT_FILE).read_bytes() != kept


@pytest.mark.parametrize("content", [b"", b"\0", b"[]", b"{}", b'{"boot_id":1,"boottime_ms":"x","longest_s":0}', b"{" * 5000])
def test_a_file_that_is_not_what_was_written_is_begun_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONTACT_FILE).write_bytes(content)
    contacts = Contacts(tmp_path, SimulatedClock())
    assert contacts.longest_s == 0
    contacts.note()
    assert Contacts(tmp_path, SimulatedClock()).longest_s == 0
