"""The configuration in docs/broker.md, word for word, on a real mosquitto: who may do what, and who can't throw whom off."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.billing.access.registration import Minting, checked
from agent.contract import certificates
from agent.errors import BadInput
from agent.link.mqtt.message import NOT_AUTHORIZED, Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import LinkSettings
from agent.sim.real.broker import HOST, _acl, find_program, free_port
from tests.link.mqtt_helpers import CLOCK, confirming, play, until, within

PAGE = (Path(__file__).parent.parent.parent / "docs" / "broker.md").read_text()


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


class Page:
    """A mosquitto run by the page."""

    def __init__(self, folder: Path, *, tls: str = "tlsv1.2") -> None:
        """`tls`: the oldest version taken."""
        self.folder = folder
        self.robots_port, self.people_port = free_port(), free_port()
        now = CLOCK.utc()
        self.robots, self.people = (certificates.authority(name, now, 30) for name in ("robots", "people"))
        server = certificates.issue(self.people, "broker", now, 30, [HOST])
        self.thief = certificates.issue(self.robots, "demo/thief", now, 30)
        stolen = {certificates.read(self.thief.certificate).serial: now}
        for name, content in {
            "robots.pem": self.robots.certificate,
            "people.pem": self.people.certificate,
            "revoked.pem": certificates.revocations(self.robots, stolen, now, 30),
            "broker.crt": server.certificate,
            "broker.key": server.key,
            "acl": block("acl").encode(),
        }.items():
            (folder / name).write_bytes(content)
        told = block("conf").replace("/etc/mosquitto/voxmeter.acl", f"{folder}/acl").replace("/etc/mosquitto/voxmeter", str(folder))
        told = told.replace("/var/lib/mosquitto", str(folder)).replace("tls_version tlsv1.2", f"tls_version {tls}")
        for port, ours in (("8883", self.robots_port), ("8884", self.people_port)):
            assert f"listener {port}\n" in told
            told = told.replace(f"listener {port}\n", f"listener {ours} {HOST}\n")
        (folder / "conf").write_text(f"user root\n{told}")

    def __enter__(self) -> "Page":
        self._process = subprocess.Popen([find_program(), "-c", str(self.folder / "conf")], stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def settings(self, name: str, by: certificates.Certificate | None = None, *, port: int = 0) -> LinkSettings:
        by = by or (self.robots if name.startswith(("demo/", "other/")) else self.people)
        shown = self.thief if name == "demo/thief" else certificates.issue(by, name, CLOCK.utc(), 30)
        stem = name.encode().hex()
        certificate, key = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        certificate.write_bytes(shown.certificate)
        key.write_bytes(shown.key)
        port = port or (self.robots_port if by is self.robots else self.people_port)
        return LinkSettings("-", "-", HOST, port, self.people.certificate.decode(), certificate, key)

    def client(self, name: str, id_: str, topic: str, into: list[Incoming], **more: Any) -> Mqtt:
        return Mqtt(self.settings(name, **more), id_, CLOCK, [topic], confirming(into))


@pytest.fixture
def page(tmp_path: Path) -> Any:
    with Page(tmp_path) as running:
        yield running


def test_the_page_says_what_the_simulations_broker_has() -> None:
    assert [line for line in block("acl").splitlines() if line] == _acl(["operator/alice"]).splitlines()


MAY = [
    ("demo/r1", "v1/demo/r1/usage/batch", True),
    ("demo/r1", "v1/demo/r1/event/alarm", True),
    ("demo/r1", "v1/demo/r1/state/birth", True),
    ("demo/r1", "v1/demo/r1/cmd/res/1", True),
    ("demo/r1", "v1/demo/r1/cmd/req/1", False),
    ("demo/r1", "v1/demo/r1/twin/desired", False),
    ("demo/r1", "v1/demo/r1/usage/ack", False),
    ("demo/r1", "v1/demo/r1/time/att", False),
    ("demo/r1", "v1/demo/r2/event/alarm", False),
    ("demo/r1", "v1/other/r1/event/alarm", False),
    ("billing", "v1/demo/r1/usage/ack", True),
    ("billing", "v1/demo/r1/twin/desired", True),
    ("billing", "v1/demo/r1/event/alarm", False),
    ("billing", "v1/demo/r1/usage/batch", False),
    ("operator/alice", "v1/demo/r1/cmd/req/1", True),
    ("operator/alice", "v1/demo/r1/twin/desired", False),
    ("operator/alice", "v1/demo/r1/cmd/res/1", False),
    ("operator/bob", "v1/demo/r1/cmd/req/1", False),
]


def test_each_writes_what_is_theirs(page: Page) -> None:
    async def story() -> None:
        clients = {name: page.client(name, name.replace("/", "-"), "x", []) for name in dict.fromkeys(name for name, _, _ in MAY)}
        for one in clients.values():
            await within(one.ready())
        for name, topic, may in MAY:
            verdict = await clients[name].publish(topic, b"x")
            assert (verdict.code != NOT_AUTHORIZED) == may, (name, topic, verdict)
        for one in clients.values():
            await one.aclose()

    play(story())


def test_each_hears_what_is_theirs(page: Page) -> None:
    async def story() -> None:
        heard: dict[str, list[Incoming]] = {name: [] for name in ("demo/r1", "demo/r2", "billing", "operator/alice", "operator/bob")}
        clients = {name: page.client(name, name.replace("/", "-"), "v1/#", into) for name, into in heard.items()}
        for one in clients.values():
            await within(one.ready())
        for what in ("usage/batch", "event/alarm"):
            await clients["demo/r1"].publish(f"v1/demo/r1/{what}", b"up")
        await clients["billing"].publish("v1/demo/r1/usage/ack", b"down")
        await clients["operator/alice"].publish("v1/demo/r1/cmd/req/1", b"down")
        await until(lambda: len(heard["demo/r1"]) == 2 and len(heard["billing"]) == 2 and heard["operator/alice"])
        told = {name: sorted(one.topic.removeprefix("v1/demo/r1/") for one in into) for name, into in heard.items()}
        expected = {"demo/r1": ["cmd/req/1", "usage/ack"], "billing": ["event/alarm", "usage/batch"], "operator/alice": ["event/alarm"]}
        assert told == expected | {"demo/r2": [], "operator/bob": []}
        for one in clients.values():
            await one.aclose()

    play(story())


def test_nobody_takes_anothers_id_and_sessions_are_kept(page: Page) -> None:
    async def story() -> None:
        heard: dict[str, list[Incoming]] = {"demo/r1": [], "demo/r2": [], "other/r1": []}
        clients = {name: page.client(name, "r1", f"v1/{name}/usage/ack", into) for name, into in heard.items()}
        billing = [page.client("billing", f"billing-{number}", "x", []) for number in (1, 2)]
        for one in (*clients.values(), *billing):
            await within(one.ready())
        await clients["demo/r1"].aclose()
        assert (await billing[0].publish("v1/demo/r1/usage/ack", b"for r1")).taken
        assert (await billing[1].publish("v1/other/r1/usage/ack", b"for the other")).taken
        again = page.client("demo/r1", "something else", "v1/demo/r1/usage/ack", heard["demo/r1"])
        await within(again.ready())
        await until(lambda: heard["demo/r1"] and heard["other/r1"])
        assert [one.connections for one in (*clients.values(), *billing)] == [1] * 5
        assert {name: [one.content for one in into] for name, into in heard.items()} == {
            "demo/r1": [b"for r1"],
            "demo/r2": [],
            "other/r1": [b"for the other"],
        }
        for one in (*clients.values(), again, *billing):
            await one.aclose()

    play(story())


@pytest.mark.parametrize(("name", "where"), [("demo/thief", "robots"), ("demo/r1", "people"), ("operator/alice", "robots")])
def test_the_revoked_and_those_at_the_wrong_door_stay_outside(page: Page, name: str, where: str) -> None:
    async def story() -> None:
        await _listening(page)
        said: list[str] = []
        port = page.robots_port if where == "robots" else page.people_port
        client = Mqtt(page.settings(name, port=port), "x", CLOCK, ["x"], confirming([]), say=said.append)
        client.start()
        await until(lambda: said)
        assert client.connections == 0
        await client.aclose()

    play(story())


async def _listening(page: Page) -> None:
    """Else a robot stays outside because nobody is there."""
    client = page.client("demo/r1", "x", "x", [])
    await within(client.ready())
    await client.aclose()
    await asyncio.sleep(0)


def test_no_robots_tenant_is_called_operator() -> None:
    with pytest.raises(BadInput, match="operator"):
        checked(Minting("operator", "a", "alice"))
