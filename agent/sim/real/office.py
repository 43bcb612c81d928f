"""A backend on this machine, for a demonstration: the robot registers and sends its books over each transport.

Each transport has a backend of its own that knows nothing yet, and a copy of the robot, so all of the books travel each time. Where
mosquitto is not installed there is no broker, and only HTTPS is shown.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import upload
from agent.clock import SystemClock
from agent.errors import MissingPart
from agent.files import write_durably
from agent.profile import Endpoint, Profile, Sync
from agent.sim.real.backend import Backend
from agent.sim.real.broker import HOST, Broker, find_program
from agent.store import trust

Say = Callable[[str], None]


async def shown(profile: Profile, state: Path, folder: Path, say: Say) -> list[dict[str, Any]]:
    """`[{transport, drained, problem, totals}]`, totals as the backend sums them by stage. `folder` is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    told = []
    for transport in ("https", "mqtt"):
        if transport == "mqtt" and not _has_broker():
            say("mosquitto is not installed: MQTT is not shown (as root: apt-get install mosquitto)")
            continue
        told.append(await _over(transport, profile, state, folder / transport, say))
    return told


def copied(state: Path, target: Path) -> Path:
    """The robot's folder once more, for a backend of no account: whom the robot itself believes, and what it has sent, stays as it is."""
    shutil.copytree(state, target, ignore=lambda folder, names: [name for name in names if (Path(folder) / name).is_socket()])
    return target


def _has_broker() -> bool:
    try:
        return bool(find_program())
    except MissingPart:
        return False


async def _over(transport: str, profile: Profile, state: Path, folder: Path, say: Say) -> dict[str, Any]:
    broker = Broker(folder / "broker") if transport == "mqtt" else None
    if broker is not None:
        broker.start()
    backend = Backend(folder / "backend", broker)
    try:
        await backend.start()
        robot = copied(state, folder / "robot")
        chosen = await registered(profile, transport, robot, backend, broker)
        ended = await upload.now(chosen, robot, SystemClock(), say)
        told = {"transport": transport, "drained": ended["drained"], "problem": ended["problem"]}
        return told | {"totals": await backend.totals(profile.device.tenant, profile.device.id)}
    finally:
        await backend.stop()
        if broker is not None:
            broker.stop()


async def registered(profile: Profile, transport: str, state: Path, backend: Backend, broker: Broker | None) -> Profile:
    """Makes robot and backend known to each other; returns the profile that names this backend by this transport alone."""
    authorities = backend.authority
    https = Endpoint(host=HOST, port=backend.port)
    both, chosen = Sync(https=https), Sync(https=https)
    if broker is not None:
        authorities += broker.authority
        trust.keep_tls(state, *broker.client(f"{profile.device.tenant}/{profile.device.id}"))
        both = Sync(mqtt=Endpoint(host=HOST, port=broker.robots_port), https=https)
        chosen = Sync(mqtt=both.mqtt) if transport == "mqtt" else chosen
    bundle = backend.state.parent / "authorities.pem"
    write_durably(bundle, authorities)
    token = await backend.token(profile.device.tenant, profile.device.id, profile.billing.account)
    await upload.register(profile.model_copy(update={"sync": both}), state, token, bundle, SystemClock())
    return profile.model_copy(update={"sync": chosen})
