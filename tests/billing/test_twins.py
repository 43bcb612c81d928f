"""What is wanted of a robot: checked before it is signed, one version on, kept as it was signed, published once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import insert

from agent.billing.access import Access
from agent.billing.access.denied import UnknownDevice
from agent.billing.access.keyfile import KEY_FILE, backend_key
from agent.billing.fleet import books
from agent.billing.fleet.tables import SEEN
from agent.billing.ledger import Store, devices
from agent.billing.operate import answering, handed_over, ordered
from agent.billing.twins import Twins, Wish, asked_for, read_keys, read_settings
from agent.cli.billing import app
from agent.contract.canonical import INTEGER_MAX
from agent.contract.fleet import twin
from agent.contract.fleet.twin import AHEAD_MAX
from agent.contract.registration import jwks, trusted_of
from agent.contract.signing import SigningKey
from agent.errors import BadInput, VoxmeterError
from agent.sim.clock import SimulatedClock
from tests.billing.helpers import BACKEND_KEY, KEY, NOW

NEXT_KEY = SigningKey.from_seed(b"n" * 32)
TRUSTED = {BACKEND_KEY.key_id: BACKEND_KEY.public}
QUIET: dict[str, Any] = {"llm": {"max_tokens": 20}}
TENANT, NAME = "demo", "sim-0001"


def with_twins(folder: Path, run: Callable[[Twins, Store], Awaitable[None]], key: SigningKey = BACKEND_KEY) -> None:
    async def whole() -> None:
        clock = SimulatedClock(1)
        store = Store(folder, clock)
        try:
            for number in (1, 2):
                one = SigningKey.from_seed(bytes([number]) * 32)
                await store.write(
                    lambda connection, number=number, one=one: devices.register(  # type: ignore[misc]
                        connection, TENANT, f"sim-000{number}", "hotel", one.public, NOW
                    )
                )
            await run(Twins(store, key, clock), store)
        finally:
            await store.aclose()

    asyncio.run(whole())


async def read(twins: Twins, name: str = NAME, trusted: dict[str, bytes] = TRUSTED) -> twin.Desired:
    held = await twins.signed_for(TENANT, name)
    assert held is not None
    desired = twin.read(held[1], trusted)
    assert desired.version == held[0]
    return desired


def test_each_twin_is_one_version_on_and_keeps_what_was_not_named(tmp_path: Path) -> None:
    async def run(twins: Twins, _: Store) -> None:
        changed: list[int] = []
        twins.listen(lambda: changed.append(1))
        assert await twins.signed_for(TENANT, NAME) is None
        assert (await twins.shown(TENANT, NAME))["version"] == 0
        shown = await twins.set(TENANT, NAME, Wish(QUIET, ["lobby"]))
        assert (shown["version"], shown["settings"], shown["groups"], shown["published"], shown["reported"]) == (
            1,
            QUIET,
            ["lobby"],
            0,
            None,
        )
        await twins.set(TENANT, NAME, Wish(ack_keys=jwks([BACKEND_KEY.public, NEXT_KEY.public])))
        await twins.set(TENANT, NAME, Wish(groups=[]))
        desired = await read(twins)
        assert (desired.version, desired.aud, desired.settings, desired.groups) == (3, "demo/sim-0001", QUIET, [])
        assert [one["kid"] for one in desired.trust.ack_keys or []] == [BACKEND_KEY.key_id, NEXT_KEY.key_id]
        assert desired.trust.operator_keys is None
        assert len(changed) == 3

    with_twins(tmp_path, run)


WRONG: list[tuple[Wish, str, str]] = [
    (Wish({"llm": {"thread": 1}}), "bad-profile", "did you mean 'threads'"),
    (Wish({"llm": {"threads": "two"}}), "bad-profile", "llm.threads"),
    (Wish({"sync": {}}), "not-settable", "[sync]"),
    (Wish({"fleet": {"allow": ["ping"]}}), "locks-out", "config.apply"),
    (Wish(ack_keys=jwks([NEXT_KEY.public])), "locks-out", "the key that signs"),
    (Wish(ack_keys=[{"kid": "x"}]), "bad-keys", "names a key that is none"),
    (Wish(operator_keys=[]), "locks-out", "names nobody"),
    (Wish(groups=["@x"]), "bad-profile", "fleet.groups"),
    (Wish("no table"), "bad-input", "the twin is wrong: settings"),  # type: ignore[arg-type]
    (Wish({"llm": "x"}), "bad-input", "the twin is wrong: settings.llm"),
    (Wish({"dialog": {"block_words": ["x" * 1000] * 80}}), "bad-input", "the most is 65536"),
]


@pytest.mark.parametrize(("wish", "code", "says"), WRONG, ids=[says for _, _, says in WRONG])
def test_what_a_robot_would_refuse_is_not_signed(tmp_path: Path, wish: Wish, code: str, says: str) -> None:
    async def run(twins: Twins, _: Store) -> None:
        with pytest.raises(BadInput) as caught:
            await twins.set(TENANT, NAME, wish)
        assert caught.value.code == code
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert await twins.signed_for(TENANT, NAME) is None
        assert await twins.pending() == []

    with_twins(tmp_path, run)


def test_a_robot_nobody_knows(tmp_path: Path) -> None:
    async def run(twins: Twins, _: Store) -> None:
        for work in (twins.set(TENANT, "nobody", Wish({})), twins.shown("x", NAME)):
            with pytest.raises(UnknownDevice, match="no robot is called"):
                await work
        assert await twins.signed_for(TENANT, "nobody") is None
        await twins.published(TENANT, "nobody", 1)

    with_twins(tmp_path, run)


def test_a_twin_is_pending_until_its_own_version_is_published(tmp_path: Path) -> None:
    async def run(twins: Twins, _: Store) -> None:
        await twins.set(TENANT, "sim-0002", Wish({}))
        await twins.set(TENANT, NAME, Wish({}))
        first, second = await twins.pending()
        assert [(one.device, one.version) for one in (first, second)] == [(NAME, 1), ("sim-0002", 1)]
        assert await twins.pending(after=(TENANT, NAME)) == [second]
        await twins.set(TENANT, NAME, Wish(QUIET))
        await twins.published(TENANT, NAME, 1)
        assert [one.version for one in await twins.pending() if one.device == NAME] == [2]
        await twins.published(TENANT, NAME, 2)
        await twins.published(TENANT, NAME, 1)
        await twins.published(TENANT, NAME, 99)
        assert await twins.pending() == [second]
        assert (await twins.shown(TENANT, NAME))["published"] == 2
        assert len(await twins.pending(again=True)) == 2

    with_twins(tmp_path, run)


def test_after_an_older_backup_the_version_is_above_what_the_robot_has_seen(tmp_path: Path) -> None:
    async def run(twins: Twins, store: Store) -> None:
        seen = {"device_id": 1, "birth": "", "presence": "", "telemetry": "", "reported": 41, "heard": "", "span_s": 0}
        await store.write(lambda connection: connection.execute(insert(SEEN).values(seen)) and None)
        shown = await twins.set(TENANT, NAME, Wish(QUIET))
        assert (shown["version"], shown["reported"]) == (42, 41)

    with_twins(tmp_path, run)


def test_a_version_that_nobody_gave_uses_none_up(tmp_path: Path) -> None:
    async def run(twins: Twins, store: Store) -> None:
        for reported, version in ((INTEGER_MAX, 1), (AHEAD_MAX + 2, 2), (AHEAD_MAX + 2, AHEAD_MAX + 3), (2 * AHEAD_MAX + 4, AHEAD_MAX + 4)):
            row = {"device_id": 1, "reported": reported}
            await store.write(lambda connection, row=row: books.note(connection, [row]))  # type: ignore[misc]
            assert (await twins.set(TENANT, NAME, Wish(QUIET)))["version"] == version

    with_twins(tmp_path, run)


def test_the_backends_key_is_replaced_without_losing_a_robot(tmp_path: Path) -> None:
    """Joined by the new one, which then signs; a robot that was away all the while still gets the first twin by the old key."""
    both = {one.key_id: one.public for one in (BACKEND_KEY, NEXT_KEY)}

    async def introduced(twins: Twins, _: Store) -> None:
        await twins.set(TENANT, NAME, Wish(QUIET, ack_keys=jwks(both.values())))

    async def replaced(twins: Twins, _: Store) -> None:
        assert trusted_of((await read(twins)).trust.ack_keys or []) == both
        await twins.set(TENANT, NAME, Wish(ack_keys=jwks([NEXT_KEY.public])))
        assert (await read(twins, trusted={NEXT_KEY.key_id: NEXT_KEY.public})).settings == QUIET

    with_twins(tmp_path, introduced)
    with_twins(tmp_path, replaced, NEXT_KEY)


def test_the_door_takes_the_order_while_a_backend_runs_and_the_books_without_one(tmp_path: Path, clock: SimulatedClock) -> None:
    async def prepared() -> None:
        store = Store(tmp_path, clock)
        await store.write(lambda connection: devices.register(connection, TENANT, NAME, "hotel", KEY.public, NOW))
        backend_key(tmp_path, clock)
        await store.aclose()

    async def beside(asked: dict[str, Any]) -> Any:
        store = Store(tmp_path, clock)
        key = backend_key(tmp_path, clock)
        twins, changed = Twins(store, key, clock), asyncio.Event()
        twins.listen(changed.set)
        try:
            async with answering(tmp_path, store, Access(store, key, clock), twins):
                told = await handed_over(tmp_path, asked)
                assert changed.is_set() == (asked["op"] == "twin set")
                return told
        finally:
            await store.aclose()

    asyncio.run(prepared())
    about = {"tenant": TENANT, "device": NAME}
    assert asyncio.run(beside({"op": "twin set", "settings": QUIET} | about))["version"] == 1
    assert asyncio.run(ordered(tmp_path, {"op": "twin set", "groups": ["a"]} | about, clock))["version"] == 2
    shown = asyncio.run(beside({"op": "twin show"} | about))
    assert (shown["version"], shown["settings"], shown["groups"]) == (2, QUIET, ["a"])
    for wrong in ({"op": "twin set"}, {"op": "twin set", "settings": 7} | about, {"op": "twin show", "tenant": "x", "device": "y"}):
        with pytest.raises(VoxmeterError) as caught:
            asyncio.run(beside(wrong))
        assert "\n" not in str(caught.value)
    lines = asyncio.run(ordered(tmp_path, {"op": "audit"}, clock))
    assert [one["told"]["version"] for one in lines["entries"] if one["action"] == "twin.set"] == [1, 2]
    assert lines["first_broken"] is None
    assert (tmp_path / KEY_FILE).exists()


def test_files_of_the_command_line(tmp_path: Path) -> None:
    good, keys, bad = tmp_path / "good.toml", tmp_path / "keys.json", tmp_path / "bad"
    good.write_text('[llm]\nmax_tokens = 20\n[dialog]\nlanguage = "id"\n')
    assert read_settings(good) == {"llm": {"max_tokens": 20}, "dialog": {"language": "id"}}
    listed = jwks([BACKEND_KEY.public])
    for shape in (orjson.dumps(listed), orjson.dumps({"keys": listed})):
        keys.write_bytes(shape)
        assert read_keys(keys) == listed
    found = asked_for(settings=good, groups="a, b,", ack_keys=keys, operator_keys=None)
    assert (found["groups"], set(found)) == (["a", "b"], {"settings", "groups", "ack_keys"})
    assert asked_for(settings=None, groups="", ack_keys=None, operator_keys=None) == {"groups": []}
    for content in (b"[llm", b"\xff", b"top = 1", b"[llm]\nwhen = 2026-01-01", b"x" * 1_100_000):
        bad.write_bytes(content)
        with pytest.raises(BadInput) as caught:
            read_settings(bad)
        assert "\n" not in str(caught.value)
        with pytest.raises(BadInput, match=r"no JWKS|more than"):
            read_keys(bad)
    with pytest.raises(BadInput, match="name a readable file"):
        read_settings(tmp_path)


def test_the_command_exists() -> None:
    assert "twin" in [one.name for one in app.registered_commands]
