"""Decides whether a message on `time/att` proves what time it is: signed by the backend, for this connection, now, and once.

The nonce of a connection is no secret to the broker, so a signed time could be held back or sent again later to put the clock
back. It counts once per connection, and only shortly after the birth that it answers.
"""

import datetime
from collections.abc import Callable, Mapping
from contextlib import suppress

from agent.clock import Clock
from agent.contract.fleet.command import parsed
from agent.contract.registration import SignedTime, time_message
from agent.contract.signing import decode, verify
from agent.errors import BadInput
from agent.fleet.presence import Presence
from agent.ports import Delivered


class Untimely(BadInput):
    """Signed by somebody who may, but for another connection, twice, or too late: a slow broker does that, nobody need be alarmed."""

    code = "untimely"


TIME_BYTES_MAX = 1024
"""Of a SignedTime: some 300."""

LATE_SECONDS = 60.0
"""After the connection was welcomed; the clock is wrong by no more than that. A birth that is told later waits for the next one."""


class Timekeeping:
    """The judge of one robot's `time/att`."""

    def __init__(self, presence: Presence, trusted: Callable[[], Mapping[str, bytes]], clock: Clock) -> None:
        """`trusted`: the backend's keys, key id -> raw public key."""
        self._presence, self._trusted, self._clock = presence, trusted, clock
        self._proven = ""

    def moment(self, message: Delivered) -> datetime.datetime:
        """The backend's time, UTC, for `SystemClock.attest`; confirms the message.

        Raises BadInput for anything that proves nothing, Untimely for what was true once.
        """
        message.confirm()
        presence = self._presence
        moment = attested(message.content, presence.nonce, self._trusted())  # first: a forgery is one, however late
        if message.retained or presence.since is None or self._clock.monotonic() - presence.since > LATE_SECONDS:
            raise Untimely("the signed time comes too late to tell what time it is")
        if presence.nonce == self._proven:
            raise Untimely("the signed time of this connection was told before")
        self._proven = presence.nonce
        return moment


def attested(content: bytes, nonce: str, trusted: Mapping[str, bytes]) -> datetime.datetime:
    """The time, UTC, that a trusted key signed for that nonce. Raises BadInput."""
    if len(content) > TIME_BYTES_MAX:
        raise BadInput(f"the signed time has {len(content)} bytes; the most is {TIME_BYTES_MAX}")
    told = parsed(content, SignedTime, "the signed time")
    if not verify(trusted.get(told.key, b""), time_message(told.nonce, told.time), decode(told.signature)):
        raise BadInput("the signed time is not signed by a backend this robot trusts")
    if not nonce or told.nonce != nonce:
        raise Untimely("the signed time is meant for another connection")
    with suppress(ValueError):
        moment = datetime.datetime.fromisoformat(told.time)
        if moment.utcoffset() == datetime.timedelta():
            return moment.astimezone(datetime.UTC)
    raise BadInput("the signed time is no time in UTC")
