"""`voxmeter billing` as its operator runs it: a process that serves over TLS, and orders to it while it does."""

import json
import select
import signal
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.clock import SystemClock
from agent.contract import certificates
from agent.contract.registration import registering
from agent.contract.signing import SigningKey
from tests.e2e.helpers import COMMAND, voxmeter

HOST = "127.0.0.1"
START_S = 60
KEY = SigningKey.from_seed(b"k" * 32)


@contextmanager
def serving(folder: Path, *words: object) -> Iterator[dict[str, Any]]:
    """A backend in a process of its own; what it says when it is ready."""
    command = [*COMMAND, "billing", "serve", "--state-dir", str(folder), "--port", "0", "--json", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], START_S)[0]
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield json.loads(line)
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=START_S)
            assert b"Traceback" not in err, err.decode()
            assert process.returncode == 130


def test_a_backend_serves_over_tls_and_takes_orders_meanwhile(tmp_path: Path) -> None:
    now = SystemClock().utc()
    vouching = certificates.authority("test", now, 1)
    server = certificates.issue(vouching, "billing", now, 1, servers=[HOST])
    (tmp_path / "crt").write_bytes(server.certificate)
    (tmp_path / "key").write_bytes(server.key)
    state = tmp_path / "state"
    with serving(state, "--certificate", tmp_path / "crt", "--key", tmp_path / "key") as ready:
        base = httpx.URL(scheme="https", host=ready["host"], port=ready["port"])
        context = ssl.create_default_context(cadata=vouching.certificate.decode())
        with httpx.Client(base_url=base, verify=context) as client:
            token = voxmeter("billing", "token", "sim-1", "--tenant", "demo", "--account", "hotel", "--state-dir", state)
            told = client.post("/v1/devices", json=registering(token.out.strip(), "demo", "sim-1", KEY).model_dump())
            assert told.status_code == 201
            made = voxmeter("billing", "keys", "create", "office", "--scope", "admin", "--state-dir", state, "--json").told
            headers = {"Authorization": f"Bearer {made['api_key']}"}
            assert client.get("/v1/audit", headers=headers).status_code == 200
            assert voxmeter("billing", "keys", "revoke", made["id"], "--state-dir", state).status == 0
            assert client.get("/v1/audit", headers=headers).status_code == 401
            backed = voxmeter("billing", "backup", tmp_path / "copy", "--state-dir", state, "--json").told
            assert backed["bytes"] == (tmp_path / "copy").stat().st_size
            assert Path(backed["key"]).is_file()
            assert f"keep {state}/keys/backend with it" in voxmeter("billing", "backup", tmp_path / "copy-2", "--state-dir", state).out
            busy = voxmeter("billing", "restore", tmp_path / "copy", "--state-dir", state)
            assert (busy.status, "belong to process" in busy.line) == (2, True)
            logged = voxmeter("billing", "audit", "--state-dir", state)
            assert "credential.revoked" in logged.out
            assert "all as they were written" in logged.out
            refused = voxmeter("billing", "serve", "--plain", "--port", "0", "--state-dir", state)
            assert refused.status == 2
            assert "belong to process" in refused.line
    assert {one["name"] for one in voxmeter("billing", "keys", "list", "--state-dir", state, "--json").told} == {"robot sim-1", "office"}
    assert not (state / "billing.sock").exists()
    assert voxmeter("billing", "restore", tmp_path / "copy", "--state-dir", state).out == f"{state}: restored from {tmp_path}/copy\n"
    assert f"put back {tmp_path}/new/keys/backend" in voxmeter("billing", "restore", tmp_path / "copy", "--state-dir", tmp_path / "new").out
    lost = voxmeter("billing", "serve", "--plain", "--port", "0", "--state-dir", tmp_path / "new")
    assert (lost.status, "put back the copy" in lost.line) == (2, True)


def test_a_log_that_was_altered_is_a_finding(tmp_path: Path) -> None:
    for name in ("one", "two"):
        voxmeter("billing", "keys", "create", name, "--scope", "admin", "--state-dir", tmp_path)
    books = sqlite3.connect(tmp_path / "billing.db")
    books.execute("UPDATE audit SET told = '{}' WHERE id = 2")
    books.commit()
    books.close()
    found = voxmeter("billing", "audit", "--state-dir", tmp_path)
    assert found.status == 1
    assert "from line 2 on" in found.line
    assert voxmeter("billing", "audit", "--state-dir", tmp_path, "--json").told["first_broken"] == 2


def test_orders_are_carried_out_without_a_server(tmp_path: Path) -> None:
    made = voxmeter("billing", "keys", "create", "office", "--scope", "admin", "--scope", "erase", "--state-dir", tmp_path, "--json").told
    assert made["api_key"].startswith(f"vx_{made['id']}_")
    shown = voxmeter("billing", "keys", "list", "--state-dir", tmp_path)
    assert made["id"] in shown.out
    assert made["api_key"] not in shown.out
    (listed,) = voxmeter("billing", "keys", "list", "--state-dir", tmp_path, "--json").told
    assert (listed["scopes"], listed["kind"]) == (["erase", "admin"], "secret")
    token = voxmeter("billing", "token", "-", "--tenant", "t", "--account", "a", "--state-dir", tmp_path, "--json").told
    assert (len(token["token"]), token["device"]) == (43, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["serve"], "--certificate"),
        (["serve", "--plain", "--host", "192.0.2.1"], "this machine"),
        (["serve", "--plain", "--host", "x y"], "x y"),
        (["serve", "--plain", "--port", "70000"], "65535"),
        (["serve", "--plain", "--broker", "nowhere"], "HOST:PORT"),
        (["serve", "--plain", "--allow", "everyone"], "everyone"),
        (["serve", "--plain", "--rate", "0"], "--rate"),
        (["keys", "create", "x", "--scope", "root"], "no scope is called 'root'"),
        (["keys", "create", "x"], "--scope"),
        (["keys", "create", "x", "--scope", "admin", "--public-key", "abc"], "Ed25519"),
        (["keys", "revoke", "0123456789abcdef"], "keys list"),
        (["token", "a/b", "--tenant", "t", "--account", "a"], "no name"),
        (["token", "d", "--tenant", "t", "--account", "a", "--hours", "nan"], "hours"),
        (["token", "d", "--tenant", "t"], "--account"),
        (["backup", "/nowhere/at/all"], "/nowhere/at is no folder"),
        (["keys", "list", "--state-dir", "/proc/nowhere"], "/proc/nowhere"),
        (["restore", "/nowhere"], "/nowhere is no backup"),
        (["restore", "/etc/hostname"], "/etc/hostname is no backup"),
        (["restore", "/etc/hostname", "--state-dir", "/proc/nowhere"], "/proc/nowhere"),
        (["serve", "--plain", "--connections", "0"], "--connections"),
    ],
    ids=str,
)
def test_wrong_words_get_one_plain_line(tmp_path: Path, words: list[str], says: str) -> None:
    given = words if "--state-dir" in words else [*words, "--state-dir", str(tmp_path)]
    ended = voxmeter("billing", *given)
    assert ended.status == 2
    assert says in ended.line
