"""Keeps whom this robot believes, `trust.toml`: the backend's keys, its operators' keys, the authority behind its certificates.

authority = "-----BEGIN CERTIFICATE-----…"     absent: this machine's own list
[[ack_key]]
kid = "…"
x = "…"                                        base64url of the raw Ed25519 key, as in the backend's JWKS
[[operator_key]]                               likewise, of who may command this robot
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from agent.contract.registration import jwks, trusted_of
from agent.contract.signing import encode
from agent.errors import BadInput
from agent.files import write_durably
from agent.store.keys import KEYS_FOLDER, make_folder, plainly
from agent.store.pair import Pair

TRUST_FILE = "trust.toml"
API_KEY = "api"
"""In the folder of keys: what this robot shows to the backend over HTTPS."""

TRUST_BYTES_MAX = 256 * 1024


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
        raise BadInput(f"{path}: not what was written: {error}", "register this robot again") from error
    if len(trusted) < len(keys) or len(commanding) < len(operators) or not isinstance(authority, str):
        raise BadInput(f"{path}: it names a key that is none", "register this robot again")
    return Trust(trusted, authority, commanding)


class Watched:
    """The same file for the robot's process, which asks often: read again when it has changed, and if it can't be read, as it was before.

    It is replaced only by what a registration or a signed twin brought, so what can't be read is damage and nobody's wish: it is written
    anew as it was. Otherwise the next start would believe nobody, and nobody could reach the robot.
    """

    def __init__(self, state: Path, say: Callable[[str], None]) -> None:
        self._state, self._say = state, say
        self._seen: tuple[int, int, int] | None = None
        self._held = Trust()

    def now(self) -> Trust:
        """Raises nothing; that the file is damaged is said once."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._held = read(self._state)
            except BadInput as error:
                self._say(f"whom to believe: {error}")
                self._mend()
        return self._held

    def _mend(self) -> None:
        """Whom nothing is known of, as at a start, only a registration can help."""
        if not self._held.ack_keys:
            return
        try:
            held = self._held
            write(self._state, jwks(held.ack_keys.values()), held.authority, jwks(held.operator_keys.values()))
        except BadInput as error:
            self._say(f"whom to believe: {error}")
            return
        self._seen = self._look()
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

    Raises BadInput for no key that can sign acks, and where the disk refuses.
    """
    trusted = trusted_of(keys)
    if not trusted:
        raise BadInput("the backend names no key that signs its acks", "tell its operator")
    commanding: Mapping[str, bytes] = {}
    if operators is not None:
        commanding = trusted_of(operators)
    else:
        with suppress(BadInput):  # what is damaged must not keep a registration from mending it
            commanding = read(state).operator_keys
    believed = Trust(trusted, authority, commanding)
    with plainly(state / TRUST_FILE):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(state / TRUST_FILE, _written(believed).encode())
    return believed


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


def _written(believed: Trust) -> str:
    """A JSON text is a TOML one as well."""
    lines = [f"authority = {orjson.dumps(believed.authority).decode()}"] if believed.authority else []
    for table, keys in (("ack_key", believed.ack_keys), ("operator_key", believed.operator_keys)):
        for kid, public in keys.items():
            lines += ["", f"[[{table}]]", f'kid = "{kid}"', f'x = "{encode(public)}"']
    return "\n".join([*lines, ""])


def _keys(keys: Any) -> list[dict[str, Any]]:
    return [{"kty": "OKP", "crv": "Ed25519", **one} for one in keys]
