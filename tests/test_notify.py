"""systemd hears what it should over its socket, and a robot without one goes on."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import STATUS_CHARACTERS_MAX, Notifier


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def notifier(heard: socket.socket, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": heard.getsockname(), **more})


def test_each_word_is_one_message(heard: socket.socket) -> None:
    telling = notifier(heard)
    telling.ready()
    telling.alive()
    telling.status("deaf:\nno microphone")
    telling.stopping()
    assert [heard.recv(500) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"STATUS=deaf: no microphone", b"STOPPING=1"]


def test_a_status_can_not_smuggle_another_message_and_is_one_line(heard: socket.socket) -> None:
    notifier(heard).status("x" * 1000 + "\nREADY=1")
    told = heard.recv(5000)
    assert b"\n" not in told
    assert len(told) == len("STATUS=") + STATUS_CHARACTERS_MAX


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0voxmeter-test-{os.getpid()}")
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@voxmeter-test-{os.getpid()}"}).ready()
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("known", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}, {"NOTIFY_SOCKET": "/" + "x" * 300}])
def test_where_nobody_listens_nothing_happens(known: dict[str, str]) -> None:
    telling = Notifier(known)
    assert telling.on == bool(known)
    telling.ready()
    telling.alive()


def test_a_full_socket_does_not_hold_up_the_robot(heard: socket.socket) -> None:
    telling = notifier(heard)
    for _ in range(10_000):
        telling.alive()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("30000000", "", 30.0), ("30000000", str(os.getpid()), 30.0), ("30000000", "1", 0.0), ("x", "", 0.0), ("", "", 0.0)],
)
def test_the_watchdog_is_that_of_this_process(usec: str, pid: str, seconds: float) -> None:
    assert Notifier({"WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}).watchdog_s == seconds
