"""Keeps whom this robot believes, `trust.toml`: the backend's keys, its operators' keys, the authority behind its certificates.

digest = "…"                                   sha256 of all that follows in the file; absent in one that an older version wrote
authority = "-----BEGIN CERTIFICATE-----…"     absent: this machine's own list
[[ack_key]]
kid = "…"
x = "…"                                        base64url of the raw Ed25519 key, as in the backend's JWKS
[[operator_key]]                               likewise, of who may command this robot

A file without an ack key was never written, and one that was cut between two tables is not what its first line says: both are damage.
"""

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from agent.clock import Clock
from agent.contract.registration import jwks, trusted_of
from agent.contract.signing import encode
from agent.errors import BadInput
from agent.files import put_beside, rename_durably, write_durably
from agent.store.keys import KEYS_FOLDER, make_folder, plainly
from agent.store.pair import Pair

TRUST_FILE = "trust.toml"
API_KEY = "api"
"""In the folder of keys: what this robot shows to the backend over HTTPS."""

TRUST_BYTES_MAX = 256 * 1024

AGAIN_S = 60.0
"""Between two tries to write anew what was damaged, where the disk refuses."""

REMEDY = "register this robot again"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a robot believes."""

    ack_keys: Mapping[str, bytes] = field(default_factory=dict)
    """Key id -> raw public key, of who signs acks, time and leases."""
    authority: str = ""
    """PEM."""
    operator_keys: Mapping[str, bytes] = field(default_factory=dict)
    """Key id -> raw public key, of who may command this robot."""


def read(state: Path) -> Trust:
    """Nobody, where nothing is kept yet. Raises BadInput for a file that can't be read: believing nobody is not what was meant."""
    path = state / TRUST_FILE
    with plainly(path):
        try:
            with path.open("rb") as file:
                content = file.read(TRUST_BYTES_MAX)
        except FileNotFoundError:
            return Trust()
    try:
        told = tomllib.loads(content.decode())
        keys, operators = told.get("ack_key", []), told.get("operator_key", [])
        trusted, commanding = trusted_of(_keys(keys)), trusted_of(_keys(operators))
        authority = told.get("authority", "")
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not what was written: {error}", REMEDY) from error
    if len(trusted) < len(keys) or len(commanding) < len(operators) or not isinstance(authority, str):
        raise BadInput(f"{path}: it names a key that is none", REMEDY)
    first, _, rest = content.partition(b"\n")
    if not trusted or ("digest" in told and first != _digest(rest)):
        raise BadInput(f"{path}: not all of what was written", REMEDY)
    return Trust(trusted, authority, commanding)


class Watched:
    """The same file for the robot's process, which asks often: read again when it has changed, and if it can't be read, as it was before.

    It is replaced only by what a registration or a signed twin brought, and goes only with all the rest of a robot that is not running.
    So what can't be read, or is gone, is damage and nobody's wish: it is written anew as it was, if need be again and again. Otherwise
    the next start would believe nobody, and nobody could reach the robot.
    """

    def __init__(self, state: Path, say: Callable[[str], None], clock: Clock) -> None:
        self._state, self._say, self._clock = state, say, clock
        self._seen: tuple[int, int, int] | None = None
        self._held = Trust()
        self._again_s: float | None = None
        """When what is damaged is to be written anew once more; None: it is not, or the disk has not refused yet."""

    def now(self) -> Trust:
        """Raises nothing; that the file is damaged, and that it can't be mended, is said once."""
        seen = self._look()
        if seen != self._seen or (self._again_s is not None and self._clock.monotonic() >= self._again_s):
            self._seen = seen
            try:
                self._held, self._again_s = self._read(), None
            except BadInput as error:
                self._damaged(error)
        return self._held

    def _read(self) -> Trust:
        found = read(self._state)
        if self._held.ack_keys and not found.ack_keys:
            raise BadInput(f"{self._state / TRUST_FILE}: it is gone", REMEDY)
        return found

    def _damaged(self, error: BadInput) -> None:
        """Whom nothing is known of, as at a start, only a registration can help."""
        if self._again_s is None:
            self._say(f"whom to believe: {error}")
        elif self._clock.monotonic() < self._again_s:
            return
        if self._held.ack_keys:
            self._mend()

    def _mend(self) -> None:
        held = self._held
        try:
            write(self._state, jwks(held.ack_keys.values()), held.authority, jwks(held.operator_keys.values()))
        except BadInput as error:
            if self._again_s is None:
                self._say(f"whom to believe: {error}")
            self._again_s = self._clock.monotonic() + AGAIN_S
            return
        self._seen, self._again_s = self._look(), None
        self._say("whom to believe: written anew as it was")

    def _look(self) -> tuple[int, int, int]:
        try:
            status = (self._state / TRUST_FILE).stat()
        except OSError:
            return 0, 0, 0
        return status.st_ino, status.st_mtime_ns, status.st_size


def write(state: Path, keys: Sequence[Mapping[str, Any]], authority: str, operators: Sequence[Mapping[str, Any]] | None = None) -> Trust:
    """Keeps what a registration, or a twin, brought: keys as in a JWKS; without `operators` those that are there stay, as far as
    they can be read.

    Raises BadInput for no key that can sign acks, for more than can be read again, and where the disk refuses.
    """
    return prepared(state, keys, authority, operators)()


def prepared(
    state: Path, keys: Sequence[Mapping[str, Any]], authority: str, operators: Sequence[Mapping[str, Any]] | None = None
) -> Callable[[], Trust]:
    """The same in two steps: whoever calls what this returns puts in force what is on the disk by then, which takes no more room."""
    trusted = trusted_of(keys)
    if not trusted:
        raise BadInput("the backend names no key that signs its acks", "tell its operator")
    commanding: Mapping[str, bytes] = {}
    if operators is not None:
        commanding = trusted_of(operators)
    else:
        with suppress(BadInput):  # what is damaged must not keep a registration from mending it
            commanding = read(state).operator_keys
    believed, path = Trust(trusted, authority, commanding), state / TRUST_FILE
    content = _written(believed)
    if len(content) > TRUST_BYTES_MAX:
        raise BadInput(f"{path}: {len(content)} bytes; the most is {TRUST_BYTES_MAX}", "name one authority, not all of a machine's")
    with plainly(path):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = put_beside(path, content)

    def keep() -> Trust:
        with plainly(path):
            rename_durably(part, path)
        return believed

    return keep


def keep_api_key(state: Path, key: str) -> None:
    """Raises BadInput where the disk refuses."""
    path = api_key_file(state)
    with plainly(path):
        make_folder(path.parent)
        write_durably(path, f"{key}\n".encode())


def api_key_file(state: Path) -> Path:
    return state / KEYS_FOLDER / API_KEY


def keep_tls(state: Path, certificate: Path, key: Path) -> None:
    """Takes over a certificate and its key, PEM files made elsewhere. Raises BadInput where the disk refuses."""
    Pair(state).keep(certificate, key)


def tls_files(state: Path) -> tuple[Path | None, Path | None]:
    """The robot's certificate and its key, if it has them; without a key both stand in the first file."""
    return Pair(state).files()


def _written(believed: Trust) -> bytes:
    """A JSON text is a TOML one as well."""
    lines = [f"authority = {orjson.dumps(believed.authority).decode()}"] if believed.authority else []
    for table, keys in (("ack_key", believed.ack_keys), ("operator_key", believed.operator_keys)):
        for kid, public in keys.items():
            lines += ["", f"[[{table}]]", f'kid = "{kid}"', f'x = "{encode(public)}"']
    rest = "\n".join([*lines, ""]).encode()
    return _digest(rest) + b"\n" + rest


def _digest(rest: bytes) -> bytes:
    """The first line: wherever the file is cut, this is left and tells it."""
    return b'digest = "%b"' % hashlib.sha256(rest).hexdigest().encode()


def _keys(keys: Any) -> list[dict[str, Any]]:
    return [{"kty": "OKP", "crv": "Ed25519", **one} for one in keys]
