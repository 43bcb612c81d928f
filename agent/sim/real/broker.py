"""A real mosquitto on a loopback port of its own: TLS with client certificates, an ACL per robot, a memory that can be lost.

    start -> running -> stop (it saves what it holds) | kill (it does not) | forget (and what it saved is gone) -> start -> …

Whoever connects is who its certificate says; by the robots' port that is the client id as well, as in docs/broker.md. The name is
`{tenant}/{device}` for a robot, so that the ACL binds both, `billing` for the backend, and `operator/{name}` for an operator's desk.
Besides its own authority it may believe another's robots, except those on that authority's list.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.clock import SystemClock, seeded
from agent.contract import certificates, wire
from agent.errors import BadInput, MissingPart, NoLink

PROGRAM = "mosquitto"

ELSEWHERE = "/usr/sbin:/usr/local/sbin"
"""Where Debian puts it; not everyone's PATH has that."""

HOST = "127.0.0.1"

PORTS = range(10_000, 32_000)
"""Below those that a client gets by itself, which may be in use by when a server asks for the one it chose."""

BACKEND = "billing"
"""The name on the backend's certificate: it reads all that robots send, and answers."""

CERTIFICATE_DAYS = 30
"""Longer than any test or scenario, simulated weeks included: the broker's clock doesn't leap with a robot's."""

OPERATOR = "operator/"
"""Begins the name on an operator's certificate: he reads all that robots send, and commands them."""

PACKET_BYTES_MAX = 128 * 1024
"""A batch is 64 KiB before compression, its topic and properties far less than the rest. Who sends more is disconnected."""

SAVE_S = 1
"""Between two saves of what it holds; a kill loses no more than that."""

QUEUED_MAX = 20_000
"""Messages kept for one client that is away: eight batches each of 2,000 robots fit into the backend's queue."""

QUEUED_BYTES_MAX = 256 * 1024 * 1024

PATIENCE_TURNS, TURN_S = 500, 0.02
"""How long a start or a stop may take: 10 s. Where that isn't enough something else is wrong."""

PORT_TRIES_MAX = 5
"""Between finding a free port and the broker's taking it somebody else may."""

ANSWERS = ("usage/ack", "usage/lease", "cmd/req/+", "twin/desired", "time/att")
"""What the backend may write to a robot, and a robot may read (contract, section 4)."""

TOLD = ("state/#", "twin/reported", "cmd/res/+", "cmd/sync", "event/+")
"""What an operator may read of all robots; their books are not his business."""

OF_ROBOTS = ("usage/batch", "usage/mark", *TOLD)
"""What a robot may write, and the backend may read."""


class Broker:
    """One mosquitto and the authority that vouches for it and for everyone who may connect."""

    def __init__(self, folder: Path, port: int = 0, *, operators: Sequence[str] = ()) -> None:
        """`port` 0 is any free one, the same for the life of this object; `operators`: their names, `operator/{name}`.

        Raises MissingPart where mosquitto isn't installed.
        """
        self._program = find_program()
        self._folder = folder
        self._any_port = port == 0
        self.port = port
        self.robots_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._operators = operators
        (folder / "memory").mkdir(parents=True, exist_ok=True)
        now = SystemClock().utc()
        self._vouching = certificates.authority("voxmeter test authority", now, CERTIFICATE_DAYS)
        self._others = b""
        self._list: Path | None = None
        self._write("authority.pem", self._vouching.certificate)
        self._issue("broker", "broker", servers=(HOST, "localhost"))

    @property
    def host(self) -> str:
        return HOST

    @property
    def authority(self) -> bytes:
        """PEM of whom to believe."""
        return self._vouching.certificate

    def believe(self, authority: bytes, revoked: Path | None = None) -> None:
        """From the next start on it also lets in whom that authority (PEM) vouches for, but for those on its list (a file, CRL)."""
        self._others, self._list = authority, revoked

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def client(self, name: str) -> tuple[Path, Path]:
        """(certificate, key) of a robot, `{tenant}/{device}`, of the backend, BACKEND, or of an operator, `operator/{name}`.

        Raises BadInput for a name without room, and for an operator who is not on its list.
        """
        if not 0 < len(name) <= certificates.NAME_LENGTH_MAX or any(sign in name for sign in "+#\0"):
            raise BadInput(f"{name!r} can't stand in a certificate", f"give 1 to {certificates.NAME_LENGTH_MAX} characters without + and #")
        if name.startswith(OPERATOR) and name not in self._operators:
            raise BadInput(f"this broker knows no {name}", "name all operators when it is made")
        return self._issue(name.encode().hex(), name)

    def start(self) -> None:
        """Returns when it accepts connections. Raises NoLink with its own words if it doesn't."""
        if self.running:
            return
        for left in reversed(range(PORT_TRIES_MAX)):
            if self._any_port and (not self.port or left < PORT_TRIES_MAX - 1):
                self.port = free_port()
            if not self.robots_port or left < PORT_TRIES_MAX - 1:
                self.robots_port = free_port()
            self._begin()
            if self._accepts():
                return
            self.kill()
            if b"Address already in use" not in self._log.read_bytes():
                break
        raise NoLink(f"mosquitto does not start: {self._last_words()}", f"see {self._log}")

    def stop(self) -> None:
        """Ends it in peace: it saves what it holds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once: what came since the last save is lost."""
        self._end(signal.SIGKILL)

    def forget(self) -> None:
        """Kills it and takes its memory: sessions, subscriptions, queues, retained messages."""
        self.kill()
        for path in (self._folder / "memory").iterdir():
            path.unlink()

    def restart(self) -> None:
        """Stops it in peace, if it runs, and starts it on the same port; certificates and lists are read anew."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def _log(self) -> Path:
        return self._folder / "mosquitto.log"

    def _begin(self) -> None:
        self._introduce()
        self._rule()
        self._write("mosquitto.conf", self._configuration().encode())
        with self._log.open("ab") as log:
            command = [self._program, "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _rule(self) -> None:
        """Says who may what."""
        self._write("acl", _acl(self._operators).encode())

    def _introduce(self) -> None:
        """Whom to let in, and whom not. With one list OpenSSL wants one of each authority."""
        self._write("clients.pem", self._vouching.certificate + self._others)
        if self._list is not None:
            own = certificates.revocations(self._vouching, {}, SystemClock().utc(), CERTIFICATE_DAYS)
            self._write("revoked.pem", own + self._list.read_bytes())

    def _accepts(self) -> bool:
        """Whether it runs and takes connections, within the patience."""
        assert self._process is not None
        for _ in range(PATIENCE_TURNS):
            with suppress(subprocess.TimeoutExpired):  # waiting for its end is the way to wait that a clock can't bend
                self._process.wait(TURN_S)
                return False
            with suppress(OSError):
                for port in (self.port, self.robots_port):
                    socket.create_connection((HOST, port), timeout=1).close()
                return self.running
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)  # one that has ended is sent none
        try:
            self._process.wait(PATIENCE_TURNS * TURN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _last_words(self) -> str:
        words = self._log.read_text(errors="replace") if self._log.exists() else ""
        return (words.splitlines() or ["it says nothing"])[-1]

    def _issue(self, stem: str, name: str, servers: tuple[str, ...] = ()) -> tuple[Path, Path]:
        made = certificates.issue(self._vouching, name, SystemClock().utc(), CERTIFICATE_DAYS, servers)
        return self._write(f"{stem}.crt", made.certificate), self._write(f"{stem}.key", made.key)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        return path

    def _configuration(self) -> str:
        lines: dict[str, object] = {
            "user": "root",  # only root can change to another user; its folder is ours alone
            "allow_anonymous": "false",
            "acl_file": self._folder / "acl",
            "persistence": "true",
            "persistence_location": f"{self._folder / 'memory'}/",
            "autosave_interval": SAVE_S,
            "max_packet_size": PACKET_BYTES_MAX,
            "max_inflight_messages": wire.RECEIVE_MAX,
            "max_queued_messages": QUEUED_MAX,
            "max_queued_bytes": QUEUED_BYTES_MAX,
            "persistent_client_expiration": f"{wire.SESSION_EXPIRY_S // 86400}d",
            "set_tcp_nodelay": "true",
            "sys_interval": 0,
            "log_dest": "stderr",
        }
        blocks = lines, self._listener(self.port), self._listener(self.robots_port) | {"use_username_as_clientid": "true"}
        return "".join(f"{name} {value}\n" for block in blocks for name, value in block.items())

    def _listener(self, port: int) -> dict[str, object]:
        return {
            "listener": f"{port} {HOST}",
            "cafile": self._folder / "clients.pem",
            "certfile": self._folder / "broker.crt",
            "keyfile": self._folder / "broker.key",
            "require_certificate": "true",
            "use_identity_as_username": "true",
            "tls_version": "tlsv1.2",
        } | ({"crlfile": self._folder / "revoked.pem"} if self._list else {})


def _acl(operators: Sequence[str]) -> str:
    """As in docs/broker.md: who may read and write what below a robot's subtree; what is not named nobody may.

    What a robot may write below its name an operator may below theirs: there a desk hears itself.
    """
    backend = [f"user {BACKEND}", *_topics("read", OF_ROBOTS, "v1/+/+"), *_topics("write", ANSWERS, "v1/+/+")]
    people = [
        line
        for name in operators
        for line in (
            f"user {name}",
            *_topics("read", TOLD, "v1/+/+"),
            f"topic write v1/+/+/{wire.REQUEST}/+",
        )
    ]
    own = [line.replace("topic", "pattern", 1) for line in (*_topics("write", OF_ROBOTS, "v1/%u"), *_topics("read", ANSWERS, "v1/%u"))]
    return "\n".join([*backend, *people, *own, ""])


def _topics(what: str, names: Sequence[str], below: str) -> list[str]:
    return [f"topic {what} {below}/{name}" for name in names]


def find_program() -> str:
    """Raises MissingPart."""
    if not (found := shutil.which(PROGRAM) or shutil.which(PROGRAM, path=ELSEWHERE)):
        raise MissingPart("mosquitto is not installed", "install the Debian package mosquitto, or run: scripts/setup --all")
    return found


def free_port() -> int:
    """A loopback port nobody listens on at this moment, and that the system gives to no client before somebody does."""
    chance = seeded(SystemClock().seed())
    while True:
        port = chance.choice(PORTS)
        with suppress(OSError), socket.socket() as listening:
            listening.bind((HOST, port))
            return port
