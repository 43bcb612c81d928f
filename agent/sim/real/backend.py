"""`voxmeter billing serve` as a process: TLS of its own authority, a folder that outlives it, kills, and backups put back.

start -> serving -> stop (in good order) | kill -> start -> … | restore: the last backup in place of the books, while it is dead
"""

import asyncio
import contextlib
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Any

from agent.billing.ledger.sqlite import DATABASE_FILE, reader
from agent.billing.ledger.totals import usage_totals
from agent.billing.operate import handed_over
from agent.clock import SystemClock
from agent.contract import certificates
from agent.contract.signing import encode
from agent.errors import LedgerBusy, NoLink
from agent.files import write_durably
from agent.sim.real.broker import BACKEND, HOST, Broker, free_port

CERTIFICATE_DAYS = 30

START_SECONDS_MAX = 30
"""To be ready: with twenty robots on two cores that took up to 5."""

STOP_SECONDS_MAX = 15
"""To finish what it has begun; then it is killed."""

READY = "ready"
"""How the line begins by which it says that it serves."""

TOKEN_HOURS = 24

REQUESTS_PER_SECOND = 1000
"""All robots share one address here."""


class Backend:
    """One backend in a folder."""

    def __init__(self, folder: Path, broker: Broker | None) -> None:
        """Without a broker it listens over HTTPS alone."""
        self._folder = folder
        self.state = folder / "state"
        """Its `--state-dir`."""
        self.state.mkdir(parents=True, mode=0o700)
        self.port = free_port()
        """The same for the life of this object."""
        now = SystemClock().utc()
        vouching = certificates.authority("voxmeter billing", now, CERTIFICATE_DAYS)
        self.authority = vouching.certificate
        """PEM of whom robots are to believe."""
        server = certificates.issue(vouching, "billing", now, CERTIFICATE_DAYS, servers=(HOST, "localhost"))
        write_durably(folder / "server.crt", server.certificate)
        write_durably(folder / "server.key", server.key)
        self.shown: tuple[Path, Path] | None = None
        """What the broker is shown, certificate and key."""
        self._beside = self._introduced(broker) if broker else {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Future[None] | None = None
        self._words: deque[str] = deque(maxlen=5)
        self._ready = asyncio.Event()
        self._backups = 0

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Returns when it serves. Raises NoLink with its last words if it doesn't."""
        self._ready.clear()
        pipe = asyncio.subprocess.PIPE
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=log, start_new_session=True
            )
        self._reading = asyncio.ensure_future(self._read(self._process))
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({ready, self._reading}, timeout=START_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not self._ready.is_set():
            await self.kill()
            raise NoLink(f"the backend does not start: {self._last_words()}", f"see {self._folder / 'log'}")

    async def kill(self) -> None:
        """As a power cut: at once."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """In good order."""
        await self._end(signal.SIGTERM)

    async def token(self, tenant: str, device: str, account: str) -> str:
        """A one-time token, through the operator's door. Raises a VoxmeterError if it can't be had."""
        told = await self._asked({"op": "token", "device": device, "tenant": tenant, "account": account, "hours": TOKEN_HOURS})
        return str(told["token"])

    async def know_operator(self, name: str, public: bytes) -> None:
        """Robots that register from now on obey that key."""
        await self._asked({"op": "operator add", "name": name, "public": encode(public)})

    async def revoke(self, tenant: str, device: str) -> None:
        """Strikes a robot off, through the operator's door."""
        await self._asked({"op": "revoke", "tenant": tenant, "device": device})

    async def totals(self, tenant: str, device: str) -> list[dict[str, Any]]:
        """What is billed of a robot, by stage, as its books have it now; see `billing.ledger.totals.usage_totals`."""

        def look() -> list[dict[str, Any]]:
            books = reader(self.state / DATABASE_FILE)
            try:
                with books.connect() as connection:
                    return usage_totals(connection, tenant=tenant, device=device, group_by=("stage",))
            finally:
                books.dispose()

        return await asyncio.to_thread(look)

    async def backup(self) -> None:
        """An official copy; the last one counts."""
        path = self._folder / f"backup-{self._backups}.db"
        await self._asked({"op": "backup", "file": str(path)})
        self._backups += 1

    def restore(self) -> None:
        """Puts the last backup where the books were. Only while it is dead. Raises NoLink if there is no backup."""
        if not self._backups:
            raise NoLink("there is no backup to restore", "make one first")
        for path in self.state.glob(f"{DATABASE_FILE}*"):
            path.unlink()
        (self.state / DATABASE_FILE).write_bytes((self._folder / f"backup-{self._backups - 1}.db").read_bytes())

    async def _asked(self, question: dict[str, Any]) -> Any:
        try:
            return await handed_over(self.state, question)
        except LedgerBusy as error:
            raise NoLink(f"the backend takes no commands: {error.message}", self._last_words()) from error

    async def _end(self, how: signal.Signals) -> None:
        if self._process is None or self._reading is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self._words.append(line.decode(errors="replace").strip())
            if self._words[-1].startswith(READY):
                self._ready.set()

    def _last_words(self) -> str:
        log = self._folder / "log"
        words = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return (words or list(self._words) or ["it says nothing"])[-1]

    def _command(self) -> list[str]:
        options: dict[str, object] = {
            "--state-dir": self.state,
            "--host": HOST,
            "--port": self.port,
            "--certificate": self._folder / "server.crt",
            "--key": self._folder / "server.key",
            "--rate": REQUESTS_PER_SECOND,
            **self._beside,
        }
        words = [str(word) for pair in options.items() for word in pair]
        return [sys.executable, "-P", "-m", "agent", "billing", "serve", *words]

    def _introduced(self, broker: Broker) -> dict[str, object]:
        """Options by which it knows the broker, and the broker it."""
        certificate, key = self.shown = broker.client(BACKEND)
        write_durably(self._folder / "broker.pem", broker.authority)
        shown: dict[str, object] = {"--broker-ca": self._folder / "broker.pem", "--broker-certificate": certificate, "--broker-key": key}
        return {"--broker": f"{HOST}:{broker.port}"} | shown
