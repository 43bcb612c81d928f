"""Credentials open what they are for, one-time tokens let one robot in once, and the log can't be altered unseen."""

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings, strategies
from sqlalchemy import delete, update

from agent.billing.access import NOTES_BURST, Access, audit, credentials
from agent.billing.access.denied import Conflict, Forbidden, Unauthorized, Unknown
from agent.billing.access.grants import AUDIENCE, ISSUER, TOKEN_SECONDS, BadScope
from agent.billing.access.keyfile import KEY_FILE, backend_key
from agent.billing.access.registration import HOURS_MAX, Minting
from agent.billing.access.tables import AUDIT
from agent.billing.ledger import Store, devices
from agent.contract import jwt
from agent.contract.registration import registering
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.sim.clock import SimulatedClock

T = TypeVar("T")

KEY = SigningKey.from_seed(b"b" * 32)
ROBOT = SigningKey.from_seed(b"r" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
BOUND = Minting("hotel", "acme", "robot-1")
ANY = Minting("hotel", "acme", "")


def with_access(folder: Path, work: Callable[[Access, Store, SimulatedClock], Awaitable[T]]) -> T:
    async def run() -> T:
        clock = SimulatedClock(seed=1)
        store = Store(folder, clock)
        try:
            return await work(Access(store, KEY, clock), store, clock)
        finally:
            await store.aclose()

    return asyncio.run(run())


def test_an_api_key_is_who_it_was_made_for(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        made = await access.create("the office", ["statements:read"], "hotel")
        principal = await access.who(made["api_key"])
        assert (principal.id, principal.tenant, set(principal.scopes)) == (made["id"], "hotel", {"statements:read"})
        principal.demand("statements:read")
        with pytest.raises(Forbidden, match="no scope admin"):
            principal.demand("admin")

    with_access(tmp_path, work)


def test_no_secret_is_on_the_disk_or_in_a_list(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> str:
        made = await access.create("the office", ["admin"])
        (shown,) = await access.listed()
        assert made["api_key"] not in str(shown)
        return str(made["api_key"])

    api_key = with_access(tmp_path, work)
    assert all(api_key.split("_")[2].encode() not in file.read_bytes() for file in tmp_path.iterdir() if file.is_file())


@pytest.mark.parametrize(
    "shown", ["", "vx_", "vx_0_", "vx__", "vx_0123456789abcdef_AAAA", "x", "vx_" + "é" * 20, "vx_\0_\0", "vx_a_b_c", "a.b.c"]
)
def test_what_is_no_key_of_ours_is_nobody(tmp_path: Path, shown: str) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        with pytest.raises(Unauthorized):
            await access.who(shown)

    with_access(tmp_path, work)


def test_another_secret_under_a_good_id_is_nobody(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        made, other = [await access.create(name, ["admin"]) for name in ("one", "two")]
        with pytest.raises(Unauthorized):
            await access.who(f"vx_{made['id']}_{other['api_key'].split('_')[2]}")

    with_access(tmp_path, work)


def test_a_revoked_credential_is_refused_at_once_and_its_tokens_too(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        made = await access.create("the office", ["admin"])
        token = (await access.grant(made["id"], made["api_key"].split("_")[2]))["access_token"]
        for shown in (made["api_key"], token):
            assert (await access.who(shown)).id == made["id"]
        await access.revoke(made["id"])
        for shown in (made["api_key"], token):
            with pytest.raises(Unauthorized, match="revoked"):
                await access.who(shown)
        assert (await access.listed())[0]["revoked"]
        await access.revoke(made["id"])
        with pytest.raises(Unknown):
            await access.revoke("0" * 16)

    with_access(tmp_path, work)


@pytest.mark.parametrize(
    ("name", "scopes", "tenant"),
    [("", ["admin"], ""), ("n" * 101, ["admin"], ""), ("n", [], ""), ("n", ["root"], ""), ("n", ["admin"], "a/b"), ("n", ["admin"], "+")],
)
def test_a_credential_that_makes_no_sense_is_not_made(tmp_path: Path, name: str, scopes: list[str], tenant: str) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        with pytest.raises(BadInput):
            await access.create(name, scopes, tenant)
        assert await access.listed() == []

    with_access(tmp_path, work)


def test_a_token_holds_the_scopes_asked_for_and_expires(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        made = await access.create("the office", ["admin", "statements:read"])
        secret = made["api_key"].split("_")[2]
        granted = await access.grant(made["id"], secret, "statements:read")
        assert (granted["scope"], granted["token_type"]) == ("statements:read", "Bearer")
        assert (await access.who(granted["access_token"])).scopes == {"statements:read"}
        with pytest.raises(BadScope):
            await access.grant(made["id"], secret, "statements:read erase")
        with pytest.raises(Unauthorized):
            await access.grant(made["id"], "A" * 43)
        clock.advance(TOKEN_SECONDS + jwt.LEEWAY_S)
        with pytest.raises(Unauthorized, match="expired"):
            await access.who(granted["access_token"])

    with_access(tmp_path, work)


@pytest.mark.parametrize("change", [{"aud": "others"}, {"iss": "them"}, {"exp": 0}, {"sub": "0" * 16}])
def test_a_token_of_ours_for_others_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        made = await access.create("the office", ["admin"])
        now = int(clock.utc().timestamp())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": made["id"], "exp": now + 60, "scope": "admin"}
        assert (await access.who(jwt.issue(claims, KEY))).scopes == {"admin"}
        with pytest.raises(Unauthorized):
            await access.who(jwt.issue(claims | change, KEY))

    with_access(tmp_path, work)


def test_a_token_never_gives_more_than_its_credential(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        made = await access.create("the office", ["statements:read"])
        now = int(clock.utc().timestamp())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": made["id"], "exp": now + 60, "scope": "admin statements:read"}
        assert (await access.who(jwt.issue(claims, KEY))).scopes == {"statements:read"}

    with_access(tmp_path, work)


def test_a_client_that_signs_gets_a_token_once_for_each_assertion(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        client = (await access.create("the exporter", ["statements:read"], public=ROBOT.public))["id"]
        now = int(clock.utc().timestamp())
        claims = {"iss": client, "sub": client, "aud": AUDIENCE, "exp": now + 60, "jti": "1"}
        granted = await access.grant_signed(jwt.issue(claims, ROBOT))
        assert (await access.who(granted["access_token"])).id == client
        for wrong in (claims, claims | {"jti": "2", "aud": "x"}, claims | {"jti": 3}, claims | {"jti": "4", "exp": now + 9999}):
            with pytest.raises(Unauthorized):
                await access.grant_signed(jwt.issue(wrong, ROBOT))
        for key in (OTHER, KEY):
            with pytest.raises(Unauthorized):
                await access.grant_signed(jwt.issue(claims | {"jti": "5"}, key))
        with pytest.raises(Unauthorized):
            await access.grant(client, "A" * 43)

    with_access(tmp_path, work)


def test_a_robot_is_let_in_and_its_key_speaks_for_it_alone(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        told = await access.register(registering(await access.mint(BOUND, 1), "hotel", "robot-1", ROBOT))
        assert (told.account, told.keys[0]["kid"]) == ("acme", KEY.key_id)
        principal = await access.who(told.api_key)
        assert principal.tenant_of("robot-1") == "hotel"
        with pytest.raises(Forbidden):
            principal.tenant_of("robot-2")
        held = await store.read(lambda connection: devices.device_of_key(connection, ROBOT.key_id))
        assert held is not None
        assert (held.device.tenant, held.device.name, held.device.account) == ("hotel", "robot-1", "acme")

    with_access(tmp_path, work)


def test_a_cut_answer_does_not_strand_a_robot(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        asked = registering(await access.mint(BOUND, 1), "hotel", "robot-1", ROBOT)
        first = await access.register(asked)
        assert await access.register(asked) == first
        assert len(await access.listed()) == 1
        clock.advance(3600)
        with pytest.raises(Unauthorized, match="expired"):
            await access.register(asked)

    with_access(tmp_path, work)


def test_a_revoked_robot_does_not_come_back_by_its_old_token(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        asked = registering(await access.mint(BOUND, 1), "hotel", "robot-1", ROBOT)
        await access.register(asked)
        await access.revoke((await access.listed())[0]["id"])
        with pytest.raises(Unauthorized, match="used"):
            await access.register(asked)

    with_access(tmp_path, work)


def test_of_many_at_once_a_token_lets_one_in(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        token = await access.mint(ANY, 1)
        robots = [SigningKey.from_seed(bytes([n]) * 32) for n in range(8)]
        asked = [access.register(registering(token, "hotel", f"robot-{n}", key)) for n, key in enumerate(robots)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(not isinstance(one, BaseException) for one in ended) == 1
        assert all(isinstance(one, Unauthorized) for one in ended if isinstance(one, BaseException))
        assert len(await access.listed()) == 1

    with_access(tmp_path, work)


def test_a_token_for_one_lets_no_other_in(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        token = await access.mint(BOUND, 1)
        for tenant, device in (("hotel", "robot-2"), ("hostel", "robot-1")):
            with pytest.raises(Forbidden):
                await access.register(registering(token, tenant, device, ROBOT))
        for wrong in ("A" * 43, "?", token[:-1]):
            with pytest.raises(Unauthorized):
                await access.register(registering(wrong, "hotel", "robot-1", ROBOT))

    with_access(tmp_path, work)


def test_a_token_for_any_robot_takes_over_none(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        await access.register(registering(await access.mint(ANY, 1), "hotel", "robot-1", ROBOT))
        with pytest.raises(Conflict):
            await access.register(registering(await access.mint(ANY, 1), "hotel", "robot-1", OTHER))
        with pytest.raises(Conflict, match="another robot's"):
            await access.register(registering(await access.mint(ANY, 1), "hotel", "robot-2", ROBOT))
        again = await access.register(registering(await access.mint(BOUND, 1), "hotel", "robot-1", OTHER))
        assert (await access.who(again.api_key)).device == "robot-1"

    with_access(tmp_path, work)


@pytest.mark.parametrize("device", ["a/b", "+", "#", "a:b", "..", "", " ", "é", "x" * 101])
def test_a_name_that_cannot_stand_in_a_topic_is_refused(tmp_path: Path, device: str) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        token = await access.mint(ANY, 1)
        if device:
            with pytest.raises(BadInput, match="no name"):
                await access.register(registering(token, "hotel", device, ROBOT))
            with pytest.raises(BadInput, match="no name"):
                await access.mint(Minting("hotel", "acme", device), 1)

    with_access(tmp_path, work)


def test_who_registers_a_key_must_hold_it(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        token = await access.mint(BOUND, 1)
        asked = registering(token, "hotel", "robot-1", ROBOT)
        with pytest.raises(BadInput, match="signature"):
            await access.register(asked.model_copy(update={"key": registering(token, "hotel", "robot-1", OTHER).key}))

    with_access(tmp_path, work)


@pytest.mark.parametrize("hours", [0, -1, HOURS_MAX + 1, float("nan"), float("inf")])
def test_a_token_lives_a_sensible_time(tmp_path: Path, hours: float) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        with pytest.raises(BadInput):
            await access.mint(BOUND, hours)

    with_access(tmp_path, work)


def test_all_that_changes_who_may_do_what_is_on_record(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        made = await access.create("the office", ["admin"])
        await access.register(registering(await access.mint(BOUND, 1), "hotel", "robot-1", ROBOT))
        await access.revoke(made["id"])
        await access.noted("192.0.2.1", "refused", path="/v1/audit\0\ud800" + "x" * 500)
        told = await store.read(audit.page)
        wanted = ["credential.created", "token.minted", "device.registered", "credential.revoked", "refused"]
        assert [line["action"] for line in told["entries"]] == wanted
        assert await store.read(audit.first_broken) is None

    with_access(tmp_path, work)


def test_a_flood_of_refusals_fills_no_disk(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        for _ in range(NOTES_BURST + 50):
            await access.noted("192.0.2.1", "refused")
        clock.advance(1)
        await access.noted("192.0.2.1", "refused")
        lines = (await store.read(audit.page))["entries"]
        assert len(lines) == NOTES_BURST + 1
        assert lines[-1]["told"]["unrecorded"] == 50

    with_access(tmp_path, work)


@settings(max_examples=20)
@given(strategies.integers(1, 6), strategies.sampled_from(["change", "remove", "swap"]))
def test_an_altered_log_shows_where(tmp_path_factory: pytest.TempPathFactory, place: int, how: str) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        for n in range(7):
            await access.noted("operator", f"did {n}", device=f"robot-{n}")
        line = AUDIT.c.id == place
        if how == "change":
            await store.write(lambda connection: connection.execute(update(AUDIT).where(line).values(device="robot-x")) and None)
        else:
            await store.write(lambda connection: connection.execute(delete(AUDIT).where(line)) and None)
        if how == "swap":
            await store.write(lambda connection: connection.execute(update(AUDIT).where(AUDIT.c.id == 7).values(id=place)) and None)
        assert await store.read(audit.first_broken) == place

    with_access(tmp_path_factory.mktemp("books"), work)


def test_pages_of_the_log_hold_one_tenants_lines(tmp_path: Path) -> None:
    async def work(access: Access, store: Store, clock: SimulatedClock) -> None:
        for n in range(5):
            await access.noted("operator", "did", tenant=("hotel", "hostel")[n % 2], device=str(n))
        first = await store.read(lambda connection: audit.page(connection, tenant="hotel", limit=2))
        rest = await store.read(lambda connection: audit.page(connection, tenant="hotel", after=first["next"], limit=2))
        assert [line["device"] for line in first["entries"] + rest["entries"]] == ["0", "2", "4"]
        assert "next" not in rest

    with_access(tmp_path, work)


def test_the_backends_key_is_made_once_and_kept_to_itself(tmp_path: Path) -> None:
    key = backend_key(tmp_path, SimulatedClock(seed=1))
    assert backend_key(tmp_path, SimulatedClock(seed=2)) == key
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"A", b"A" * 43, b"\xff\xfe", b"A" * 43 + b" " + b"0" * 32, b"x" * 5000])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    backend_key(tmp_path, SimulatedClock(seed=1))
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(BadInput, match="put back a copy"):
        backend_key(tmp_path, SimulatedClock(seed=2))
    assert (tmp_path / KEY_FILE).read_bytes() == content


def test_a_key_open_to_others_is_not_used(tmp_path: Path) -> None:
    backend_key(tmp_path, SimulatedClock(seed=1))
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        backend_key(tmp_path, SimulatedClock(seed=1))


def test_times_in_the_log_sort_as_text() -> None:
    moments = [datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=n) for n in (0, 1, 999_999, 10**6)]
    assert sorted(moments) == sorted(moments, key=audit.stamp)
    assert credentials.SCOPES
