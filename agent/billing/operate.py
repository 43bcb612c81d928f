"""What the operator orders on the command line: credentials, one-time tokens, backups; done by the backend that runs, or here.

While `billing serve` owns the books its door takes the order; otherwise the order takes the lock itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from agent.billing.access import Access, door
from agent.billing.access.keyfile import backend_key
from agent.billing.access.registration import Minting
from agent.billing.ledger import Store
from agent.clock import Clock
from agent.contract.signing import SEED_BYTES, decode
from agent.errors import BadInput, LedgerBusy

STARTING_SECONDS = 5.0
"""So long somebody may own the books without having opened its door yet: a start takes less."""

LOOK_SECONDS = 0.1

Order = Callable[[Mapping[str, Any]], Awaitable[Any]]


def orders(store: Store, access: Access) -> Order:
    """Carries out one order: `{"op", …}` -> what is told. Raises BadInput for one it doesn't know."""
    known: dict[str, Order] = {
        "keys create": lambda asked: _create(access, asked),
        "keys list": lambda _: access.listed(),
        "keys revoke": lambda asked: _revoke(access, asked),
        "token": lambda asked: _token(access, asked),
        "backup": lambda asked: _backup(store, asked),
    }

    async def done(asked: Mapping[str, Any]) -> Any:
        order = known.get(str(asked.get("op")))
        if order is None:
            raise BadInput("the backend does not know this command", f"it knows: {', '.join(known)}")
        return await order(asked)

    return done


async def ordered(folder: Path, asked: Mapping[str, Any], clock: Clock) -> Any:
    """Has an order carried out by whoever owns the books. Raises what it raises, LedgerBusy if the owner takes no orders."""
    for _ in range(round(STARTING_SECONDS / LOOK_SECONDS)):
        if await door.answers(folder):
            return await door.asked(folder, asked)
        try:
            store = Store(folder, clock)
        except LedgerBusy:
            await clock.sleep(LOOK_SECONDS)  # it is just starting, or ending
            continue
        try:
            return await orders(store, Access(store, backend_key(folder, clock), clock))(asked)
        finally:
            await store.aclose()
    raise LedgerBusy(f"the books in {folder} have an owner which takes no commands", "wait until it has ended")


async def _create(access: Access, asked: Mapping[str, Any]) -> dict[str, Any]:
    public = str(asked.get("public", ""))
    return await access.create(str(asked["name"]), list(asked["scopes"]), str(asked.get("tenant", "")), _public(public))


def _public(text: str) -> bytes:
    """Raw bytes of a key, none for none. Raises BadInput."""
    try:
        public = decode(text)
    except BadInput:
        public = b"?"
    if len(public) not in (0, SEED_BYTES):
        raise BadInput("the public key is not an Ed25519 key", "give the x of its JWK: 32 bytes in base64url")
    return public


async def _revoke(access: Access, asked: Mapping[str, Any]) -> dict[str, Any]:
    await access.revoke(str(asked["id"]))
    return {"revoked": str(asked["id"])}


async def _token(access: Access, asked: Mapping[str, Any]) -> dict[str, Any]:
    minting = Minting(str(asked["tenant"]), str(asked["account"]), str(asked.get("device", "")))
    hours = float(asked["hours"])
    return {"token": await access.mint(minting, hours), "hours": hours} | minting._asdict()


async def _backup(store: Store, asked: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(str(asked["file"]))
    if not path.is_absolute():
        raise BadInput(f"{path} is no full path", "the backend may run in another folder")
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} is no folder", "name a file in a folder that the backend can write to")
    await store.backup(path)
    size = await asyncio.to_thread(lambda: path.stat().st_size)
    return {"file": str(path), "bytes": size}
