"""What the operator orders on the command line: credentials, one-time tokens, backups; done by the backend that runs, or here.

While `billing serve` owns the books its door takes the order; otherwise the order takes the lock itself. Whoever may open the
door (see agent/door.py) is the operator.

    {"op": …, …}     -> {"told": …}
    what fails       -> {"error": {"code", "message", "todo", "exit_status"}}
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from agent import door
from agent.billing.access import Access, audit, operators
from agent.billing.access.denied import Unknown
from agent.billing.access.keyfile import KEY_FILE, key_of
from agent.billing.access.registration import Minting
from agent.billing.access.robots.authority import CERTIFICATE_FILE, GIVEN_FILE, LIST_FILE, Authority, authority_of
from agent.billing.ledger import Store, sqlite
from agent.billing.ledger.folder import Folder
from agent.billing.twins import Twins, wished
from agent.clock import Clock
from agent.contract.signing import SEED_BYTES, decode
from agent.door import Door, Limits
from agent.errors import BadInput, LedgerBusy

STARTING_SECONDS = 5.0
"""So long somebody may own the books without having opened its door yet: a start takes less."""

LOOK_SECONDS = 0.1

SOCKET = "billing.sock"

LIMITS = Limits(line_bytes_max=16 * 1024 * 1024)
"""A list of all credentials of a fleet of some 50,000 robots; a longer line is none of ours."""

WHO = "the backend"

Order = Callable[[Mapping[str, Any]], Awaitable[Any]]


def answering(folder: Path, store: Store, access: Access, twins: Twins | None = None) -> AbstractAsyncContextManager[None]:
    """Takes orders in a folder while it is open. The caller owns the folder."""
    return door.answering(orders(folder, store, access, twins), folder, SOCKET, LIMITS, who=WHO)


def orders(folder: Path, store: Store, access: Access, twins: Twins | None = None) -> dict[str, Door]:
    """By op, what carries the order out. Each raises BadInput for an order it can't read."""
    key = folder.absolute() / KEY_FILE
    return {
        "keys create": _telling(lambda asked: _create(access, asked)),
        "keys list": _telling(lambda _: access.listed()),
        "keys revoke": _telling(lambda asked: _revoke(access, asked)),
        "token": _telling(lambda asked: _token(access, asked)),
        "authority": _telling(lambda _: asyncio.to_thread(_authority, folder.absolute())),
        "revoke": _telling(lambda asked: access.robots.revoke(str(asked["tenant"]), str(asked["device"]))),
        "operator add": _telling(lambda asked: access.add_operator(str(asked["name"]), _public(str(asked["public"])))),
        "operator list": _telling(lambda _: store.read(operators.listed)),
        "operator remove": _telling(lambda asked: _remove_operator(access, asked)),
        "audit": _telling(lambda _: store.read(audit.checked)),
        "backup": _telling(lambda asked: _backup(store, key, asked)),
        **(_twin_orders(twins) if twins else {}),
    }


def _twin_orders(twins: Twins) -> dict[str, Door]:
    return {
        "twin set": _telling(lambda asked: twins.set(str(asked["tenant"]), str(asked["device"]), wished(asked))),
        "operator everywhere": _telling(lambda _: twins.tell_operators()),
        "twin show": _telling(lambda asked: twins.shown(str(asked["tenant"]), str(asked["device"]))),
    }


def _telling(order: Order) -> Door:
    async def carried_out(asked: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"told": await order(asked)}
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"this is no command: {type(error).__name__}: {error}", "use the same version on both sides") from error

    return carried_out


async def ordered(folder: Path, asked: Mapping[str, Any], clock: Clock) -> Any:
    """Has an order carried out by whoever owns the books. Raises what it raises, LedgerBusy if the owner takes no orders."""
    for _ in range(round(STARTING_SECONDS / LOOK_SECONDS)):
        if await door.answers(folder, SOCKET):
            return await handed_over(folder, asked)
        try:
            store = Store(folder, clock)
        except LedgerBusy:
            await clock.sleep(LOOK_SECONDS)  # it is just starting, or ending
            continue
        try:
            key = await key_of(store, folder, clock)
            access = Access(store, key, clock, await _authority_here(store, folder, clock))
            return (await orders(folder, store, access, Twins(store, key, clock))[asked["op"]](dict(asked)))["told"]
        finally:
            await store.aclose()
    raise LedgerBusy(f"the books in {folder} have an owner which takes no commands", "wait until it has ended")


async def handed_over(folder: Path, asked: Mapping[str, Any]) -> Any:
    """What the backend that runs tells. Raises what it raised, LedgerBusy if it takes no orders."""
    return (await door.asked(folder, SOCKET, asked, LIMITS, who=WHO))["told"]


def restore(folder: Path, copy: Path) -> dict[str, Any]:
    """Puts a backup in the place of the books; what they held since is lost here. Takes the lock: no backend may run.

    Raises LedgerBusy while one does, BadInput for what is no backup.
    """
    try:
        owned = Folder(folder)
        try:
            sqlite.restore(copy, folder)
        finally:
            owned.release()
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: {error.strerror or error}", "check space and rights of file and folder") from error
    key = folder.absolute() / KEY_FILE
    return {"file": str(copy), "books": str(folder.absolute()), "key": str(key), "key_found": key.is_file()}


async def _authority_here(store: Store, folder: Path, clock: Clock) -> Authority | None:
    """The backend's own; none where it was given to `billing serve`, which knows where its key is."""
    try:
        return await authority_of(store, folder, clock)
    except BadInput:
        return None


def _authority(folder: Path) -> dict[str, Any]:
    """`{certificate, file, list}`: whom brokers are to believe, PEM, and where that and the list of the revoked are."""
    path = folder / (GIVEN_FILE if (folder / GIVEN_FILE).exists() else CERTIFICATE_FILE)
    try:
        certificate = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Unknown(f"{path} can't be read: nobody vouches for robots here", "start the backend, and see what it says") from error
    return {"certificate": certificate, "file": str(path), "list": str(folder / LIST_FILE)}


async def _remove_operator(access: Access, asked: Mapping[str, Any]) -> dict[str, Any]:
    await access.remove_operator(str(asked["name"]))
    return {"removed": str(asked["name"])}


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


async def _backup(store: Store, key: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(str(asked["file"]))
    if not path.is_absolute():
        raise BadInput(f"{path} is no full path", "the backend may run in another folder")
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} is no folder", "name a file in a folder that the backend can write to")
    await store.backup(path)
    size = await asyncio.to_thread(lambda: path.stat().st_size)
    return {"file": str(path), "bytes": size, "key": str(key)}
