"""A robot that twins are tried on, its folder and its backend, for tests."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent import profile
from agent.contract import wire
from agent.contract.fleet import twin as contract
from agent.contract.fleet.twin import Desired, Keys, Reported
from agent.contract.registration import jwks, trusted_of
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.fleet.twin.adopting import Adopting
from agent.ports import Delivered
from agent.ports.twin import Surroundings, TwinBook
from agent.sim.clock import SimulatedClock
from agent.store.remote import Remote

AUDIENCE = "demo/sim-0001"
BACKEND = SigningKey.from_seed(b"b" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
OPERATOR = SigningKey.from_seed(b"p" * 32)


def desired(version: int = 1, settings: Mapping[str, Mapping[str, Any]] | None = None, **told: Any) -> Desired:
    """What the backend wants; `told` are its other fields."""
    held = {table: dict(keys) for table, keys in (settings or {}).items()}
    return Desired(**{"aud": AUDIENCE, "version": version, "settings": held, "iat": 1_800_000_000} | told)


def keys(*ack: SigningKey) -> Keys:
    return Keys(ack_keys=jwks([one.public for one in ack]))


class Robot:
    """A robot in a folder, without engines: a model called `missing` is not on it, with one called `sick` it is not well."""

    def __init__(self, folder: Path, book: Callable[[Path, Callable[[str], None]], TwinBook] = Remote, *, connected: bool = True) -> None:
        self.folder, self.connected, self.ailing, self.hears = folder, connected, "", False
        self.clock = SimulatedClock()
        self.lines: list[str] = []
        self.reports: list[Reported] = []
        self.reopenings: list[str] = []
        self.open_with: dict[str, dict[str, Any]] | None = None
        self.trusted_file = folder / "trusted"
        self.book = book(folder, self.lines.append)
        around = Surroundings(
            audience=AUDIENCE,
            fits=lambda settings: profile.load("simulated", settings),
            trusted=self.trusted,
            believe=self.believe,
            reopen=self.reopenings.append,
            connected=lambda: self.connected,
            hears=lambda: self.hears,
            ailing=lambda: self.ailing,
            software="voxmeter 1",
        )
        self.around = around
        self.adopting = Adopting(self.book, around, self.clock, say=self.lines.append, report=self._reported)

    def trusted(self) -> dict[str, bytes]:
        if not self.trusted_file.exists():
            return {BACKEND.key_id: BACKEND.public}
        found = bytes.fromhex(self.trusted_file.read_text())
        return {key.key_id: key.public for key in (BACKEND, OTHER) if key.public in found}

    def believe(self, told: Keys) -> None:
        self.trusted_file.write_text(b"".join(trusted_of(told.ack_keys or []).values()).hex())

    def _reported(self, topic: str, body: bytes, retained: bool) -> None:
        assert (topic, retained) == (wire.REPORTED, True)
        self.reports.append(contract.read_reported(body))

    @property
    def told(self) -> Reported:
        return contract.read_reported(self.adopting.reported())

    async def comes(self, content: bytes) -> bool:
        """Whether it was confirmed."""
        confirmed: list[bool] = []
        await self.adopting.take(Delivered(wire.DESIRED, content, True, lambda: confirmed.append(True)))
        return bool(confirmed)

    async def wanted(self, version: int = 1, settings: Mapping[str, Mapping[str, Any]] | None = None, **told: Any) -> bool:
        return await self.comes(contract.signed(desired(version, settings, **told), BACKEND))

    async def open(self) -> None:
        """Opens, as a composition would, again where settings are taken back."""
        while True:
            self.reopenings.clear()
            settings = await self.adopting.begin()
            try:
                self._opened(settings)
            except BadInput as error:
                if await self.adopting.fell(str(error)):
                    continue
                raise
            return

    def _opened(self, settings: dict[str, dict[str, Any]]) -> None:
        model = profile.load("simulated", settings).llm.model
        if model == "missing":
            raise BadInput("missing is not on this robot")
        self.ailing = "the voice does not answer" if model == "sick" else ""
        self.open_with = settings

    async def live(self) -> None:
        """Opens and lives until nothing is on trial and nobody asks for it to be opened anew."""
        await self.open()
        await self.adopting.run()
        while self.reopenings:
            await self.open()
            await self.adopting.run()
