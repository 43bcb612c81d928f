"""What proves the time, and what of all that a hostile broker may send does not."""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from agent.contract import wire
from agent.contract.registration import SignedTime, time_message
from agent.contract.signing import SigningKey, encode
from agent.errors import BadInput
from agent.fleet.timekeeping import LATE_SECONDS, TIME_BYTES_MAX, Timekeeping, attested
from agent.ports import Delivered
from agent.sim.clock import SimulatedClock
from tests.fleet.test_presence import presence_of

KEY, OTHER = SigningKey.from_seed(b"k" * 32), SigningKey.from_seed(b"o" * 32)
TRUSTED = {KEY.key_id: KEY.public}
NOW = "2026-11-27T12:00:00Z"
MOMENT = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)


def signed(nonce: str, time: str = NOW, key: SigningKey = KEY) -> bytes:
    return orjson.dumps(
        SignedTime(time=time, nonce=nonce, key=key.key_id, signature=encode(key.sign(time_message(nonce, time)))).model_dump()
    )


def changed(**fields: Any) -> bytes:
    return orjson.dumps(orjson.loads(signed("n")) | fields)


def test_a_time_signed_for_this_nonce_is_taken() -> None:
    assert attested(signed("n"), "n", TRUSTED) == MOMENT
    assert attested(signed("n", "2026-11-27T12:00:00+00:00"), "n", TRUSTED) == MOMENT


@pytest.mark.parametrize(
    ("content", "nonce", "said"),
    [
        (signed("n"), "m", "another connection"),
        (changed(nonce=""), "", "wrong"),
        (signed("n"), "", "another connection"),
        (signed("n", key=OTHER), "n", "trusts"),
        (changed(time="2036-01-01T00:00:00Z"), "n", "trusts"),
        (changed(key=OTHER.key_id), "n", "trusts"),
        (changed(signature="A" * 86), "n", "trusts"),
        (changed(nonce=5), "n", "wrong"),
        (signed("n", "2026-11-27T12:00:00"), "n", "UTC"),
        (signed("n", "2026-11-27T12:00:00+08:00"), "n", "UTC"),
        (signed("n", "noon"), "n", "UTC"),
        (b"", "n", "not JSON"),
        (b"[" * 1000, "n", "not JSON"),
        (b"null", "n", "wrong"),
        (b" " * (TIME_BYTES_MAX + 1), "n", "the most is"),
    ],
)
def test_nothing_else_is(content: bytes, nonce: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as raised:
        attested(content, nonce, TRUSTED)
    assert "\n" not in str(raised.value)


def told_to(keeping: Timekeeping, content: bytes, **others: Any) -> tuple[Callable[[], datetime.datetime], list[bool]]:
    confirmed: list[bool] = []
    message = Delivered(wire.TIME, content, retained=False, confirm=lambda: confirmed.append(True))
    return lambda: keeping.moment(dataclasses.replace(message, **others)), confirmed


def test_it_counts_once_per_connection_soon_and_never_kept() -> None:
    clock = SimulatedClock()
    presence = presence_of()
    presence._clock = clock
    keeping = Timekeeping(presence, lambda: TRUSTED, clock)
    presence.will()
    take, confirmed = told_to(keeping, signed(presence.nonce))
    with pytest.raises(BadInput, match="too late"):  # it is not connected yet
        take()
    presence.connected()
    with pytest.raises(BadInput, match="too late"):
        told_to(keeping, signed(presence.nonce), retained=True)[0]()
    with pytest.raises(BadInput, match="trusts"):  # a forged one does not use the chance up
        told_to(keeping, signed(presence.nonce, key=OTHER))[0]()
    assert take() == MOMENT
    with pytest.raises(BadInput, match="before"):
        take()
    assert confirmed == [True] * 3
    presence.will()
    presence.connected()
    with pytest.raises(BadInput, match="another connection"):
        take()
    again, _ = told_to(keeping, signed(presence.nonce))
    clock.advance(LATE_SECONDS + 1)
    with pytest.raises(BadInput, match="too late"):
        again()
