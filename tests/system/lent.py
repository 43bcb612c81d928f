"""Lends ports of this machine to a robot, whose network is nothing but a loopback: a backend outside stands in it then."""

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.system.bed import Machine

HOST = "127.0.0.1"

CLONE_NEWNET = 0x40000000

PIECE_BYTES = 65_536


@contextlib.contextmanager
def lent(machine: Machine, *ports: int) -> Iterator[None]:
    """Until the end, or until the robot is switched off."""
    leader = machine.leader()
    assert leader is not None, "the robot is off"
    servers = _listening(leader, ports)
    serving = [threading.Thread(target=_serve, args=given, daemon=True) for given in zip(servers, ports, strict=True)]
    for one in serving:
        one.start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        for one in serving:
            one.join()


def _listening(leader: int, ports: Sequence[int]) -> list[socket.socket]:
    """Sockets in the robot's network. A thread that has entered it never comes back; what it opened may be used by all."""
    servers: list[socket.socket] = []

    def within() -> None:
        with Path(f"/proc/{leader}/ns/net").open() as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        servers.extend(socket.create_server((HOST, port)) for port in ports)

    entering = threading.Thread(target=within)
    entering.start()
    entering.join()
    assert len(servers) == len(ports), "the robot's network can't be entered"
    return servers


def _serve(server: socket.socket, port: int) -> None:
    with contextlib.suppress(OSError), server:
        while True:
            robot, _ = server.accept()
            threading.Thread(target=_between, args=(robot, port), daemon=True).start()


def _between(robot: socket.socket, port: int) -> None:
    with contextlib.suppress(OSError), robot, socket.create_connection((HOST, port)) as ours:
        back = threading.Thread(target=_carry, args=(ours, robot))
        back.start()
        _carry(robot, ours)
        back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            sink.sendall(piece)
    for one in (source, sink):  # one that has closed half is closed
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
