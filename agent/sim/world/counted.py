"""A link of a simulated robot that is watched: how many batches are on their way over it at once."""

from collections.abc import Callable, Mapping

from agent.ports import Answer, Link


class Counted:
    """A link, and how many batches were on their way over it at once."""

    def __init__(self, link: Link, count: Callable[[int], None]) -> None:
        self._link, self._count = link, count

    @property
    def name(self) -> str:
        return self._link.name

    @property
    def connections(self) -> int:
        return self._link.connections

    @property
    def up(self) -> bool:
        return self._link.up

    async def ready(self) -> None:
        await self._link.ready()

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        self._count(1)
        try:
            return await self._link.send(content, marks)
        finally:
            self._count(-1)

    async def mark(self, epoch: str, nonce: str) -> Answer:
        return await self._link.mark(epoch, nonce)

    async def aclose(self) -> None:
        await self._link.aclose()
