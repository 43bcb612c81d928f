"""Composes what carries the books to the backend: links out of the profile, trust out of the state folder, a worker over the ledger."""

import asyncio
import contextlib
import pkgutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.app import ledger_of
from agent.clock import Clock
from agent.contract.registration import Registered
from agent.errors import BadInput, BadProfile
from agent.fleet import twin
from agent.link import TRANSPORTS
from agent.link.account import register as registered_at
from agent.link.auth import api_key
from agent.ports import Acked, Link, LinkSettings, Poster, Steering
from agent.profile import Endpoint, Profile
from agent.store import trust
from agent.store.keys import Keys
from agent.store.ledger import SqliteLedger
from agent.store.remote import Remote
from agent.store.state import Lock
from agent.store.waiting import waiting
from agent.sync.postman import Postman
from agent.sync.worker import Worker
from agent.tasks import stopped

NOW_SECONDS_MAX = 120.0
"""What `sync now` waits at the most: somebody is looking at it."""

Say = Callable[[str], None]


@contextlib.asynccontextmanager
async def worker(
    profile: Profile, state: Path, ledger: SqliteLedger, clock: Clock, say: Say, *, steering: Steering | None = None
) -> AsyncIterator[Worker | None]:
    """The worker over the profile's links, closed in the end; None for a robot that has no backend, or is not registered yet.

    `steering`: what the links carry besides the books, for those who steer the robot.
    Raises BadProfile or BadInput for links that can't be made.
    """
    known = trust.read(state)
    if not endpoints(profile):
        yield None
    elif not known.ack_keys:
        say("sync: this robot is not registered, its records stay here; do: voxmeter sync register TOKEN")
        yield None
    else:
        async with contextlib.AsyncExitStack() as stack:
            links: list[Link] = []
            carrying: list[Worker] = []

            def heard(acked: Acked) -> None:
                carrying[0].heard(acked)

            for name, endpoint in endpoints(profile).items():
                settings = replace(settings_of(profile, endpoint, state, known.authority, clock), heard=heard, steering=steering)
                links.append(pkgutil.resolve_name(TRANSPORTS[name])(settings, clock))
                stack.push_async_callback(links[-1].aclose)
            if posters := [link for link in links if isinstance(link, Poster)]:  # a broker first, if there is one
                postman = Postman(ledger, posters[0], clock, say, instead=posters[1] if posters[1:] else None)
                stack.push_async_callback(stopped, asyncio.create_task(postman.run()))
            carrying.append(Worker(ledger, links, lambda: known.ack_keys, clock, say, device=profile.device.id))
            yield carrying[0]


def endpoints(profile: Profile) -> dict[str, Endpoint]:
    """Where the backend is, by transport, in the order of preference."""
    named = {name: getattr(profile.sync, name) for name in TRANSPORTS}
    return {name: endpoint for name, endpoint in named.items() if endpoint is not None}


async def now(profile: Profile, state: Path, clock: Clock, say: Say) -> dict[str, Any]:
    """Sends all that waits and tells how it ended. Takes the books; raises LedgerBusy where somebody has them."""
    _check_backend(profile, state)
    ledger = ledger_of(profile, state, clock)
    try:
        async with worker(profile, state, ledger, clock, say) as carrying:
            assert carrying is not None
            return await drained(carrying, state)
    finally:
        await ledger.aclose()


async def drained(carrying: Worker, state: Path) -> dict[str, Any]:
    """Until nothing waits, or a reason why something does: `{drained, problem, link, waiting}`."""
    ended = await carrying.drain(NOW_SECONDS_MAX)
    told = carrying.status()
    left = await asyncio.to_thread(waiting, state)
    done = ended.complete and not left["records"]
    problem = ended.why or ("" if done else "of some epochs nothing more can be sent now")
    return {"drained": done, "problem": problem, "link": told["link"], "waiting": left}


async def register(profile: Profile, state: Path, token: str, authority: Path | None, clock: Clock) -> dict[str, Any]:
    """Makes this robot known to its backend, and its backend to it. Can be run again: the same robot, another API key.

    Raises BadInput or NoLink in one line.
    """
    settings = asking(profile, state, authority, clock)
    lock = locked(state)
    try:
        return told_of(await introduced(settings, state, token, clock))
    finally:
        lock.release()


def asking(profile: Profile, state: Path, authority: Path | None, clock: Clock) -> LinkSettings:
    """How the backend is asked over HTTPS; `authority`: PEM file of whom to believe, else whom this robot believes. Raises BadInput."""
    endpoint = profile.sync.https
    if endpoint is None:
        raise BadProfile("the profile names no [sync.https], and a robot registers over HTTPS", "add host and port of the backend")
    return settings_of(profile, endpoint, state, _pem(authority) if authority else _authority(state), clock)


async def introduced(settings: LinkSettings, state: Path, token: str, clock: Clock, csr: str = "") -> Registered:
    """Registers, and keeps whom to believe and what to show; the caller owns the folder. `csr` (PEM) asks for a certificate."""
    told = await registered_at(settings, token, Keys(state, clock).current, csr)
    keep = trust.prepared(state, told.keys, settings.authority, told.operator_keys)  # where that can't be, a twin's word stays owed
    book = Remote(state, lambda _: None)
    if (standing := twin.superseded(book.standing)) != book.standing:
        book.put(standing)  # first: after a power cut between the two the same token is shown again
    keep()
    trust.keep_api_key(state, told.api_key)
    return told


def told_of(told: Registered) -> dict[str, Any]:
    """What a registration brought, for people."""
    return {"tenant": told.tenant, "device": told.device, "account": told.account, "keys": [one["kid"] for one in told.keys]}


def locked(state: Path) -> Lock:
    """The folder is this process's until it releases it. Raises LedgerBusy."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Lock(state)


def _check_backend(profile: Profile, state: Path) -> None:
    if not endpoints(profile):
        raise BadProfile("the profile names no backend", "add [sync.mqtt] or [sync.https] with host and port")
    if not trust.read(state).ack_keys:
        raise BadInput("this robot is not registered with its backend", "do: voxmeter sync register TOKEN")


def settings_of(profile: Profile, endpoint: Endpoint, state: Path, authority: str, clock: Clock) -> LinkSettings:
    """Of a link to that endpoint; `authority`: PEM. Certificates are judged by the clock where that knows better than the machine."""
    certificate, key = trust.tls_files(state)
    return LinkSettings(
        tenant=profile.device.tenant,
        device=profile.device.id,
        host=endpoint.host,
        port=endpoint.port,
        authority=authority,
        certificate=certificate,
        key=key,
        pair=lambda: trust.tls_files(state),
        judge=lambda: clock.utc() if clock.quality() == "signed" else None,
        token=api_key(trust.api_key_file(state)),
        plain=endpoint.plain,
    )


def _authority(state: Path) -> str:
    """PEM, as it is believed. Raises BadInput where that can't be read: another one than was meant must not do in its place."""
    try:
        return trust.read(state).authority
    except BadInput as error:
        raise BadInput(error.message, "name the backend's authority: --ca FILE.pem") from error


def _pem(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or 'not PEM'}", "name the PEM of the backend's authority") from error
