"""Decides where the desk connects and as whom: command line options over the operator's own `fleet.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.contract.certificates import name_of
from agent.contract.record import first_problem
from agent.desk import keys
from agent.errors import BadInput
from agent.files import read_beginning
from agent.ports import LinkSettings

FILE = "fleet.toml"
FILE_BYTES_MAX = 64 * 1024

OPERATOR = "operator"
"""First part of an operator's name in a certificate, where a robot's has its tenant."""

PORT = 8883
"""MQTT over TLS."""


class Written(BaseModel):
    """`fleet.toml`. Paths are relative to its own folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    broker: str = ""
    """HOST:PORT."""
    ca: Path | None = None
    """PEM of the authority behind the broker's certificate; absent: this machine's own list."""
    certificate: Path | None = None
    key: Path | None = None
    operator_key: Path | None = None
    tenant: str = Field(default="", max_length=64)
    """Whose robots, where the command line names nobody's."""


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """All a desk needs to know."""

    link: LinkSettings
    name: str
    """`operator/{name}`, as the certificate has it."""
    tenant: str
    operator_key: Path


def written(path: Path | None = None) -> Written:
    """What stands in the file; nothing where there is none, unless it was named. Raises BadInput in one line."""
    place = path or keys.folder() / FILE
    found = read_beginning(place, FILE_BYTES_MAX)
    if found is None:
        if path:
            raise BadInput(f"there is no file {path}", "name the operator's fleet.toml")
        return Written()
    try:
        told = Written.model_validate(tomllib.loads(found[0].decode("utf-8")))
    except ValidationError as error:
        raise BadInput(f"{place}: {first_problem(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{place} is no TOML: {error}") from error
    here = place.parent
    rooted = {name: here / path for name in ("ca", "certificate", "key", "operator_key") if (path := getattr(told, name))}
    return told.model_copy(update=rooted)


def settled(told: Written, **options: Any) -> DeskSettings:
    """Options that were given, over the file. Raises BadInput naming the option that is missing or wrong."""
    all_told = told.model_copy(update={name: value for name, value in options.items() if value})
    host, port = _address(all_told.broker)
    tenant = all_told.tenant
    if not tenant:
        raise BadInput("whose robots?", f"give --tenant, or tenant = … in {keys.folder() / FILE}")
    if "/" in tenant or "+" in tenant or "#" in tenant:
        raise BadInput(f"{tenant!r} is no tenant", "give the first part of a robot's name, without signs of a topic")
    if not all_told.certificate:
        raise BadInput("the broker wants to know who connects", f"give --certificate and --key, or name them in {keys.folder() / FILE}")
    name = _operator(all_told.certificate)
    link = LinkSettings(OPERATOR, name.partition("/")[2], host, port, _authority(all_told.ca), all_told.certificate, all_told.key)
    return DeskSettings(link, name, tenant, keys.key_path(all_told.operator_key))


def _address(text: str) -> tuple[str, int]:
    if not text:
        raise BadInput("which broker?", f"give --broker HOST:PORT, or broker = … in {keys.folder() / FILE}")
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, PORT
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"{text!r} is no broker's address", "give HOST:PORT")
    return host.strip("[]"), int(port)


def _authority(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text("ascii")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}", "name the PEM of the broker's authority with --ca") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no PEM", "name the PEM of the broker's authority with --ca") from error


def _operator(certificate: Path) -> str:
    """The name it was issued for."""
    try:
        content = certificate.read_bytes()
    except OSError as error:
        raise BadInput(f"{certificate}: {error.strerror or error}", "name the operator's certificate with --certificate") from error
    name = name_of(content, str(certificate))
    first, _, rest = name.partition("/")
    if first != OPERATOR or not rest or "/" in rest:
        raise BadInput(f"{certificate} is of {name!r}, no operator", "use the certificate that was issued for operator/NAME")
    return name
