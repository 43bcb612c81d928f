"""Decides how long a connection may be silent, and how many one address may have, before any of the app is reached.

accepted -> (TLS within HEAD_S) -> room for this address? -> a whole request head within HEAD_S -> the gate
answered -> idle as long as the server keeps it -> the first byte of the next head -> the rest of it within HEAD_S
"""

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.billing.http.gate import Limits

HEAD_S = 10.0
"""For a whole request head, and for TLS: some round trips on the worst link. Whoever is silent longer wants only the connection."""

STRANGERS_MAX = 16
"""Connections of all addresses together that are not on the allow-list: so that they can be told, and keep nobody else out."""


class Connection(H11Protocol):
    """The web server's own, with a limit to its patience."""

    limits: ClassVar[Limits]

    _waiting: asyncio.TimerHandle | None = None
    """Runs while a head is due."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base has it
        super().connection_made(transport)
        if self._has_room():
            self._attend()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._attend()
        else:
            self._head_came()

    def _attend(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_S, self.transport.abort)

    def _head_came(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _has_room(self) -> bool:
        """This connection is counted already."""
        own, limits = _address(self), self.limits
        if limits.allow(own):
            return sum(_address(one) == own for one in self.connections) <= limits.connections
        return sum(not limits.allow(_address(one)) for one in self.connections) <= STRANGERS_MAX


def _address(connection: Any) -> str:
    return str(connection.client[0]) if connection.client else ""


def connection_of(limits: Limits) -> type[asyncio.Protocol]:
    """The class of the connections of one server."""
    return type("Limited", (Connection,), {"limits": limits})
