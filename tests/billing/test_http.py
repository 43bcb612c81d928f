"""The gate and what operators look at: every error in one shape, rates, addresses, figures, the log, the page."""

import ipaddress
import re
from pathlib import Path

import httpx
import pytest

from agent.billing.access.audit import page
from agent.billing.http.gate import CLIENTS_MAX, Limits
from tests.billing.helpers import TENANT, Robot
from tests.billing.serving import Web, batches, bearer, error, with_web

HERE, THERE = ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/devices/a/b/c", 404, "not-found"),
        ("GET", "/healthz/", 404, "not-found"),
        ("GET", "/%00", 404, "not-found"),
        ("POST", "/healthz", 405, "method-not-allowed"),
        ("GET", "/v1/devices", 405, "method-not-allowed"),
        ("BREW", "/healthz", 405, "method-not-allowed"),
        ("GET", "/v1/time", 422, "bad-request"),
        ("GET", "/v1/audit", 401, "unauthorized"),
        ("GET", "/v1/usage/totals", 401, "unauthorized"),
        ("GET", "/v1/usage/stream", 401, "unauthorized"),
        ("POST", batches(), 401, "unauthorized"),
        ("GET", "/docs/oauth2-redirect", 404, "not-found"),
    ],
)
def test_every_error_has_the_same_shape(tmp_path: Path, method: str, path: str, status: int, code: str) -> None:
    async def run(web: Web) -> None:
        answer = await web.client.request(method, path)
        assert (answer.status_code, error(answer)) == (status, code)
        assert ("allow" in answer.headers) == (status == 405)
        assert ("www-authenticate" in answer.headers) == (status == 401)

    with_web(tmp_path, run)


def test_an_unforeseen_failure_tells_a_stranger_nothing(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        @web.api.get("/broken")
        async def broken() -> None:
            raise RuntimeError("the secret is 42")

        transport = httpx.ASGITransport(web.api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=web.client.base_url) as client:
            answer = await client.get("/broken")
        assert (answer.status_code, answer.json()["code"]) == (500, "error")
        assert "42" not in answer.text
        assert answer.json()["request_id"]

    with_web(tmp_path, run)


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer vx_0123456789abcdef_" + "A" * 43, "Bearer a.b.c", "bearer é"]
)
def test_a_credential_that_is_none_is_refused_and_on_record(tmp_path: Path, shown: str) -> None:
    async def run(web: Web) -> None:
        answer = await web.client.get("/v1/audit", headers={b"Authorization": shown.encode()})
        assert (answer.status_code, error(answer)) == (401, "unauthorized")
        (line,) = (await web.store.read(page))["entries"]
        assert (line["action"], line["actor"], line["told"]["path"]) == ("refused", "127.0.0.1", "/v1/audit")
        assert (await web.client.get("/healthz", headers={b"Authorization": shown.encode()})).status_code == 200

    with_web(tmp_path, run)


def test_a_scope_opens_its_own_calls_only(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        admin, reader = await web.key("admin"), await web.key("statements:read")
        for headers, path, status in (
            (admin, "/v1/audit", 200),
            (reader, "/v1/audit", 403),
            (reader, "/v1/usage/totals", 200),
            (admin, "/v1/usage/totals", 403),
        ):
            assert (await web.client.get(path, headers=headers)).status_code == status

    with_web(tmp_path, run)


def test_a_client_beyond_its_rate_waits_and_others_do_not(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        one, two = await web.key("admin"), await web.key("admin")
        for _ in range(5):
            assert (await web.client.get("/v1/audit", headers=one)).status_code == 200
        answer = await web.client.get("/v1/audit", headers=one)
        assert (answer.status_code, error(answer), answer.headers["Retry-After"]) == (429, "too-many-requests", "1")
        assert (await web.client.get("/v1/audit", headers=two)).status_code == 200
        web.clock.advance(1)
        assert (await web.client.get("/v1/audit", headers=one)).status_code == 200

    with_web(tmp_path, run, limits=Limits(per_second=5))


def test_inventing_credentials_gives_no_new_rate(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        got = [(await web.client.get("/v1/audit", headers=bearer(f"vx_{n:016x}_{'A' * 43}"))).status_code for n in range(8)]
        assert got == [401] * 5 + [429] * 3
        assert (await web.client.get("/nowhere")).status_code == 429
        async with web.client_at("192.0.2.7") as other:
            assert (await other.get("/nowhere")).status_code == 404

    with_web(tmp_path, run, limits=Limits(per_second=5))


def test_who_asks_is_looked_up_within_the_rate_of_the_address_only(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        known, unknown = await web.key("admin"), await web.key("admin")
        token = (await web.access.grant(*(await _client(web))))["access_token"]
        for _ in range(4):
            assert (await web.client.get("/nowhere")).status_code == 404
        assert (await web.client.get("/v1/audit", headers=known)).status_code == 200
        assert (await web.client.get("/v1/audit", headers=unknown)).status_code == 429
        assert (await web.client.get("/v1/audit", headers=known)).status_code == 200
        assert (await web.client.get("/v1/audit", headers=bearer(token))).status_code == 200
        web.clock.advance(1)
        assert (await web.client.get("/v1/audit", headers=unknown)).status_code == 200

    with_web(tmp_path, run, limits=Limits(per_second=5))


async def _client(web: Web) -> tuple[str, str]:
    id_, _, secret = (await web.access.create("client", ["admin"]))["api_key"].removeprefix("vx_").partition("_")
    return id_, secret


def test_who_was_away_longest_is_forgotten_first(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        from agent.billing.http.gate import Gate

        gate = Gate(web.api, web.access, web.clock, Limits(1), web.metrics)
        for n in range(CLIENTS_MAX + 10):
            gate._check_rate({"state": {}}, str(n))
        assert len(gate._buckets) == CLIENTS_MAX
        assert next(iter(gate._buckets)) == "10"

    with_web(tmp_path, run)


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.9", 200), ("::ffff:127.0.0.1", 200), ("2001:db8::1", 200), ("192.0.2.1", 403), ("::1", 403), ("x", 403)],
)
def test_only_addresses_on_the_list_come_in(tmp_path: Path, address: str, status: int) -> None:
    async def run(web: Web) -> None:
        assert (await web.client.get("/healthz")).status_code == status
        headers = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
        assert (await web.client.get("/healthz", headers=headers)).status_code == status

    with_web(tmp_path, run, limits=Limits(1000, (HERE, THERE)), address=address)


def test_the_figures_name_no_device(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        robot, headers = Robot().begin().turns(4), await web.robot()
        for _ in range(2):
            await web.send(robot, headers)
        await web.client.request("WHATEVER", "/no/such/path")
        told = (await web.client.get("/metrics")).text
        for line in ("batches_total 2.0", "records_total 5.0", "duplicates_total 5.0", "forks_total 0.0", "rejects_total 0.0", "queue 0.0"):
            assert f"voxmeter_{line}" in told
        assert "voxmeter_commit_seconds_count 2.0" in told
        assert 'method="other",route="none",status="404"' in told
        assert 'route="/v1/devices/{device}/usage-batches",status="200"} 2.0' in told
        assert robot.name not in told
        assert TENANT not in told

    with_web(tmp_path, run)


def test_the_figures_are_for_this_machine_and_admins(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        admin, reader = await web.key("admin"), await web.key("statements:read")
        for address, headers, status in (
            ("127.0.0.1", {}, 200),
            ("::1", {}, 200),
            ("192.0.2.1", {}, 401),
            ("192.0.2.1", reader, 403),
            ("192.0.2.1", admin, 200),
            ("", {}, 401),
        ):
            async with web.client_at(address) as client:
                assert (await client.get("/metrics", headers=headers)).status_code == status, address

    with_web(tmp_path, run)


def test_it_is_ready_until_it_stops(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        assert (await web.client.get("/readyz")).json() == {"status": "ok"}
        web.api.state.backend.stopping.set()
        answer = await web.client.get("/readyz")
        assert (answer.status_code, error(answer)) == (503, "not-ready")
        assert (await web.client.get("/healthz")).status_code == 200

    with_web(tmp_path, run)


def test_the_log_is_read_in_pages_by_the_tenants_own_admin(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        await web.robot()
        ours, others = await web.key("admin", tenant=TENANT), await web.key("admin", tenant="hostel")
        told = (await web.client.get("/v1/audit", params={"limit": 1}, headers=ours)).json()
        rest = (await web.client.get("/v1/audit", params={"after": told["next"]}, headers=ours)).json()
        actions = [line["action"] for line in told["entries"] + rest["entries"]]
        assert actions == ["token.minted", "device.registered", "credential.created"]
        assert [line["tenant"] for line in (await web.client.get("/v1/audit", headers=others)).json()["entries"]] == ["hostel"]
        for wrong in ({"limit": 0}, {"limit": 10_000}, {"after": -1}, {"after": 2**64}, {"after": "x"}):
            assert (await web.client.get("/v1/audit", params=wrong, headers=ours)).status_code == 422

    with_web(tmp_path, run)


def test_the_page_lists_the_calls_and_loads_nothing(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        spec = (await web.client.get("/openapi.json")).json()
        page = (await web.client.get("/docs")).text
        for path in spec["paths"]:
            assert path in page
        assert not re.search(r"src=|url\(|@import|<script|<link|//", page)
        assert {"BatchContent", "Ack", "ErrorTold"} <= set(spec["components"]["schemas"])
        assert "HTTPValidationError" not in spec["components"]["schemas"]

    with_web(tmp_path, run)


def test_totals_are_of_what_may_be_seen(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        await web.send(Robot().begin().turns(6), await web.robot())
        everyones, ours, others = [await web.key("statements:read", tenant=tenant) for tenant in ("", TENANT, "hostel")]

        async def asked(headers: dict[str, str], **params: str) -> httpx.Response:
            return await web.client.get("/v1/usage/totals", params=params, headers=headers)

        told = (await asked(ours, group_by="stage")).json()
        assert {line["stage"]: line["records"] for line in told["totals"]} == {"asr": 2, "llm": 2, "tts": 2}
        assert (await asked(everyones, group_by="stage")).json() == told
        assert (await asked(others)).json()["totals"] == []
        assert (await asked(others, tenant=TENANT)).status_code == 403
        assert {line["day"] for line in (await asked(ours)).json()["totals"]} == {"2026-11-22"}
        assert (await asked(ours, start_date="2026-11-23")).json()["totals"] == []
        assert len((await asked(ours, stage="llm", start_date="2026-11-22", end_date="2026-11-22")).json()["totals"]) == 1
        assert (await asked(ours, device="nobody")).json()["totals"] == []

    with_web(tmp_path, run)


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"group_by": "password"}, 400),
        ({"group_by": "device;drop table total"}, 400),
        ({"start_date": "2026-11-23", "end_date": "2026-11-22"}, 400),
        ({"start_date": "2026-13-01"}, 422),
        ({"end_date": "yesterday"}, 422),
        ({"model": "m" * 300}, 422),
        ({"model": "\0'\""}, 200),
        ({"group_by": ""}, 200),
    ],
    ids=str,
)
def test_questions_for_totals(tmp_path: Path, params: dict[str, str], status: int) -> None:
    async def run(web: Web) -> None:
        answer = await web.client.get("/v1/usage/totals", params=params, headers=await web.key("statements:read"))
        assert answer.status_code == status
        assert status == 200 or error(answer)

    with_web(tmp_path, run)
