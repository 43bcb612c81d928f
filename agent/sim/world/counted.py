"""A link of a simulated robot that is watched: how many batches are on their way over it at once."""

from collections.abc import Callable, Mapping

from agent.ports import Answer, Link, Poster, Refused, Retry


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


class CountedPoster(Counted):
    """The same, of a link that carries what is no batch: nothing of a robot without power."""

    def __init__(self, link: Link, poster: Poster, count: Callable[[int], None], dark: Callable[[], bool]) -> None:
        super().__init__(link, count)
        self._poster, self._dark = poster, dark

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        return Retry("power is gone") if self._dark() else await self._poster.post(topic, body, retained=retained)


def counted(link: Link, count: Callable[[int], None], dark: Callable[[], bool]) -> Counted:
    """A link that is watched, and still carries what it carried."""
    return CountedPoster(link, link, count, dark) if isinstance(link, Poster) else Counted(link, count)
