"""Keeps the authority that vouches for robots: the backend's own, made once, durably, or one that its operator gives at each start.

    keys/device-authority.key          the own one's
    keys/device-authority.crt
    keys/device-authority-given.crt    one that was given; its key is the operator's
    devices.crl                        what is no longer vouched for, for brokers: a list of each whose key is at hand

The own key is on the disk before its certificate is made, so a start that is cut off between the two is finished by the next. An
authority is known by its name and key: its certificate may be made anew. Once one has been given, the own one only lists what it
issued. Of a third nothing can be listed any more; then a broker that checks lists refuses all its robots, and they ask anew.
"""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from agent.billing.access.audit import stamp
from agent.billing.access.tables import ISSUED
from agent.billing.ledger import Store
from agent.clock import Clock
from agent.contract import certificates
from agent.contract.certificates import Certificate
from agent.errors import BadInput
from agent.files import read_beginning, read_private, sync_folder, write_durably

CERTIFICATE_FILE = Path("keys") / "device-authority.crt"
KEY_FILE = Path("keys") / "device-authority.key"
GIVEN_FILE = Path("keys") / "device-authority-given.crt"
LIST_FILE = "devices.crl"
FOLDER_MODE = 0o700

NAME = "voxmeter devices"

DAYS = 90
"""A robot's certificate: longer than a winter without network is for most, and renewed at half of it."""

DAYS_MAX = 825
"""Where nobody comes by for two years a certificate is not what keeps strangers out."""

OWN_DAYS = 3650
"""Brokers are told whom to believe by hand, so not often."""

LIST_DAYS = 3650
"""A broker refuses everybody once its list is out of date, and it reads a new one only when it is told to."""

GIVEN = "give --device-authority and its key again, or put back the backend's own keys/device-authority.key"

CLOSED = "chmod 600 it, and ask who else was on the machine"

AGAIN = f"give --device-authority and its key again, or remove {GIVEN_FILE.name} to go back to the backend's own"


@dataclass(frozen=True, slots=True)
class Authority:
    """Who vouches for robots, and for how long."""

    held: Certificate
    folder: Path
    """The backend's, where the list is kept."""
    days: int = DAYS
    beside: Certificate | None = None
    """The backend's own, where another was given: what it issued may still be in use."""

    @property
    def id(self) -> str:
        """16 hex digits."""
        return ids_of(self.held)[0]

    @property
    def listing(self) -> list[Certificate]:
        """Of whom there is a list."""
        return [self.held] if self.beside is None else [self.held, self.beside]

    def issue(self, csr: str, name: str, now: datetime.datetime) -> bytes:
        """PEM, the robot's own first, then the authority's. Raises BadInput for a request that is not that name's."""
        return certificates.issue_from(self.held, csr.encode(), name, now, self.days) + self.held.certificate

    def publish(self, serials: Sequence[Mapping[int, datetime.datetime]], now: datetime.datetime) -> str:
        """Writes the list, given what is revoked of each in `listing`; where it is. Raises BadInput where the disk refuses."""
        path = self.folder / LIST_FILE
        lists = [certificates.revocations(by, lost, now, LIST_DAYS) for by, lost in zip(self.listing, serials, strict=True)]
        try:
            write_durably(path, b"".join(lists))
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror or error}", "check space and rights of the folder") from error
        return str(path)


def ids_of(held: Certificate) -> tuple[str, str]:
    """By what the books know an authority: its own id, and the one it had in books that went by its certificate."""
    return certificates.anchor_of(held.certificate).hex()[:16], hashlib.sha256(held.certificate).hexdigest()[:16]


def both(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """An authority as the command line names it. Raises BadInput for half of it."""
    if (certificate is None) != (key is None):
        raise BadInput("an authority of robots is a certificate and its key", "give --device-authority and --device-authority-key")
    return (certificate, key) if certificate and key else None


async def authority_of(store: Store, folder: Path, clock: Clock, *, days: int = DAYS, given: tuple[Path, Path] | None = None) -> Authority:
    """As given (certificate, key), else the backend's own. The caller owns the folder.

    Raises BadInput for files that can't be used, and where the own one is missing though robots show its certificates.
    """
    if not 0 < days <= DAYS_MAX:
        raise BadInput(f"a certificate can't live {days} days", f"give 1 to {DAYS_MAX}")
    in_use = await store.read(
        lambda connection: connection.execute(select(ISSUED.c.serial).where(ISSUED.c.expires > stamp(clock.utc())).limit(1)).first()
    )
    try:
        if given:
            return Authority(_given(folder, *given), folder, days, _beside(folder))
        return Authority(_own(folder, clock, needed=in_use is not None), folder, days)
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: {error.strerror or error}", "check space and rights of folder and files") from error


def _given(folder: Path, certificate: Path, key: Path) -> Certificate:
    held = certificates.checked_authority(Certificate(certificate.read_bytes(), key.read_bytes()))
    kept = folder / GIVEN_FILE
    found = read_beginning(kept, certificates.PEM_BYTES_MAX)
    if found is None or found[0] != held.certificate:
        kept.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        write_durably(kept, held.certificate)
    return held


def _beside(folder: Path) -> Certificate | None:
    """The backend's own, as far as it is there: nothing is made."""
    shown = read_beginning(folder / CERTIFICATE_FILE, certificates.PEM_BYTES_MAX)
    secret = read_private(folder / KEY_FILE, certificates.PEM_BYTES_MAX, CLOSED)
    if shown is None or secret is None:
        return None
    try:
        return certificates.checked_authority(Certificate(shown[0], secret))
    except BadInput:  # the certificate beside the key is another's
        return None


def _own(folder: Path, clock: Clock, *, needed: bool) -> Certificate:
    certificate, key = folder / CERTIFICATE_FILE, folder / KEY_FILE
    if (folder / GIVEN_FILE).exists():
        raise BadInput(f"robots show certificates of the authority in {GIVEN_FILE.name}, which was given before", AGAIN)
    key.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    secret = read_private(key, certificates.PEM_BYTES_MAX, CLOSED)
    shown = read_beginning(certificate, certificates.PEM_BYTES_MAX)
    if secret is None and (shown or needed):
        raise BadInput(f"{key} is missing, and robots show certificates of its authority", GIVEN)
    if secret is None:
        secret = certificates.new_key()
        write_durably(key, secret)
    if shown is None:
        made = certificates.authority(NAME, clock.utc(), OWN_DAYS, secret)
        write_durably(certificate, made.certificate)
        sync_folder(folder)
        return made
    try:
        return certificates.checked_authority(Certificate(shown[0], secret))
    except BadInput as error:
        raise BadInput(f"{key} and {certificate.name} beside it: {error.message}", GIVEN) from error
