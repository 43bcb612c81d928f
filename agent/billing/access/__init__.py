"""Says who may do what: makes and checks credentials, lets robots in by one-time token, keeps the audit log."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from agent.billing.access import audit, credentials, operators, registration
from agent.billing.access.credentials import Credential, Principal
from agent.billing.access.denied import Revoked, Unauthorized, Unknown
from agent.billing.access.grants import Grants
from agent.billing.access.registration import Minting
from agent.billing.access.robots import Robots
from agent.billing.access.robots.authority import Authority
from agent.billing.ledger import Store
from agent.clock import Clock
from agent.contract import jwt
from agent.contract.registration import Registered, Registration
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.link.bucket import Bucket

REMEMBERED_MAX = 10_000
"""Credentials held in memory, some 5 MB; beyond, the least used are looked up again."""

NOTES_PER_SECOND = 5
NOTES_BURST = 100
"""What others cause is put on record at this rate, so that nobody fills the disk; how many more there were, the next line says."""


class Access:
    """Who may do what, over one store. All changes go through here, so what is remembered here is right."""

    def __init__(self, store: Store, key: SigningKey, clock: Clock, authority: Authority | None = None) -> None:
        """`authority` vouches for robots; without one they get no certificates."""
        self._store, self._key, self._clock = store, key, clock
        self._known: OrderedDict[str, Credential] = OrderedDict()
        self._room = Bucket(clock, NOTES_PER_SECOND, NOTES_BURST)
        self._unrecorded = 0
        self._changes = 0
        self._grants = Grants(key, clock)
        self._listeners: list[Callable[[], None]] = []
        self.robots = Robots(store, clock, authority, self._forget)

    def listen(self, revoked: Callable[[], None]) -> None:
        """`revoked` is called after credentials have been revoked."""
        self._listeners.append(revoked)

    async def create(self, name: str, scopes: Iterable[str], tenant: str = "", public: bytes = b"") -> dict[str, Any]:
        """`{id, api_key}`; the key is shown this once. With `public`, for a client that signs its requests: `{id}`. Raises BadInput."""
        if not 0 < len(name) <= credentials.NAME_CHARACTERS_MAX:
            raise BadInput("a credential needs a name", f"give one of 1 to {credentials.NAME_CHARACTERS_MAX} characters")
        if tenant:
            registration.checked(Minting(tenant, tenant, ""))
        id_ = self._clock.secret(credentials.ID_DIGITS // 2).hex()
        principal = Principal(id_, name, tenant, "", credentials.checked_scopes(scopes))
        secret = b"" if public else self._clock.secret(credentials.SECRET_BYTES)
        secret_hash, now = credentials.hash_of(secret) if secret else b"", self._clock.utc()

        def work(connection: Connection) -> None:
            credentials.add(connection, principal, now, secret_hash=secret_hash, public=public)
            told = {"credential": id_, "name": name, "scopes": " ".join(sorted(principal.scopes))}
            audit.append(connection, now, "operator", "credential.created", tenant=tenant, **told)

        await self._store.write(work)
        return {"id": id_} | ({} if public else {"api_key": credentials.spoken(id_, secret)})

    async def listed(self) -> list[dict[str, Any]]:
        return await self._store.read(credentials.listed)

    async def revoke(self, id_: str) -> None:
        """Good for nothing from now on, tokens included. Raises Unknown if there is no such credential."""
        now = self._clock.utc()

        def work(connection: Connection) -> bool:
            found = credentials.revoke(connection, id_, now)
            if found:
                audit.append(connection, now, "operator", "credential.revoked", credential=id_)
            return found

        if not await self._store.write(work):
            raise Unknown(f"no credential is called {id_[:100]!r}", "see: voxmeter billing keys list")
        self._forget([id_])

    async def mint(self, minting: Minting, hours: float) -> str:
        """A one-time token for a robot; shown this once. Raises BadInput."""
        registration.checked(minting)
        if not 0 < hours <= registration.HOURS_MAX:
            raise BadInput(f"a token can't live {hours} hours", f"give up to {registration.HOURS_MAX}")
        token, now = self._clock.secret(registration.TOKEN_BYTES), self._clock.utc()
        await self._store.write(lambda connection: registration.mint(connection, token, minting, now, hours))
        return registration.spoken(token)

    async def register(self, asked: Registration) -> Registered:
        """Lets a robot in. Raises BadInput or Denied."""
        registration.check(asked)
        now = self._clock.utc()
        authority = self.robots.authority
        return await self._store.write(lambda connection: registration.register(connection, asked, now, self._key, authority))

    async def add_operator(self, name: str, public: bytes) -> dict[str, Any]:
        """Whose commands robots that enrol from now on obey: `{name, key, x, added}`. Raises BadInput."""
        now = self._clock.utc()
        return await self._store.write(lambda connection: operators.add(connection, name, public, now))

    async def remove_operator(self, name: str) -> None:
        """Raises Unknown if there is no such operator."""
        now = self._clock.utc()
        if not await self._store.write(lambda connection: operators.remove(connection, name, now)):
            raise Unknown(f"no operator is called {name[:100]!r}", "see: voxmeter billing operator list")

    def remembers(self, shown: str) -> bool:
        """Whether `who` would answer that from memory; what is shown is not checked here."""
        if shown.startswith(credentials.PREFIX):
            return shown.removeprefix(credentials.PREFIX).partition("_")[0] in self._known
        try:
            return str(jwt.claimed(shown)[1].get("sub")) in self._known
        except jwt.BadToken:
            return False

    async def who(self, shown: str) -> Principal:
        """Whose API key or token that is. Raises Unauthorized."""
        if shown.startswith(credentials.PREFIX):
            id_, secret = credentials.parted(shown)
            return _opened(await self._find(id_), secret)
        client, scopes = self._grants.read(shown)
        principal = _good(await self._find(client)).principal
        return replace(principal, scopes=principal.scopes & scopes)

    async def grant(self, client: str, secret: str, scope: str = "") -> dict[str, Any]:
        """A token for a client that shows its secret: `{access_token, token_type, expires_in, scope}`. Raises Unauthorized, BadInput."""
        return self._grants.token(_opened(await self._find(client), credentials.secret_of(secret)), scope)

    async def grant_signed(self, assertion: str, scope: str = "") -> dict[str, Any]:
        """A token for a client that signs (private_key_jwt, RFC 7523). Raises Unauthorized, BadInput."""
        try:
            key_id, claims = jwt.claimed(assertion)
        except jwt.BadToken as error:
            raise Unauthorized(error.message, error.todo) from error
        credential = _good(await self._find(str(claims.get("sub"))))
        self._grants.check_assertion(assertion, key_id, credential.principal.id, credential.public)
        return self._grants.token(credential.principal, scope)

    async def noted(self, actor: str, action: str, *, tenant: str = "", device: str = "", **told: Any) -> None:
        """Puts on record what strangers or broken robots cause, as far as there is room for it."""
        if not self._room.take():
            self._unrecorded += 1
            return
        more, self._unrecorded = self._unrecorded, 0
        now = self._clock.utc()
        line: dict[str, Any] = {"tenant": tenant, "device": device, **told} | ({"unrecorded": more} if more else {})
        await self._store.write(lambda connection: audit.append(connection, now, actor, action, **line))

    def _forget(self, ids: Iterable[str]) -> None:
        """They are good for nothing any more."""
        for id_ in ids:
            self._known.pop(id_, None)
        for revoked in self._listeners:
            revoked()
        self._changes += 1  # what is being looked up just now must not be remembered as good

    async def _find(self, id_: str) -> Credential | None:
        if (held := self._known.get(id_)) is not None:
            self._known.move_to_end(id_)
            return held
        changes = self._changes
        found = await self._store.read(lambda connection: credentials.find(connection, id_))
        if found and changes == self._changes:
            self._known[id_] = found
            if len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        return found


def _opened(credential: Credential | None, secret: bytes) -> Principal:
    if not credentials.matches(credential, secret):
        raise Unauthorized("no such credential, or another secret", "create one: voxmeter billing keys create")
    return _good(credential).principal


def _good(credential: Credential | None) -> Credential:
    if credential is None:
        raise Unauthorized("no such credential", "create one: voxmeter billing keys create")
    if credential.revoked:
        raise Revoked("this credential has been revoked", "ask the operator for another one")
    return credential
