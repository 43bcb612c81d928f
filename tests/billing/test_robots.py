"""Certificates over HTTP: for the robot that asks, with its own key; and the end of a robot, by the operator's word or its own."""

import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
from cryptography import x509

from agent.billing.access import Access, audit, operators
from agent.billing.access.registration import Minting
from agent.billing.access.robots import issued
from agent.billing.access.robots.authority import (
    CERTIFICATE_FILE,
    DAYS,
    GIVEN_FILE,
    KEY_FILE,
    LIST_FILE,
    Authority,
    authority_of,
    both,
    ids_of,
)
from agent.billing.access.tables import ISSUED
from agent.billing.ledger import Store
from agent.contract import certificates
from agent.contract.registration import Registered, leaving, registering, requesting
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.sim.clock import SimulatedClock
from tests.billing.helpers import ACCOUNT, BACKEND_KEY, KEY, NAME, TENANT
from tests.billing.serving import Web, bearer, error, with_web

OTHER = SigningKey.from_seed(b"o" * 32)
OWN_KEY = certificates.new_key()
CERTIFICATES, DECOMMISSION = f"/v1/devices/{NAME}/certificates", f"/v1/devices/{NAME}/decommission"


def csr(name: str = f"{TENANT}/{NAME}", key: bytes = OWN_KEY) -> str:
    return certificates.request(name, key).decode()


def with_authority(folder: Path, run: Callable[[Web, dict[str, str], Registered], Awaitable[None]]) -> None:
    """A backend that vouches for robots, and one robot that registered with a request; its headers."""

    async def over(web: Web) -> None:
        web.access.robots.authority = await authority_of(web.store, folder, web.clock)
        told = await registered(web, csr())
        await run(web, bearer(told.api_key), told)

    with_web(folder, over)


async def registered(web: Web, request: str = "", name: str = NAME, key: SigningKey = KEY) -> Registered:
    token = await web.access.mint(Minting(TENANT, ACCOUNT, name), 1)
    answer = await web.client.post("/v1/devices", json=registering(token, TENANT, name, key, request).model_dump())
    assert answer.status_code == 201, answer.text
    return Registered.model_validate(answer.json())


async def asked(web: Web, headers: dict[str, str], request: str, key: SigningKey = KEY) -> httpx.Response:
    return await web.client.post(CERTIFICATES, json=requesting(TENANT, NAME, request, key).model_dump(), headers=headers)


def test_a_robot_registers_with_a_request_and_gets_its_certificate(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        chain = (told.certificate or "").encode()
        assert certificates.read(chain).name == f"{TENANT}/{NAME}"
        assert certificates.belongs(chain, OWN_KEY)
        first, above = x509.load_pem_x509_certificates(chain)
        first.verify_directly_issued_by(above)
        assert above == x509.load_pem_x509_certificate((tmp_path / CERTIFICATE_FILE).read_bytes())
        (kept,) = await web.store.read(lambda connection: issued.listed(connection, TENANT, NAME))
        assert int(kept["serial"], 16) == first.serial_number

    with_authority(tmp_path, run)


def test_a_robot_that_knows_of_no_certificates_registers_as_ever(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        plain = await registered(web, name="old-1", key=OTHER)
        assert plain.certificate is None
        assert plain.operator_keys == []

    with_authority(tmp_path, run)


def test_the_request_is_part_of_what_a_registration_signs(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        token = await web.access.mint(Minting(TENANT, ACCOUNT, "new-1"), 1)
        sent = registering(token, TENANT, "new-1", OTHER, csr(f"{TENANT}/new-1")).model_dump()
        for request in ("", csr(f"{TENANT}/new-1")):
            answer = await web.client.post("/v1/devices", json=sent | {"csr": request})
            assert (answer.status_code, error(answer)) == (400, "bad-input")

    with_authority(tmp_path, run)


@pytest.mark.parametrize("request_", [csr("demo/other"), "x", csr() + "x" * 20_000])
def test_a_request_of_another_name_registers_nobody(tmp_path: Path, request_: str) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        token = await web.access.mint(Minting(TENANT, ACCOUNT, "new-1"), 1)
        body = registering(token, TENANT, "new-1", OTHER, request_[: 16 * 1024]).model_dump() | {"csr": request_}
        answer = await web.client.post("/v1/devices", json=body)
        assert answer.status_code in (400, 422)
        again = await web.client.post("/v1/devices", json=registering(token, TENANT, "new-1", OTHER).model_dump())
        assert again.status_code == 201

    with_authority(tmp_path, run)


def test_for_the_same_key_the_same_certificate_until_half_of_its_life(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        assert (await asked(web, headers, csr())).json() == {"certificate": told.certificate}
        web.clock.advance(86_400 * DAYS * 0.6)
        renewed = await asked(web, headers, csr())
        assert renewed.status_code == 201
        assert renewed.json()["certificate"] != told.certificate
        assert (await asked(web, headers, csr(key=certificates.new_key()))).json() != renewed.json()

    with_authority(tmp_path, run)


def test_only_the_robot_itself_renews(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        other = bearer((await registered(web, name="other-1", key=OTHER)).api_key)
        office = await web.key("usage:write", tenant=TENANT)
        good = requesting(TENANT, NAME, csr(), KEY).model_dump()
        for given, body, status in (
            ({}, good, 401),
            (other, good, 403),
            (headers, requesting(TENANT, NAME, csr(), OTHER).model_dump(), 403),
            (headers, good | {"csr": csr(key=certificates.new_key())}, 403),
            (office, good | {"signature": "A" * 86}, 403),
            (headers, requesting(TENANT, NAME, csr("demo/x"), KEY).model_dump(), 400),
            (headers, good | {"key": "0" * 32}, 403),
            (headers, {"csr": ""}, 422),
        ):
            answer = await web.client.post(CERTIFICATES, json=body, headers=given)
            assert answer.status_code == status, answer.text
            error(answer)

    with_authority(tmp_path, run)


def test_a_robot_that_asks_without_end_is_told_to_wait(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        for _ in range(issued.A_DAY_MAX - 1):
            assert (await asked(web, headers, csr(key=certificates.new_key()))).status_code == 201
        refused = await asked(web, headers, csr(key=certificates.new_key()))
        assert (refused.status_code, int(refused.headers["Retry-After"])) == (429, 3600)
        web.clock.advance(86_401)
        assert (await asked(web, headers, csr(key=certificates.new_key()))).status_code == 201

    with_authority(tmp_path, run)


def test_a_backend_without_authority_says_so(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        told = await registered(web, csr())
        assert told.certificate is None
        answer = await asked(web, bearer(told.api_key), csr())
        assert (answer.status_code, error(answer)) == (404, "no-authority")
        assert await web.access.robots.publish() == ""

    with_web(tmp_path, run)


def listed(folder: Path) -> list[int]:
    return [one.serial_number for one in x509.load_pem_x509_crl((folder / LIST_FILE).read_bytes())]


def test_a_revoked_robot_is_told_so_and_listed_and_a_stranger_is_not(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        serial = certificates.read((told.certificate or "").encode()).serial
        assert (await asked(web, headers, csr())).status_code == 201
        done = await web.access.robots.revoke(TENANT, NAME)
        assert done == {"robot": f"{TENANT}/{NAME}", "credentials": 1, "certificates": 1, "list": str(tmp_path / LIST_FILE), "unlisted": 0}
        answer = await asked(web, headers, csr())
        assert (answer.status_code, error(answer)) == (401, "revoked")
        stranger = await asked(web, bearer("vx_0123456789abcdef_" + "A" * 43), csr())
        assert (stranger.status_code, error(stranger)) == (401, "unauthorized")
        assert listed(tmp_path) == [serial]
        again = await registered(web, csr(), key=OTHER)
        assert certificates.read((again.certificate or "").encode()).serial != serial
        assert listed(tmp_path) == [serial]
        web.clock.advance(86_400 * (DAYS + 1))
        await web.access.robots.publish()
        assert listed(tmp_path) == []

    with_authority(tmp_path, run)


def test_a_robot_leaves_by_its_own_word_alone(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        office = await web.key("usage:write", tenant=TENANT)
        for given, key in ((office, OTHER), (headers, OTHER), ({}, KEY)):
            refused = await web.client.post(DECOMMISSION, json=leaving(TENANT, NAME, key).model_dump(), headers=given)
            assert refused.status_code in (401, 403)
        assert (await asked(web, headers, csr())).status_code == 201
        for status, code in ((200, ""), (401, "revoked")):
            answer = await web.client.post(DECOMMISSION, json=leaving(TENANT, NAME, KEY).model_dump(), headers=headers)
            assert answer.status_code == status
            assert not code or error(answer) == code
        assert len(listed(tmp_path)) == 1
        lines = (await web.store.read(audit.page))["entries"]
        assert {"certificate.issued", "device.decommissioned"} <= {one["action"] for one in lines}

    with_authority(tmp_path, run)


def test_who_commands_robots_is_told_to_those_that_register(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        await web.access.add_operator("night", OTHER.public)
        told = await registered(web)
        assert [one["kid"] for one in told.operator_keys or ()] == [OTHER.key_id]
        assert (await web.access.add_operator("night", OTHER.public))["key"] == OTHER.key_id
        for name, public in (("night", KEY.public), ("day", OTHER.public), ("", KEY.public), ("day", b"x"), ("n" * 101, KEY.public)):
            with pytest.raises(BadInput):
                await web.access.add_operator(name, public)
        await web.access.remove_operator("night")
        assert await web.store.read(operators.listed) == []

    with_web(tmp_path, run)


def test_there_are_no_more_operators_than_a_robot_keeps(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        for number in range(operators.OPERATORS_MAX):
            await web.access.add_operator(f"o{number}", SigningKey.from_seed(bytes([number]) * 32).public)
        with pytest.raises(BadInput, match="a robot keeps no more"):
            await web.access.add_operator("more", OTHER.public)

    with_web(tmp_path, run)


def authority(folder: Path, **more: Any) -> Authority:
    async def run(web: Web) -> Authority:
        return await authority_of(web.store, folder, web.clock, **more)

    return with_web(folder / "books", run)


def test_the_own_authority_is_made_once_and_kept(tmp_path: Path) -> None:
    first = authority(tmp_path)
    assert authority(tmp_path).held == first.held
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / CERTIFICATE_FILE).unlink()  # a start that was cut off in between
    assert authority(tmp_path).held.key == first.held.key
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(BadInput, match=r"device-authority\.key is missing"):
        authority(tmp_path)


def test_an_authority_that_is_given_is_used_and_must_be_given_again(tmp_path: Path) -> None:
    now = SimulatedClock().utc()
    made = certificates.authority("the site's", now, 100)
    files = tmp_path / "ca.pem", tmp_path / "ca.key"
    for path, content in zip(files, (made.certificate, made.key), strict=True):
        path.write_bytes(content)
    assert authority(tmp_path, given=files).held == made
    assert not (tmp_path / KEY_FILE).exists()
    with pytest.raises(BadInput, match="give --device-authority"):
        authority(tmp_path)
    for wrong in ((files[0], tmp_path / "gone"), (files[1], files[1]), (files[0], files[0])):
        with pytest.raises(BadInput):
            authority(tmp_path, given=wrong)
    with pytest.raises(BadInput, match="its key"):
        both(files[0], None)
    for days in (0, 5000):
        with pytest.raises(BadInput, match="can't live"):
            authority(tmp_path, days=days)


def given(folder: Path, name: str, key: bytes = b"") -> tuple[tuple[Path, Path], certificates.Certificate]:
    made = certificates.authority(name, SimulatedClock().utc(), 4000, key)
    files = folder / "ca.pem", folder / "ca.key"
    for path, content in zip(files, (made.certificate, made.key), strict=True):
        path.write_bytes(content)
    return files, made


def lists(folder: Path) -> dict[str, list[int]]:
    ends = b"-----END X509 CRL-----"
    parts = [x509.load_pem_x509_crl(part + ends) for part in (folder / LIST_FILE).read_bytes().split(ends)[:-1]]
    return {one.issuer.rfc4514_string(): [lost.serial_number for lost in one] for one in parts}


def test_a_certificate_of_the_authority_that_is_made_anew_keeps_its_list(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        first = await web.access.robots.revoke(TENANT, NAME)
        before = listed(tmp_path)
        assert (len(before), first["unlisted"]) == (1, 0)
        (tmp_path / CERTIFICATE_FILE).unlink()
        web.clock.advance(3600)
        web.access.robots.authority = await authority_of(web.store, tmp_path, web.clock)
        await web.access.robots.publish()
        assert listed(tmp_path) == before
        rows = sqlalchemy.update(ISSUED).values(authority=ids_of(web.access.robots.authority.held)[1])
        await web.store.write(lambda connection: connection.execute(rows) and None)  # as books of before have it
        await web.access.robots.publish()
        assert listed(tmp_path) == before

    with_authority(tmp_path, run)


def test_who_was_revoked_stays_listed_when_another_authority_is_given(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        own = (tmp_path / CERTIFICATE_FILE).read_bytes()
        files, site = given(tmp_path, "the site's")
        robots = web.access.robots
        robots.authority = await authority_of(web.store, tmp_path, web.clock, given=files)
        serial = certificates.read((told.certificate or "").encode()).serial
        new = await asked(web, headers, csr())
        assert new.status_code == 201
        gone = await robots.revoke(TENANT, NAME)
        assert (gone["certificates"], gone["unlisted"]) == (2, 0)
        theirs = certificates.read(new.json()["certificate"].encode()).serial
        assert lists(tmp_path) == {"CN=the site's": [theirs], "CN=voxmeter devices": [serial]}
        assert (tmp_path / CERTIFICATE_FILE).read_bytes() == own
        assert (tmp_path / GIVEN_FILE).read_bytes() == site.certificate
        with pytest.raises(BadInput, match="to go back"):
            await authority_of(web.store, tmp_path, web.clock)
        third, _ = given(tmp_path, "the next")
        robots.authority = await authority_of(web.store, tmp_path, web.clock, given=third)
        assert await robots.unlisted() == 1
        assert (await robots.revoke(TENANT, NAME))["unlisted"] == 1
        (tmp_path / GIVEN_FILE).unlink()
        robots.authority = await authority_of(web.store, tmp_path, web.clock)
        await robots.publish()
        assert lists(tmp_path) == {"CN=voxmeter devices": [serial]}

    with_authority(tmp_path, run)


def test_what_robots_show_is_not_replaced_where_its_key_was_lost(tmp_path: Path) -> None:
    async def run(web: Web, headers: dict[str, str], told: Registered) -> None:
        for path in (CERTIFICATE_FILE, KEY_FILE):
            (tmp_path / path).unlink()
        with pytest.raises(BadInput, match="put back the backend's own"):
            await authority_of(web.store, tmp_path, web.clock)
        web.clock.advance(datetime.timedelta(days=DAYS + 1).total_seconds())
        await authority_of(web.store, tmp_path, web.clock)

    with_authority(tmp_path, run)


def test_access_is_given_its_authority(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        store: Store = web.store
        held = await authority_of(store, tmp_path, web.clock)
        assert Access(store, BACKEND_KEY, web.clock, held).robots.authority == held

    with_web(tmp_path, run)
