"""Keeps the backend's own signing key on its disk: made once, durably, never replaced because it can't be read.

The file is one line, as a robot's usage key: the seed and the id of the key it makes, so that damage shows.
"""

from pathlib import Path

from sqlalchemy import select

from agent.billing.ledger import Store
from agent.billing.ledger.tables import device
from agent.clock import Clock
from agent.contract.signing import SEED_BYTES, SigningKey, decode, encode
from agent.errors import BadInput
from agent.files import read_private, sync_folder, write_durably

KEY_FILE = Path("keys") / "backend"
FOLDER_MODE = 0o700

FILE_BYTES_MAX = 1024
"""A key file has 77 bytes; a much longer one is something else."""

OPEN_REMEDY = "chmod 600 it, and ask who else was on the machine"
"""Not to replace it: robots have pinned it."""

LOST_REMEDY = "put back the copy that was kept with the backup: robots believe no other key"


async def key_of(store: Store, folder: Path, clock: Clock) -> SigningKey:
    """The key of a backend whose books these are. Raises BadInput where robots are on the books and their backend's key is not here."""
    known = await store.read(lambda connection: connection.execute(select(device.c.id).limit(1)).first())
    return backend_key(folder, clock, pinned=known is not None)


def backend_key(folder: Path, clock: Clock, *, pinned: bool = False) -> SigningKey:
    """The key in a folder; the caller owns the folder, so nobody else makes one meanwhile. Where it is `pinned`, none is made.

    Raises BadInput for a file that can't be used: robots have pinned this key, another one would cut them off.
    """
    path = folder / KEY_FILE
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        held = read_private(path, FILE_BYTES_MAX, OPEN_REMEDY)
        if held is None and pinned:
            raise BadInput(f"{path} is missing, and robots are on the books", LOST_REMEDY)
        if held is None:
            key = SigningKey.from_seed(clock.secret(SEED_BYTES))
            write_durably(path, f"{encode(key.seed)} {key.key_id}\n".encode())
            sync_folder(folder)
            return key
        sync_folder(path.parent)  # a process killed before its own sync leaves a key that only looks kept
    except OSError as error:
        raise BadInput(f"{error.filename or path}: {error.strerror or error}", "check space and rights of the folder") from error
    return _parsed(held, path)


def _parsed(content: bytes, path: Path) -> SigningKey:
    todo = "put back a copy: robots believe no other key"
    try:
        seed, key_id = content.decode("ascii").split()
        key = SigningKey.from_seed(decode(seed))
    except (ValueError, BadInput) as error:
        raise BadInput(f"{path} is damaged: it does not hold a key", todo) from error
    if key.key_id != key_id:
        raise BadInput(f"{path} is damaged: its key is not {key_id[:64]!r}", todo)
    return key
