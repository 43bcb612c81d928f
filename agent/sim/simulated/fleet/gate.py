"""Who is let in at the simulated broker, by the certificate that is shown; and the roads on which a robot asks for another.

The broker judges as a TLS library does: who is on the authority's list is revoked, whose time is over has expired, by the broker's clock.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from agent.clock import Clock, Settable
from agent.contract import certificates, wire
from agent.contract.signing import SigningKey
from agent.enrolment.renewing import Roads
from agent.errors import BadInput, NoLink
from agent.link.account import StruckOff
from agent.link.probe import Told, word_of
from agent.ports import LinkSettings
from agent.profile import Profile
from agent.sim.simulated.backend import Backend, Down
from agent.sim.simulated.network import Broken, Line, Network
from agent.store.pair import Pair

EXPIRED, REVOKED, NONE = (f"[SSL] SSLV3_ALERT_{what}" for what in ("CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "HANDSHAKE_FAILURE"))
"""The broker's words, as OpenSSL writes them."""


class Gate:
    """One broker's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.revoked: frozenset[int] = frozenset()
        """Serials on the list that it read last."""

    def problem(self, shown: bytes) -> str:
        """What is wrong with a certificate, PEM; empty: its holder is let in."""
        try:
            told = certificates.read(shown)
        except BadInput:
            return NONE
        if told.serial in self.revoked:
            return REVOKED
        return EXPIRED if self.over(shown) else ""

    def over(self, shown: bytes) -> bool:
        """Whether its time is over."""
        return self._clock.utc() >= certificates.read(shown).not_after

    def left_s(self, shown: bytes) -> float:
        """For how long it would let its holder in; 0 for one that it refuses."""
        if self.problem(shown):
            return 0.0
        return (certificates.read(shown).not_after - self._clock.utc()).total_seconds()


def roads(network: Network, backend: Backend, gate: Gate, api_key: Callable[[], str]) -> Roads:
    """Of one robot, which shows `api_key`, over the simulated network to the real backend's own code."""

    async def certify(settings: LinkSettings, csr: str, key: SigningKey) -> bytes:
        line: Line | None = None
        try:
            async with asyncio.timeout(wire.ACK_WAIT_MS / 1000):
                line = await network.dial()
                await line.carry("up")
                chain = await backend.certify(settings.tenant, settings.device, api_key(), csr, key)
                await line.carry("down")
        except (Broken, Down, TimeoutError) as error:
            raise NoLink(f"the backend can't be reached: {str(error) or 'no answer in time'}", "try again") from error
        finally:
            if line is not None:
                line.cut()
        if chain is None:
            raise StruckOff("the backend has struck this robot off", "ask its operator for a one-time token, and enrol it again")
        return chain

    async def fared(_profile: Profile, _state: Path, pair: Pair, _clock: Settable) -> Told:
        line: Line | None = None
        try:
            line = await network.dial()
            await line.carry("up")
            problem = gate.problem(pair.candidate.read_bytes())
            await line.carry("down")
        except Broken as error:
            return Told("unreachable", "", str(error))
        finally:
            if line is not None:
                line.cut()
        return Told("refused", word_of(problem), problem) if problem else Told("taken")

    return Roads(certify, fared)
