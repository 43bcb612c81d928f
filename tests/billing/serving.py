"""The whole backend behind its HTTP app, in this process, with a client that speaks to it."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from agent.billing.access import Access
from agent.billing.access.registration import Minting
from agent.billing.http import app
from agent.billing.http.gate import Limits
from agent.billing.http.metrics import Attended, Metrics
from agent.contract.batch import Batch, sign
from agent.contract.encoding import encoded
from agent.contract.registration import registering
from agent.contract.signing import KEY_MARK, SIGNATURE_MARK, SigningKey
from tests.billing.helpers import ACCOUNT, BACKEND_KEY, KEY, NAME, TENANT, Backend, Robot, with_backend

T = TypeVar("T")

BASE = httpx.URL(scheme="http", host="backend")
FREE = Limits(per_second=100_000)


class Web:
    """A backend and a stranger's client; `key` gives credentials."""

    def __init__(self, backend: Backend, limits: Limits = FREE, address: str = "127.0.0.1") -> None:
        self.backend, self.clock, self.store = backend, backend.clock, backend.store
        self.access = Access(backend.store, BACKEND_KEY, backend.clock)
        self.access.listen(backend.ingest.forget)
        self.metrics = Metrics()
        self.ingest = Attended(backend.ingest, self.access, self.metrics, backend.clock)
        self.api = app(backend.store, self.ingest, self.access, BACKEND_KEY, backend.clock, limits=limits, metrics=self.metrics)
        self.client = self.client_at(address)

    def client_at(self, address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.api, client=(address, 5000)), base_url=BASE)

    async def key(self, *scopes: str, tenant: str = "") -> dict[str, str]:
        """Headers of a new API key."""
        return bearer((await self.access.create("test", scopes, tenant))["api_key"])

    async def robot(self, name: str = NAME, key: SigningKey = KEY) -> dict[str, str]:
        """Registers a robot; headers of its API key."""
        token = await self.access.mint(Minting(TENANT, ACCOUNT, name), 1)
        told = await self.client.post("/v1/devices", json=registering(token, TENANT, name, key).model_dump())
        assert told.status_code == 201, told.text
        return bearer(told.json()["api_key"])

    async def send(self, robot: Robot, headers: Mapping[str, str], batch: Batch | None = None, *, packed: bool = False) -> httpx.Response:
        batch = batch or robot.batch()
        content, encoding = encoded(batch.content) if packed else (batch.content, "")
        more = marks(sign(batch, robot.key)) | ({"Content-Encoding": encoding} if encoding else {})
        return await self.client.post(batches(robot.name), content=content, headers=dict(headers) | more)


def batches(name: str = NAME) -> str:
    return f"/v1/devices/{name}/usage-batches"


def state(name: str = NAME) -> str:
    return f"/v1/devices/{name}/usage-state"


def bearer(shown: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {shown}"}


def marks(signature: Mapping[str, str]) -> dict[str, str]:
    return {"VX-Key": signature[KEY_MARK], "VX-Signature": signature[SIGNATURE_MARK]}


def marks_of(answer: httpx.Response) -> dict[str, str]:
    return {KEY_MARK: answer.headers["VX-Key"], SIGNATURE_MARK: answer.headers["VX-Signature"]}


def error(answer: httpx.Response) -> str:
    """The code of an error, its shape checked."""
    told = answer.json()
    assert {"code", "message", "request_id", "latency"} <= set(told), told
    assert isinstance(told["latency"], int)
    assert told["request_id"] == answer.headers["X-Request-ID"]
    assert "\n" not in told["message"]
    return str(told["code"])


def with_web(folder: Path, run: Callable[[Web], Awaitable[T]], **settings: Any) -> T:
    """Runs a test against a backend over HTTP."""

    async def over_http(backend: Backend) -> T:
        web = Web(backend, **settings)
        async with web.client:
            return await run(web)

    return with_backend(folder, over_http)
