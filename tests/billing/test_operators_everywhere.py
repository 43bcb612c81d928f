"""Who commands robots is told all that serve, each by its twin, and nothing else of a twin changes."""

import hashlib
from pathlib import Path

import pytest
from sqlalchemy import insert

from agent.billing.access import operators
from agent.billing.access.tables import CREDENTIAL
from agent.billing.ledger import Store
from agent.billing.twins import Twins, Wish
from agent.contract.fleet.twin import TWIN_BYTES_MAX
from agent.contract.registration import trusted_of
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.sim.clock import SimulatedClock
from tests.billing.helpers import BACKEND_KEY
from tests.billing.test_twins import NAME, QUIET, TENANT, read, with_twins

ANN, BOB = (SigningKey.from_seed(bytes([number]) * 32) for number in (7, 8))
NOW = SimulatedClock(1).utc()
OTHER = "sim-0002"


async def employed(store: Store, **who: SigningKey) -> None:
    for name, key in who.items():
        await store.write(lambda connection, name=name, key=key: operators.add(connection, name, key.public, NOW))  # type: ignore[misc]


async def obeyed(twins: Twins, name: str) -> set[str]:
    return set(trusted_of((await read(twins, name)).trust.operator_keys or []))


def test_a_key_that_is_removed_is_forgotten_by_every_robot_and_all_else_stays(tmp_path: Path) -> None:
    async def run(twins: Twins, store: Store) -> None:
        changed: list[int] = []
        await employed(store, ann=ANN, bob=BOB)
        await twins.set(TENANT, NAME, Wish(QUIET, ["lobby"]))
        twins.listen(lambda: changed.append(1))
        assert await twins.tell_operators() == {"robots": 2, "set": 2, "failed": {}}
        assert changed == [1]
        assert [await obeyed(twins, name) for name in (NAME, OTHER)] == [{ANN.key_id, BOB.key_id}] * 2
        await store.write(lambda connection: operators.remove(connection, "bob", NOW))
        assert (await twins.tell_operators())["set"] == 2
        assert [await obeyed(twins, name) for name in (NAME, OTHER)] == [{ANN.key_id}] * 2
        desired = await read(twins)
        assert (desired.version, desired.settings, desired.groups, desired.trust.ack_keys) == (3, QUIET, ["lobby"], None)
        assert await twins.tell_operators() == {"robots": 2, "set": 0, "failed": {}}
        assert (await read(twins)).version == 3

    with_twins(tmp_path, run)


def test_who_is_struck_off_is_told_nothing_and_without_operators_nobody(tmp_path: Path) -> None:
    async def run(twins: Twins, store: Store) -> None:
        with pytest.raises(BadInput, match="no operator is left"):
            await twins.tell_operators()
        await employed(store, ann=ANN)
        gone: dict[str, str | bytes] = {
            "id": "vx_1",
            "name": "r",
            "tenant": TENANT,
            "device": OTHER,
            "scopes": "usage:write",
            "revoked": "2027",
        }
        gone |= {"secret_hash": hashlib.sha256(b"x").digest(), "created": "2026", "public": b""}
        await store.write(lambda connection: connection.execute(insert(CREDENTIAL).values(gone)))
        assert await twins.tell_operators() == {"robots": 1, "set": 1, "failed": {}}
        assert await twins.signed_for(TENANT, OTHER) is None

    with_twins(tmp_path, run)


def test_a_twin_that_has_no_room_for_it_is_named_and_keeps_nobody_else_from_it(tmp_path: Path) -> None:
    async def run(twins: Twins, store: Store) -> None:
        size = TWIN_BYTES_MAX * 3 // 4 - 400  # in base64 all but full
        await twins.set(TENANT, NAME, Wish({"dialog": {"block_words": ["x" * 100] * (size // 103)}}))
        await employed(store, **{f"o{number}": SigningKey.from_seed(bytes([number]) * 32) for number in range(1, 20)})
        told = await twins.tell_operators()
        assert (told["robots"], told["set"], list(told["failed"])) == (2, 1, [f"{TENANT}/{NAME}"])
        assert "the most is" in told["failed"][f"{TENANT}/{NAME}"]
        assert (await read(twins)).version == 1

    with_twins(tmp_path, run, BACKEND_KEY)
