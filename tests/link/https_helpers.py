"""A batch, the answers it may get, and a link to a server that plays them."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence

from agent.link.https import HttpsLink
from agent.ports import Acked, Answer, LinkSettings
from agent.sim.clock import SimulatedClock
from tests.link.helpers import Authority, Play, PlayedServer, written

BATCH = b'{"bodies":"' + b"abc" * 1_000 + b'"}'
MARKS = {"vx-key": "k" * 32, "vx-sig": "s" * 86}
ACK = b'{"cum_ack":7}'
SIGNED = {"VX_Key": "key", "VX_Signature": "signature"}
ACKED = Acked(ACK, {"vx-key": "key", "vx-sig": "signature"})
GOOD = written(200, ACK, **SIGNED)
QUICK_MS = 300
"""For what never answers."""


def settings(port: int, authority: Authority, **more: object) -> LinkSettings:
    given: dict[str, object] = {"tenant": "t", "device": "robot", "host": "127.0.0.1", "port": port, "authority": authority.pem}
    return LinkSettings(**(given | {"token": lambda: "vx_1_secret"} | more))  # type: ignore[arg-type]  # tests name any field


def played(
    trusted: Authority,
    plays: Sequence[Play],
    script: Callable[[HttpsLink, PlayedServer], Awaitable[None]],
    *,
    context: ssl.SSLContext | None = None,
    wait_ms: int = 10_000,
    **more: object,
) -> PlayedServer:
    """Runs a script with a link to a server that gives these plays; the server afterwards."""

    async def main() -> PlayedServer:
        async with PlayedServer(plays, context or trusted.server()) as server:
            link = HttpsLink(settings(server.port, trusted, **more), SimulatedClock(), wait_ms=wait_ms)
            try:
                await script(link, server)
            finally:
                await link.aclose()
        return server

    return asyncio.run(main())


def answer_to(trusted: Authority, play: Play, **more: object) -> Answer:
    """What a batch comes to when the server plays that."""
    answers: list[Answer] = []

    async def script(link: HttpsLink, server: PlayedServer) -> None:
        answers.append(await link.send(BATCH, MARKS))

    played(trusted, [play], script, **more)  # type: ignore[arg-type]
    return answers[0]
