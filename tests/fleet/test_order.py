"""The order of checks: over all combinations nothing is run that is not new, meant for this robot, allowed and fresh."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.fleet.command import Command
from agent.fleet.order import LEEWAY_S, VALID_S_MAX, Addressee, Asked, Cached, Decision, Drop, Expire, Reject, Run, Standing, decide
from agent.ports import Known
from tests.fleet.steered import cmd_id

NOW_S = 1_800_000_000

ADDRESSEE = Addressee("demo", "sim-1", ("lobby",))

REQUEST = b"request"


def command(**changes: Any) -> Command:
    told = {"cmd_id": cmd_id(1), "aud": "demo/sim-1", "seq": 5, "op": "ping", "iat": NOW_S - 10, "exp": NOW_S + 10, "session_nonce": ""}
    return Command.model_validate(told | changes)


def known(**changes: Any) -> Known:
    return replace(Known(cmd_id(1), "key", 5, "ping", "succeeded", REQUEST, b"{}"), **changes)


def asked(retained: bool = False, topic_id: str = cmd_id(1), **changes: Any) -> Asked:
    return Asked(command(**changes), "key", REQUEST, topic_id, retained)


STANDING = Standing(ADDRESSEE, {"ping", "say"}, {"ping"}, None, 4, NOW_S, "ntp", "nonce")


def test_who_was_refused_for_want_of_room_is_told_what_to_do_when_he_sends_it_again() -> None:
    decision = decide(asked(seq=4), STANDING)
    assert isinstance(decision, Reject)
    assert "for want of room, send it anew with a new seq" in decision.message


def test_what_is_new_ours_allowed_and_fresh_is_run() -> None:
    assert decide(asked(), STANDING) == Run(command())
    assert isinstance(decide(asked(aud="demo/@lobby"), STANDING), Run)


@pytest.mark.parametrize(
    ("one", "standing", "expected"),
    [
        (asked(topic_id=cmd_id(2)), STANDING, (Drop, "wrong-topic")),
        (asked(aud="demo/sim-2"), STANDING, (Drop, "wrong-audience")),
        (asked(aud="other/sim-1"), STANDING, (Drop, "wrong-audience")),
        (asked(aud="demo/@kitchen"), STANDING, (Drop, "wrong-audience")),
        (asked(aud="other/@lobby"), STANDING, (Drop, "wrong-audience")),
        (asked(aud="demo/lobby"), STANDING, (Drop, "wrong-audience")),
        (asked(retained=True), STANDING, (Reject, "retained")),
        (asked(retained=True), replace(STANDING, known=known()), (Reject, "retained")),
        (asked(op="reboot"), STANDING, (Reject, "unknown-op")),
        (asked(op="model.update"), STANDING, (Reject, "unknown-op")),
        (asked(op="say"), STANDING, (Reject, "not-allowed")),
        (asked(seq=4), STANDING, (Reject, "replayed")),
        (asked(), replace(STANDING, known=known(key_id="other")), (Reject, "forged")),
        (asked(), replace(STANDING, known=known(seq=4)), (Reject, "forged")),
        (asked(), replace(STANDING, known=known(op="say")), (Reject, "forged")),
        (asked(), replace(STANDING, known=known(request=b"other")), (Reject, "forged")),
        (asked(iat=NOW_S - VALID_S_MAX, exp=NOW_S + 1), STANDING, (Reject, "too-long")),
        (asked(iat=NOW_S + LEEWAY_S + 1, exp=NOW_S + 100), STANDING, (Reject, "from-the-future")),
        (asked(exp=NOW_S - LEEWAY_S - 1), STANDING, (Expire, "expired")),
        (asked(), replace(STANDING, quality="none"), (Expire, "stale")),
        (asked(session_nonce="old"), replace(STANDING, quality="floor"), (Expire, "stale")),
        (asked(), replace(STANDING, quality="none", nonce=""), (Expire, "stale")),
        (asked(), replace(STANDING, floor_s=NOW_S - 9), (Expire, "stale")),
        (asked(session_nonce="old"), replace(STANDING, floor_s=NOW_S - 9), (Expire, "stale")),
        (asked(), replace(STANDING, floor_s=NOW_S - 9, nonce=""), (Expire, "stale")),
        (asked(), replace(STANDING, floor_s=math.inf), (Expire, "stale")),
        (asked(exp=NOW_S - LEEWAY_S - 1), replace(STANDING, floor_s=NOW_S), (Expire, "expired")),
    ],
)
def test_each_check_ends_it(one: Asked, standing: Standing, expected: tuple[type, str]) -> None:
    decision = decide(one, standing)
    assert isinstance(decision, Reject | Expire | Drop)
    assert (type(decision), decision.code) == expected
    assert decision.message
    assert "\n" not in decision.message


def test_what_was_issued_since_the_book_is_whole_or_for_this_connection_is_run() -> None:
    assert isinstance(decide(asked(), replace(STANDING, floor_s=NOW_S - 10)), Run)
    assert isinstance(decide(asked(session_nonce="nonce"), replace(STANDING, floor_s=math.inf)), Run)
    assert isinstance(decide(asked(session_nonce="nonce"), replace(STANDING, floor_s=math.inf, quality="none")), Run)


def test_the_leeway_is_for_clocks_that_nearly_agree() -> None:
    assert isinstance(decide(asked(iat=NOW_S + LEEWAY_S, exp=NOW_S + 100), STANDING), Run)
    assert isinstance(decide(asked(exp=NOW_S - LEEWAY_S), STANDING), Run)
    assert isinstance(decide(asked(iat=NOW_S, exp=NOW_S + VALID_S_MAX), STANDING), Run)


def test_without_a_clock_the_nonce_of_this_connection_is_as_good() -> None:
    for quality in ("none", "floor"):
        long_past = asked(iat=5, exp=9, session_nonce="nonce")
        assert isinstance(decide(long_past, replace(STANDING, quality=quality)), Run)


def test_the_same_command_again_is_answered_from_the_book_whatever_the_time() -> None:
    held = known()
    late = replace(STANDING, known=held, highest=99, now_s=NOW_S + 10**6)
    assert decide(asked(), late) == Cached(held)


STATES = st.sampled_from(["accepted", "running", "succeeded", "failed", "rejected", "expired", "unknown"])

MAYBE_KNOWN = st.none() | st.builds(
    known,
    key_id=st.sampled_from(["key", "other"]),
    seq=st.sampled_from([4, 5]),
    op=st.sampled_from(["ping", "say"]),
    request=st.sampled_from([REQUEST, b"other"]),
    state=STATES,
)

ASKED = st.builds(
    asked,
    retained=st.booleans(),
    topic_id=st.sampled_from([cmd_id(1), cmd_id(2), ""]),
    aud=st.sampled_from(["demo/sim-1", "demo/@lobby", "demo/@kitchen", "demo/sim-2", "other/sim-1", "demo/"]),
    op=st.sampled_from(["ping", "say", "model.update", "nonsense"]),
    seq=st.integers(1, 8),
    iat=st.sampled_from([0, NOW_S - VALID_S_MAX - 50, NOW_S - 50, NOW_S, NOW_S + 29, NOW_S + 31, NOW_S + 10**6]),
    exp=st.sampled_from([0, NOW_S - 31, NOW_S - 29, NOW_S, NOW_S + 50, NOW_S + VALID_S_MAX, NOW_S + 10**9]),
    session_nonce=st.sampled_from(["", "nonce", "old"]),
)

STANDINGS = st.builds(
    Standing,
    addressee=st.sampled_from([ADDRESSEE, Addressee("demo", "sim-1"), Addressee("demo", "sim-2", ("kitchen",))]),
    ops=st.just(frozenset({"ping", "say"})),
    allowed=st.sampled_from([frozenset({"ping"}), frozenset(), frozenset({"ping", "say"})]),
    known=MAYBE_KNOWN,
    highest=st.integers(0, 8),
    now_s=st.just(NOW_S),
    quality=st.sampled_from(["none", "floor", "ntp", "signed"]),
    nonce=st.sampled_from(["", "nonce"]),
    floor_s=st.sampled_from([0.0, NOW_S - 20.0, float(NOW_S), math.inf]),
)


def may_run(one: Asked, standing: Standing) -> bool:
    """Said once more, the other way round."""
    told, addressee = one.command, standing.addressee
    ours = told.aud in {f"{addressee.tenant}/{addressee.device}", *(f"{addressee.tenant}/@{group}" for group in addressee.groups)}
    fresh = for_this_connection = told.session_nonce == standing.nonce != ""
    if standing.quality in ("ntp", "signed"):
        fresh = told.iat <= NOW_S + LEEWAY_S and told.exp + LEEWAY_S >= NOW_S and (told.iat >= standing.floor_s or for_this_connection)
    new = standing.known is None and told.seq > standing.highest
    short = told.exp - told.iat <= VALID_S_MAX
    return ours and one.topic_id == told.cmd_id and not one.retained and told.op in standing.allowed and new and fresh and short


@given(ASKED, STANDINGS)
def test_exactly_what_may_run_is_run(one: Asked, standing: Standing) -> None:
    decision: Decision = decide(one, standing)
    assert isinstance(decision, Run) == may_run(one, standing)
    if isinstance(decision, Cached):
        assert decision.known is standing.known
        assert decision.known.request == one.request
        assert decision.known.key_id == one.key_id


@given(ASKED, STANDINGS)
def test_what_is_not_for_this_robot_leaves_no_answer(one: Asked, standing: Standing) -> None:
    dropped = isinstance(decide(one, standing), Drop)
    assert dropped == (one.topic_id != one.command.cmd_id or not standing.addressee.is_meant(one.command.aud))
