"""A robot that was struck off brings nothing more, whatever way it comes; what it has kept it brings when it is enrolled again."""

from pathlib import Path

from agent.billing.mqtt import Consumer
from agent.contract.batch import sign
from agent.contract.registration import Registered
from agent.link.mqtt import MqttLink
from agent.ports import Acked, Refused
from agent.sim.real.broker import Broker
from tests.billing.helpers import BACKEND_KEY, KEY, NAME, TENANT, Robot
from tests.billing.serving import Web, bearer, error, with_web
from tests.billing.test_robots import registered
from tests.link.mqtt_helpers import CLOCK, as_backend, as_robot, within


def test_over_http_and_mqtt(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        with Broker(tmp_path / "broker") as broker:
            serving = Consumer(as_backend(broker), web.backend.ingest, BACKEND_KEY, CLOCK)
            link = MqttLink(as_robot(broker, NAME, TENANT), CLOCK)
            try:
                await within(serving.ready())
                await within(link.ready())
                await story(web, link, await registered(web))
            finally:
                await link.aclose()
                await serving.aclose()

    async def story(web: Web, link: MqttLink, first: Registered) -> None:
        robot, headers = Robot().begin().turns(2), bearer(first.api_key)
        batch = robot.batch()
        assert isinstance(await link.send(batch.content, sign(batch, KEY)), Acked)  # from now on its key is remembered
        robot.turns(3)
        await web.access.robots.revoke(TENANT, NAME)
        answer = await web.send(robot, headers)
        assert (answer.status_code, error(answer)) == (401, "revoked")
        batch = robot.batch()
        for _ in range(2):
            told = await link.send(batch.content, sign(batch, KEY))
            assert isinstance(told, Refused)
            assert (told.code, told.after_ms) == ("revoked", 60_000)
        assert await web.backend.billed() == 2
        again = await registered(web)
        assert isinstance(await link.send(batch.content, sign(batch, KEY)), Acked)
        assert await web.backend.billed() == 5
        assert (await web.send(robot, bearer(again.api_key))).status_code == 200

    with_web(tmp_path / "books", run)


def test_one_whose_key_alone_was_revoked(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        told = await registered(web)
        robot = Robot().begin().turns(1)
        await web.backend.take(robot)
        await web.access.revoke(told.api_key.split("_")[1])
        assert await web.backend.refused(robot) == "revoked"

    with_web(tmp_path, run)
