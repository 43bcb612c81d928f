"""A robot that does what commands ask of it on paper: counts, and hangs or fails as told. For tests and simulations."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any


class ScriptedSteerable:
    """Implements the port Steerable."""

    def __init__(self, did: Callable[[str, str], None] = lambda _what, _how: None) -> None:
        """`did(what, how)`: called as something is done, with its argument; where a simulation keeps what outlives a power cut."""
        self.done: Counter[str] = Counter()
        """How often each was begun."""
        self.given: list[tuple[str, str]] = []
        """What was begun, with its argument, in order."""
        self.hangs: set[str] = set()
        """What never ends, by name of the method."""
        self.stubborn = False
        """What hangs does not stop when it is told to."""
        self.fails: dict[str, Exception] = {}
        """What raises, by name of the method."""
        self.answers: dict[str, Mapping[str, Any]] = {}
        """What is answered instead, by name of the method."""
        self.go_on = asyncio.Event()
        """Ends what hangs."""
        self._did = did

    async def _do(self, what: str, how: str = "", **answer: object) -> Mapping[str, Any]:
        self.done[what] += 1
        self.given.append((what, how))
        self._did(what, how)
        if what in self.hangs:
            await self._hang()
        if what in self.fails:
            raise self.fails[what]
        return self.answers.get(what, answer)

    async def _hang(self) -> None:
        while not self.go_on.is_set():
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise

    async def diagnostics(self) -> Mapping[str, Any]:
        return await self._do("diagnostics", status="ok")

    async def apply(self, settings: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        return await self._do("apply", ",".join(sorted(settings)), in_force=0, state="applied", why="")

    async def restart(self) -> None:
        await self._do("restart")

    async def flush(self) -> Mapping[str, Any]:
        return await self._do("flush", drained=True, problem="", link="mqtt", waiting=0)

    async def audit(self) -> Mapping[str, Any]:
        return await self._do("audit", whole=True, records=1, problem="")

    async def set_budget(self, amount: str, period: str) -> Mapping[str, Any]:
        return await self._do("set_budget", f"{amount}/{period}", amount=amount, period=period)

    async def set_mode(self, mode: str) -> Mapping[str, Any]:
        return await self._do("set_mode", mode, mode=mode)

    async def speak(self, text: str) -> Mapping[str, Any]:
        return await self._do("speak", text, said=text, characters=len(text), characters_heard=len(text), session_id="s-scripted")

    async def set_log_level(self, level: str) -> Mapping[str, Any]:
        return await self._do("set_log_level", level, level=level)

    async def forget(self, session_id: str) -> bool:
        return bool((await self._do("forget", session_id, forgotten=True))["forgotten"])
