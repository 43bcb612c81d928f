"""The machine's clock believes a time that was attested, until the kernel knows better."""

import datetime

import pytest

from agent import clock as module
from agent.clock import SystemClock

THEN = datetime.datetime(2031, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)


class Counting(SystemClock):
    """Its boot clock goes when it is told to."""

    passed_ms = 5_000

    def boottime_ms(self) -> int:
        return self.passed_ms


def test_from_an_attested_moment_on_the_boot_clock_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_kernel_says_synchronised", lambda: False)
    clock = Counting()
    assert clock.quality() in ("none", "floor")
    clock.attest(THEN)
    assert (clock.utc(), clock.quality()) == (THEN, "signed")
    clock.passed_ms += 90_000
    assert clock.utc() == THEN + datetime.timedelta(seconds=90)
    assert (
        clock.new_id()[:13] == f"{int(clock.utc().timestamp() * 1000):012x}"[:8] + "-" + f"{int(clock.utc().timestamp() * 1000):012x}"[8:]
    )


def test_a_synchronised_kernel_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Counting()
    clock.attest(THEN)
    monkeypatch.setattr(module, "_kernel_says_synchronised", lambda: True)
    assert clock.quality() == "ntp"
    assert abs(clock.utc() - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(hours=1)
