"""Counts what the backend does, for Prometheus: no label grows with the fleet, so no device's name is in one."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import Scope

from agent.billing.access import Access
from agent.billing.ingest import Answered, Ingest
from agent.billing.ingest.watching import Watcher
from agent.clock import Clock

METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"})
"""A stranger may invent others."""

COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

COUNTED: Final = {
    "batches": "Batches taken.",
    "records": "Records taken that were new.",
    "duplicates": "Records that were held already.",
    "forks": "Records that contradict what is held.",
    "rejects": "Records that were refused.",
    "refused": "Batches and questions that were refused.",
    "marks": "Questions for the mark.",
}
"""What the ingest counts."""


FORGED: Final = frozenset({"bad-signature", "forbidden", "revoked", "unknown-device", "unknown-key"})
"""Refusals of batches that somebody else may have made."""


class Taking(Protocol):
    """The ingest, or something around it."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened since the start, by the names in COUNTED."""
        ...

    @property
    def waiting(self) -> int:
        """Batches that are being taken."""
        ...

    async def take(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> Answered:
        """Commits a batch and answers with the signed ack."""
        ...

    async def mark(self, tenant: str, device: str, epoch: str, nonce: str) -> Answered:
        """Answers what is held of an epoch."""
        ...

    def watch(self) -> Watcher:
        """What is committed from now on; ends for whoever is too slow."""
        ...


class Metrics:
    """One backend's figures, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ("method", "route", "status")
        self._requests = prometheus_client.Counter("voxmeter_http_requests", "Answers over HTTP.", names, registry=self._registry)
        self._watchers = Gauge("voxmeter_watchers", "Who follows the usage live.", registry=self._registry)
        self.commit = Histogram("voxmeter_commit_seconds", "From batch to ack.", buckets=COMMIT_SECONDS, registry=self._registry)
        self.watchers = 0
        """Who follows the usage live."""

    def follow(self, ingest: Taking) -> None:
        """Tells the ingest's own counts as well."""
        self._registry.register(_Followed(ingest))

    def answered(self, scope: Scope, status: int) -> None:
        """Counts an answer under its route's pattern; what has no route is one line, whatever the path."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope.get("method", "GET")
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()

    def told(self) -> bytes:
        """In Prometheus' text format."""
        self._watchers.set(self.watchers)
        return generate_latest(self._registry)


class _Followed:
    """Reads the ingest's counts when it is asked."""

    def __init__(self, ingest: Taking) -> None:
        self._ingest = ingest

    def collect(self) -> Iterator[Metric]:
        for name, about in COUNTED.items():
            yield CounterMetricFamily(f"voxmeter_{name}", about, value=self._ingest.counts.get(name, 0))
        yield GaugeMetricFamily("voxmeter_queue", "Batches that are being taken.", value=self._ingest.waiting)


class Attended:
    """The ingest with a stopwatch and the audit log beside it, whatever link a batch came by."""

    def __init__(
        self, ingest: Ingest, access: Access, metrics: Metrics, clock: Clock, heard: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        """`heard` takes tenant and device of each batch that was taken."""
        self._ingest, self._access, self._metrics, self._clock, self._heard = ingest, access, metrics, clock, heard
        self.mark, self.watch = ingest.mark, ingest.watch

    @property
    def counts(self) -> Counter[str]:
        return self._ingest.counts

    @property
    def waiting(self) -> int:
        return self._ingest.waiting

    async def take(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> Answered:
        begun = self._clock.monotonic()
        answered = await self._ingest.take(tenant, device, content, marks)
        self._metrics.commit.observe(self._clock.monotonic() - begun)
        if answered.refusal is None:
            self._heard(tenant, device)
        if answered.fork:
            await self._access.noted(f"{tenant}/{device}", "fork", tenant=tenant, device=device)
        if answered.refusal is not None and answered.refusal.code in FORGED:
            await self._access.noted(f"{tenant}/{device}", "batch.refused", tenant=tenant, device=device, code=answered.refusal.code)
        return answered
