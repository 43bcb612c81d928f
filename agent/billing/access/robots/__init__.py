"""What becomes of a robot that was let in: another certificate when it asks, and its end, by the operator's word or its own."""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, select, update

from agent.billing.access import audit
from agent.billing.access.credentials import Principal
from agent.billing.access.denied import Forbidden, Unknown, UnknownDevice
from agent.billing.access.robots import issued
from agent.billing.access.robots.authority import Authority
from agent.billing.access.tables import CREDENTIAL
from agent.billing.ledger import Store, devices
from agent.clock import Clock
from agent.contract.registration import CertificateRequest, Certified, Decommissioning, leaves, requests


class NoAuthority(Unknown):
    """Nobody here vouches for robots."""

    code = "no-authority"


class Robots:
    """The robots of one store."""

    def __init__(self, store: Store, clock: Clock, authority: Authority | None, forget: Callable[[Iterable[str]], None]) -> None:
        """`forget` takes the ids of credentials that are good for nothing any more. Without authority no certificates are issued."""
        self._store, self._clock, self._forget = store, clock, forget
        self.authority = authority

    async def renew(self, caller: Principal, device: str, asked: CertificateRequest) -> Certified:
        """Another certificate for a robot. Raises NoAuthority, Forbidden, UnknownDevice, TooMany or BadInput."""
        tenant, now = caller.tenant_of(device), self._clock.utc()
        authority = self.authority
        if authority is None:
            raise NoAuthority("this backend issues no certificates", "ask its operator for one")

        def work(connection: Connection) -> str:
            public = _key_of(connection, tenant, device, asked.key)
            if not requests(asked, tenant, device, public):
                raise Forbidden("the request is not signed by this robot's usage key", "sign it with the key that is registered")
            return issued.certificate(connection, authority, (tenant, device), asked.csr, now, actor=caller.id)

        return Certified(certificate=await self._store.write(work))

    async def revoke(self, tenant: str, device: str) -> dict[str, Any]:
        """Strikes a robot off: credentials and certificates are good for nothing from now on. Raises UnknownDevice.

        `{robot, credentials, certificates, list, unlisted}`: how many were good; `list` is where brokers find what to refuse, empty
        where none is written; `unlisted`: so many stand on no list.
        """
        return await self._struck_off(tenant, device, "operator", "device.revoked", lambda _: None)

    async def decommission(self, caller: Principal, device: str, asked: Decommissioning) -> dict[str, Any]:
        """The same, by the robot's own word. Raises Forbidden where its usage key did not sign that."""
        tenant = caller.tenant_of(device)

        def check(connection: Connection) -> None:
            if not leaves(asked, tenant, device, _key_of(connection, tenant, device, asked.key)):
                raise Forbidden("this is not signed by this robot's usage key", "sign it with the key that is registered")

        return await self._struck_off(tenant, device, caller.id, "device.decommissioned", check)

    async def publish(self) -> str:
        """Writes the list of revoked certificates; where it is. Raises BadInput where the disk refuses."""
        authority, now = self.authority, self._clock.utc()
        if authority is None:
            return ""
        serials = await self._store.read(lambda connection: issued.revoked(connection, authority, now))
        return authority.publish(serials, now)

    async def unlisted(self, whose: tuple[str, str] | None = None) -> int:
        """How many revoked certificates, of all robots or of one, brokers can't be told of: another authority issued them."""
        authority, now = self.authority, self._clock.utc()
        if authority is None:
            return 0
        return await self._store.read(lambda connection: issued.unlisted(connection, authority, now, whose))

    async def _struck_off(self, tenant: str, device: str, actor: str, action: str, check: Callable[[Connection], None]) -> dict[str, Any]:
        now = self._clock.utc()

        def work(connection: Connection) -> tuple[list[str], int]:
            if devices.find(connection, tenant, device) is None:
                raise UnknownDevice(f"no robot is called {tenant}/{device}"[:200], "see the tenant's and the robot's name in its profile")
            check(connection)
            own = (CREDENTIAL.c.tenant == tenant) & (CREDENTIAL.c.device == device) & (CREDENTIAL.c.revoked == "")
            ids = [str(one) for one in connection.execute(select(CREDENTIAL.c.id).where(own)).scalars()]
            connection.execute(update(CREDENTIAL).where(own).values(revoked=audit.stamp(now)))
            gone = issued.revoke(connection, tenant, device, now)
            audit.append(connection, now, actor, action, tenant=tenant, device=device, credentials=len(ids), certificates=gone)
            return ids, gone

        ids, gone = await self._store.write(work)
        self._forget(ids)
        told = {"robot": f"{tenant}/{device}", "credentials": len(ids), "certificates": gone, "list": await self.publish()}
        return told | {"unlisted": await self.unlisted((tenant, device))}


def _key_of(connection: Connection, tenant: str, device: str, key_id: str) -> bytes:
    """A usage key of that robot, raw. Raises UnknownDevice or Forbidden."""
    if devices.find(connection, tenant, device) is None:
        raise UnknownDevice(f"no robot is called {device}", "register it first")
    held = devices.device_of_key(connection, key_id)
    if held is None or (held.device.tenant, held.device.name) != (tenant, device) or held.superseded:
        raise Forbidden("the usage key that signs is not this robot's", "sign with the key that is registered")
    return held.public
