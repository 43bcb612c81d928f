"""Owns what the robot shows to the broker: a certificate and its key in one file, replaced in one step.

    nothing --key()--> key --take()--> candidate --promote()--> nothing       and what was promoted is in use

    tls.key.new     a key that a certificate is asked for
    tls.pem.new     that key and its certificate, not tried yet
    tls.pem         in use
    tls.crt + .key  made elsewhere; in use while there is no tls.pem

The steps are files, so a power cut anywhere leaves one of them, and no certificate ever stands beside another's key. None of them
is precious: one that is damaged counts as not there, and another certificate can be asked for.
"""

from pathlib import Path
from typing import Literal

from agent.contract import certificates
from agent.errors import BadInput
from agent.files import read_private, rename_durably, sync_folder, write_durably
from agent.store.keys import KEYS_FOLDER, make_folder, plainly

TLS_CERTIFICATE, TLS_KEY = "tls.crt", "tls.key"
IN_USE = "tls.pem"
CANDIDATE = "tls.pem.new"
KEY = "tls.key.new"

FILE_BYTES_MAX = 64 * 1024
"""A chain of three certificates and a key have under 5 KiB."""

KEY_BEGINS = b"-----BEGIN PRIVATE KEY-----"

Stage = Literal["nothing", "key", "candidate"]
"""How far the next certificate has come."""


class Pair:
    """The certificate of one state folder. Nothing is held in memory: what counts is what is on the disk."""

    def __init__(self, state: Path) -> None:
        self._folder = state / KEYS_FOLDER

    @property
    def stage(self) -> Stage:
        if _whole(self.candidate):
            return "candidate"
        return "key" if _key_in(_private(self._folder / KEY)) else "nothing"

    @property
    def damaged(self) -> bool:
        """What was put to use is not what is there."""
        return (self._folder / IN_USE).is_file() and not _whole(self._folder / IN_USE)

    @property
    def candidate(self) -> Path:
        """Certificate and key in one file, to be tried."""
        return self._folder / CANDIDATE

    def files(self) -> tuple[Path | None, Path | None]:
        """Certificate and key in use; without a key both stand in one file; (None, None) if there is nothing."""
        if _whole(self._folder / IN_USE):
            return self._folder / IN_USE, None
        certificate, key = self._folder / TLS_CERTIFICATE, self._folder / TLS_KEY
        return (certificate, key) if certificate.is_file() and key.is_file() else (None, None)

    def shown(self) -> certificates.Shown | None:
        """What the certificate in use says; None if there is none, or one made elsewhere that can't be read."""
        certificate, _ = self.files()
        if certificate is None:
            return None
        with plainly(certificate):
            content = certificate.read_bytes()[:FILE_BYTES_MAX]
        try:
            return certificates.read(content)
        except BadInput:
            return None

    def key(self) -> bytes:
        """The key that a certificate is to be asked for, PEM; durably made if there is none yet. Raises BadInput where the disk refuses."""
        held = _whole(self.candidate) or _key_in(_private(self._folder / KEY))
        if held:
            return held
        made = certificates.new_key()
        path = self._folder / KEY
        with plainly(path):
            make_folder(self._folder)
            write_durably(path, made)
        return made

    def take(self, chain: bytes, name: str) -> None:
        """Makes a certificate (PEM, its chain after it) the candidate. Raises BadInput unless it is for that name and for our key."""
        key = self.key()
        if certificates.read(chain).name != name or not certificates.belongs(chain, key):
            raise BadInput("the backend's certificate is not for this robot's name and key", "tell its operator")
        with plainly(self.candidate):
            write_durably(self.candidate, chain.rstrip() + b"\n" + key)
        self._forget_key()

    def promote(self) -> None:
        """Puts the candidate to use. Without one nothing changes, so a repeat does no harm."""
        if _whole(self.candidate):
            self._forget_key()
            with plainly(self.candidate):
                rename_durably(self.candidate, self._folder / IN_USE)

    def discard(self) -> None:
        """Gives the candidate up, and the key that was asked for; the pair in use stays."""
        with plainly(self._folder):
            self.candidate.unlink(missing_ok=True)
        self._forget_key()

    def keep(self, certificate: Path, key: Path) -> None:
        """Takes over a pair that was made elsewhere, in place of any other. Raises BadInput where the disk refuses."""
        with plainly(self._folder):
            make_folder(self._folder)
            write_durably(self._folder / TLS_CERTIFICATE, certificate.read_bytes())
            write_durably(self._folder / TLS_KEY, key.read_bytes())
            (self._folder / IN_USE).unlink(missing_ok=True)
            sync_folder(self._folder)

    def _forget_key(self) -> None:
        """It stands in the candidate; a later request needs another."""
        with plainly(self._folder):
            (self._folder / KEY).unlink(missing_ok=True)
            if self._folder.is_dir():
                sync_folder(self._folder)


def _private(path: Path) -> bytes:
    """Nothing for a file that is not there, or that others can use: what they may have read is no secret any more."""
    try:
        with plainly(path):
            return read_private(path, FILE_BYTES_MAX) or b""
    except BadInput:
        return b""


def _key_in(content: bytes) -> bytes:
    """The private key, PEM; nothing where there is none."""
    begins = content.find(KEY_BEGINS)
    key = content[begins:] if begins >= 0 else b""
    return key if key and certificates.usable(key) else b""


def _whole(path: Path) -> bytes:
    """The key of a certificate with its own key in one file; nothing for anything else."""
    content = _private(path)
    key = _key_in(content)
    try:
        return key if key and certificates.belongs(content, key) else b""
    except BadInput:
        return b""
