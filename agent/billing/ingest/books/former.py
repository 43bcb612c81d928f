"""Decides whether a key that another has followed may still sign: what was fixed before the change of key was, and no more."""

from sqlalchemy import Connection, select

from agent.billing.ingest.judge import KEY, digest_of_key
from agent.billing.ledger.tables import epoch, record, usage_key
from agent.contract.signing import encode


def may_sign(connection: Connection, key_id: str, name: str, last: int) -> bool:
    """Of a batch of this epoch that ends there: up to the record that names the key's successor, or of an epoch begun before that."""
    after = usage_key.alias("after")
    changed = select(usage_key.c.device_id, usage_key.c.retired, after.c.public).join(after, after.c.key_id == usage_key.c.successor)
    change = connection.execute(changed.where(usage_key.c.key_id == key_id)).first()
    if change is None:
        return False
    places = select(epoch.c.epoch, record.c.sequence).join(epoch, epoch.c.id == record.c.epoch_id).where(record.c.type == KEY)
    about = places.where(record.c.digest == digest_of_key(encode(change.public)), epoch.c.device_id == change.device_id)
    told = {one.epoch: one.sequence for one in connection.execute(about.order_by(record.c.sequence))}
    if name in told:
        return last <= int(told[name])
    begun = connection.execute(select(epoch.c.begun).where(epoch.c.device_id == change.device_id, epoch.c.epoch == name)).scalar()
    return begun is not None and begun <= change.retired
