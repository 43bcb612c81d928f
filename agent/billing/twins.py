"""Keeps what the backend wants of each robot: one twin each, whole, signed when it is set, with a version that only grows.

    set by the operator -> checked -> version, signature, row, line of the audit log in one transaction -> listeners -> published

It is signed once and kept as it was signed: a robot that was away while the backend's key was replaced still gets the twin by the
old key that tells it of the new one.
"""

import datetime
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError
from sqlalchemy import Column, Connection, ForeignKey, Integer, LargeBinary, Row, Table, Text, select, update

from agent.billing.access import audit, operators
from agent.billing.access.credentials import struck_off
from agent.billing.access.denied import UnknownDevice
from agent.billing.fleet.tables import SEEN
from agent.billing.ledger import Store, devices, sqlite
from agent.billing.ledger.tables import METADATA, device
from agent.clock import Clock
from agent.contract.fleet import reachable, twin
from agent.contract.fleet.command import audience_of
from agent.contract.fleet.twin import AHEAD_MAX, TWIN_BYTES_MAX, Desired, Keys
from agent.contract.record import first_problem
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.profile import remote

TWIN: Final = Table(
    "twin",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("told", Text, nullable=False),  # JSON of the desired twin, as it was signed
    Column("signed", LargeBinary, nullable=False),
    Column("set", Text, nullable=False),
    Column("published", Integer, nullable=False),  # version the broker has taken last; 0: none
)
"""What is wanted of each robot."""

FILE_BYTES_MAX: Final = 1024 * 1024
"""Of a file with settings or keys: many times what fits into a twin."""

PENDING_MAX: Final = 500
"""Told at once, at most 32 MiB."""


class Wish(NamedTuple):
    """What the operator sets; None: as in the twin before."""

    settings: Mapping[str, Any] | None = None
    """All that differs from the robot's profile."""
    groups: Sequence[str] | None = None
    ack_keys: Sequence[Mapping[str, Any]] | None = None
    operator_keys: Sequence[Mapping[str, Any]] | None = None


class Pending(NamedTuple):
    """A twin the broker has not taken yet."""

    tenant: str
    device: str
    version: int
    content: bytes


class Twins:
    """All robots' twins, over one store."""

    def __init__(self, store: Store, key: SigningKey, clock: Clock) -> None:
        self._store, self._key, self._clock = store, key, clock
        self._listeners: list[Callable[[], None]] = []

    def listen(self, changed: Callable[[], None]) -> None:
        """`changed` is called, in the event loop, after a twin has been set: something is pending."""
        self._listeners.append(changed)

    async def set(self, tenant: str, name: str, wish: Wish) -> dict[str, Any]:
        """The twin as `shown`, one version on. Raises UnknownDevice, BadInput for what the robot would refuse."""
        now = self._clock.utc()

        def work(connection: Connection) -> dict[str, Any]:
            self._put(connection, (tenant, name), wish, now)
            return _shown(connection, tenant, name)

        told = await self._store.write(work)
        for changed in self._listeners:
            changed()
        return told

    async def tell_operators(self) -> dict[str, Any]:
        """Every robot that is not struck off is to obey the operators there are now, and nobody else: `{robots, set, failed}`.

        `set`: how many got a twin for it, one version on; `failed`: robot -> why it got none. Done again it does what is left. Raises
        BadInput where there is no operator: no robot would take a twin without.
        """
        robots = await self._store.read(_serving)
        count, failed = 0, dict[str, str]()
        for first in range(0, max(len(robots), 1), PENDING_MAX):
            one = await self._store.write(partial(self._obeying, robots[first : first + PENDING_MAX], self._clock.utc()))
            count, failed = count + one[0], failed | one[1]
            for changed in self._listeners:
                changed()
        return {"robots": len(robots), "set": count, "failed": failed}

    def _obeying(self, robots: Sequence[tuple[str, str]], now: datetime.datetime, connection: Connection) -> tuple[int, dict[str, str]]:
        """How many got a twin, and robot -> why it got none."""
        keys, count, failed = operators.keys(connection), 0, dict[str, str]()
        if not keys:
            raise BadInput("no operator is left, and robots obey those they know", "add one first: voxmeter billing operator add")
        for robot in robots:
            held = _held(connection, _owner(connection, *robot))
            if held is not None and orjson.loads(held.told).get("trust", {}).get("operator_keys") == keys:
                continue
            try:
                self._put(connection, robot, Wish(operator_keys=keys), now)
                count += 1
            except BadInput as error:
                failed[audience_of(*robot)] = str(error)
        return count, failed

    def _put(self, connection: Connection, robot: tuple[str, str], wish: Wish, now: datetime.datetime) -> None:
        """Raises before it has written anything."""
        owner = _owner(connection, *robot)
        desired = _following(_held(connection, owner), wish, audience_of(*robot), _reported(connection, owner), int(now.timestamp()))
        row = {"device_id": owner, "version": desired.version, "told": _written(desired), "signed": signed(desired, self._key)}
        sqlite.put(connection, TWIN, [row | {"set": audit.stamp(now), "published": 0}])
        audit.append(connection, now, "operator", "twin.set", tenant=robot[0], device=robot[1], version=desired.version)

    async def shown(self, tenant: str, name: str) -> dict[str, Any]:
        """`{tenant, device, version, settings, groups, trust, set, published, reported}`; version 0: nothing is wanted of it.

        `reported`: version the robot told last, None if never. Raises UnknownDevice.
        """
        return await self._store.read(lambda connection: _shown(connection, tenant, name))

    async def signed_for(self, tenant: str, name: str) -> tuple[int, bytes] | None:
        """(version, the signed twin); None where nothing is wanted of this robot, or nobody knows it."""

        def work(connection: Connection) -> tuple[int, bytes] | None:
            owner = devices.find(connection, tenant, name)
            held = _held(connection, owner.id) if owner else None
            return (held.version, held.signed) if held else None

        return await self._store.read(work)

    async def pending(self, *, after: tuple[str, str] = ("", ""), again: bool = False) -> list[Pending]:
        """Twins to be published, by tenant and device, beginning after one; at most PENDING_MAX.

        `again`: all of them, for a broker that may have lost what it kept.
        """
        columns = (device.c.tenant, device.c.name, TWIN.c.version, TWIN.c.signed)
        tenant, name = after
        later = (device.c.tenant > tenant) | ((device.c.tenant == tenant) & (device.c.name > name))
        found = select(*columns).join(device, device.c.id == TWIN.c.device_id).where(later)
        found = found if again else found.where(TWIN.c.published < TWIN.c.version)
        found = found.order_by(device.c.tenant, device.c.name).limit(PENDING_MAX)
        return await self._store.read(lambda connection: [Pending(*row) for row in connection.execute(found)])

    async def published(self, tenant: str, name: str, version: int) -> None:
        """The broker keeps that version for this robot."""

        def work(connection: Connection) -> None:
            if (owner := devices.find(connection, tenant, name)) is not None:
                mine = (TWIN.c.device_id == owner.id) & (TWIN.c.published < version) & (TWIN.c.version >= version)
                connection.execute(update(TWIN).where(mine).values(published=version))

        await self._store.write(work)


def signed(desired: Desired, key: SigningKey) -> bytes:
    """As it is published. Raises BadInput, NotSettable, LocksOut or BadKeys for what a robot would refuse whatever its profile is."""
    reachable.check(desired, key.key_id)
    content = twin.signed(desired, key)
    if len(content) > TWIN_BYTES_MAX:
        raise BadInput(f"the twin has {len(content)} bytes; the most is {TWIN_BYTES_MAX}", "set less")
    return content


def asked_for(*, settings: Path | None, groups: str | None, ack_keys: Path | None, operator_keys: Path | None) -> dict[str, Any]:
    """What the command line names, as `wished` takes it. Raises BadInput."""
    found = {
        "settings": None if settings is None else read_settings(settings),
        "groups": None if groups is None else [name.strip() for name in groups.split(",") if name.strip()],
        "ack_keys": None if ack_keys is None else read_keys(ack_keys),
        "operator_keys": None if operator_keys is None else read_keys(operator_keys),
    }
    return {name: value for name, value in found.items() if value is not None}


def read_settings(path: Path) -> dict[str, Any]:
    """Tables of a device profile, TOML; only those that may be set from afar. Raises BadInput."""
    try:
        found = tomllib.loads(_read(path).decode())
    except ValueError as error:
        raise BadInput(f"{path}: not TOML: {error}") from error
    remote.check(found)
    return found


def read_keys(path: Path) -> list[dict[str, Any]]:
    """Keys of a JWKS. Raises BadInput."""
    try:
        found = orjson.loads(_read(path))
        keys = found["keys"] if isinstance(found, dict) else found
        return list(Keys.model_validate({"ack_keys": keys}).ack_keys or [])
    except (ValueError, KeyError) as error:
        raise BadInput(f"{path}: no JWKS", 'give {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": …, "x": …}]}') from error


def wished(asked: Mapping[str, Any]) -> Wish:
    """What came over the door. Raises BadInput."""
    return Wish(**{name: asked[name] for name in Wish._fields if asked.get(name) is not None})


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}", "name a readable file") from error
    if len(content) > FILE_BYTES_MAX:
        raise BadInput(f"{path}: more than {FILE_BYTES_MAX} bytes", "name the file that was meant")
    return content


def _following(held: Row[Any] | None, wish: Wish, audience: str, reported: int, iat: int) -> Desired:
    """The twin after the one that is held; above what the robot has seen as well, for books may come from an older backup.

    A version that nobody can have given does not count.
    """
    given = held.version if held else 0
    reported = reported if reported <= given + AHEAD_MAX else 0
    before = orjson.loads(held.told) if held else {}
    trust = before.get("trust", {}) | {name: keys for name, keys in (wish._asdict().items()) if name.endswith("_keys") and keys is not None}
    told = {
        "aud": audience,
        "version": max(given, reported) + 1,
        "settings": before.get("settings", {}) if wish.settings is None else wish.settings,
        "groups": before.get("groups") if wish.groups is None else wish.groups,
        "trust": trust,
        "iat": iat,
    }
    try:
        return Desired.model_validate(told)
    except ValidationError as error:
        raise BadInput(f"the twin is wrong: {first_problem(error)}") from error


def _serving(connection: Connection) -> list[tuple[str, str]]:
    """Robots, (tenant, device), that are not struck off."""
    gone = struck_off(connection)
    found = connection.execute(select(device.c.tenant, device.c.name).order_by(device.c.tenant, device.c.name))
    return [(tenant, name) for tenant, name in found if (tenant, name) not in gone]


def _owner(connection: Connection, tenant: str, name: str) -> int:
    owner = devices.find(connection, tenant, name)
    if owner is None:
        raise UnknownDevice(f"no robot is called {tenant[:100]}/{name[:100]}", "register it first")
    return owner.id


def _held(connection: Connection, owner: int) -> Row[Any] | None:
    return connection.execute(select(TWIN).where(TWIN.c.device_id == owner)).first()


def _reported(connection: Connection, owner: int) -> int:
    return max(0, connection.execute(select(SEEN.c.reported).where(SEEN.c.device_id == owner)).scalar() or 0)


def _written(desired: Desired) -> str:
    return orjson.dumps(desired.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS).decode()


def _shown(connection: Connection, tenant: str, name: str) -> dict[str, Any]:
    owner = _owner(connection, tenant, name)
    held = _held(connection, owner)
    told = orjson.loads(held.told) if held else {}
    seen = connection.execute(select(SEEN.c.reported).where(SEEN.c.device_id == owner)).scalar()
    shown = {"tenant": tenant, "device": name, "version": held.version if held else 0, "settings": told.get("settings", {})}
    shown |= {"groups": told.get("groups"), "trust": told.get("trust", {}), "set": held.set if held else None}
    return shown | {"published": held.published if held else 0, "reported": None if seen is None or seen < 0 else seen}
