"""Which devices there are, and which usage keys are theirs."""

from dataclasses import dataclass

from sqlalchemy import Connection, exists, insert, select, update

from agent.billing.ledger.tables import device, usage_key
from agent.contract.record import KeyData
from agent.contract.registration import NewKey
from agent.contract.signing import check_key_record, decode, key_id_of
from agent.errors import BadInput


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device."""

    id: int
    tenant: str
    name: str
    account: str


@dataclass(frozen=True, slots=True)
class UsageKey:
    """A key and whose it is."""

    key_id: str
    public: bytes
    """Raw, 32 bytes."""
    device: Device
    used: bool
    """It has signed a batch."""
    superseded: bool
    """Another key has followed it, and that one has signed a batch: the device signs with it no more."""


def register(connection: Connection, tenant: str, name: str, account: str, public: bytes, now: str) -> int:  # noqa: PLR0917  as a registration tells it
    """The row of a device that has this key from now on; the account is the one given last. Raises BadInput for another's key."""
    held = find(connection, tenant, name)
    if held is None:
        told = {"tenant": tenant, "name": name, "account": account, "registered": now}
        device_id = int(connection.execute(insert(device).values(told).returning(device.c.id)).scalar_one())
    else:
        device_id = held.id
        connection.execute(update(device).where(device.c.id == device_id).values(account=account))
    _put_key(connection, device_id, public, now)
    return device_id


def add_key(connection: Connection, device_id: int, told: NewKey | KeyData, now: str, epoch: str = "") -> str:
    """The id of a device's next usage key; `epoch` where the data does not say it. Raises BadInput unless both keys signed the change."""
    epoch = epoch or getattr(told, "epoch", "")
    names = {"old", "new", "sig_old", "sig_new"}
    if not check_key_record(epoch, told.model_dump(include=names)):
        raise BadInput("the change of key is not signed by both keys", "sign it with the old key and the new one")
    old = device_of_key(connection, key_id_of(decode(told.old)))
    if old is None or old.device.id != device_id:
        raise BadInput("the old key is not this device's", "register the device again")
    return _put_key(connection, device_id, decode(told.new), now)


def _put_key(connection: Connection, device_id: int, public: bytes, now: str) -> str:
    key_id = key_id_of(public)
    held = device_of_key(connection, key_id)
    if held is None:
        connection.execute(insert(usage_key).values(key_id=key_id, device_id=device_id, public=public, since=now))
    elif held.device.id != device_id:
        raise BadInput("this key is another device's", "make a key of its own for each device")
    return key_id


def retire(connection: Connection, old: str, new: str, now: str) -> None:
    """The old key's successor is on the books; it is believed until the new one signs. One that never signed gives way to another."""
    after = usage_key.alias("after")
    signed = exists(select(after.c.key_id).where(after.c.key_id == usage_key.c.successor, after.c.used.is_not(None)))
    connection.execute(update(usage_key).where(usage_key.c.key_id == old, ~signed).values(retired=now, successor=new))


def used(connection: Connection, key_id: str, now: str) -> None:
    """The key has signed a batch."""
    connection.execute(update(usage_key).where(usage_key.c.key_id == key_id, usage_key.c.used.is_(None)).values(used=now))


def device_of_key(connection: Connection, key_id: str) -> UsageKey | None:
    """Whose key it is."""
    after = usage_key.alias("after")
    joined = usage_key.join(device, device.c.id == usage_key.c.device_id).outerjoin(after, after.c.key_id == usage_key.c.successor)
    wanted = select(usage_key, device, after.c.used.label("followed")).select_from(joined).where(usage_key.c.key_id == key_id)
    row = connection.execute(wanted).first()
    if row is None:
        return None
    owner = Device(row.id, row.tenant, row.name, row.account)
    return UsageKey(row.key_id, row.public, owner, row.used is not None, row.followed is not None)


def find(connection: Connection, tenant: str, name: str) -> Device | None:
    """A registered device."""
    columns = (device.c.id, device.c.tenant, device.c.name, device.c.account)
    row = connection.execute(select(*columns).where(device.c.tenant == tenant, device.c.name == name)).first()
    return None if row is None else Device(*row)
