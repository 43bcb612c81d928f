"""`voxmeter fleet enroll` and `decommission` as the integrator types them, with a backend that runs."""

from pathlib import Path

import pytest

from agent import profile as profiles
from agent.billing.access.robots.authority import CERTIFICATE_FILE
from agent.contract.signing import SigningKey, encode
from agent.store.pair import Pair
from tests.e2e.helpers import voxmeter
from tests.enrolment.helpers import TENANT, House

OPERATOR, NIGHT = SigningKey.from_seed(b"p" * 32), SigningKey.from_seed(b"n" * 32)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with House.open(tmp_path_factory.mktemp("house")) as house:
        yield house


def profile_file(house: House, name: str) -> Path:
    text = profiles.find("scripted").read_text().replace("sim-0001", name)
    for way, port in (("mqtt", house.broker.port), ("https", house.backend.port)):
        text += f'\n[sync.{way}]\nhost = "127.0.0.1"\nport = {port}\n'
    path = house.folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_a_robot_is_enrolled_and_taken_out_of_service(house: House) -> None:
    books, state = house.backend.state, house.folder / "cli"
    (house.folder / "operator.key").write_text(f"{encode(OPERATOR.seed)} {OPERATOR.key_id}\n")
    (house.folder / "operator.key").chmod(0o600)
    for key in (house.folder / "operator.key", encode(OPERATOR.public)):
        added = voxmeter("billing", "operator", "add", "day", key, "--state-dir", books)
        assert (added.status, added.out.splitlines()[0]) == (0, f"day: {OPERATOR.key_id}"), added.err
        assert "voxmeter billing operator everywhere" in added.out
    assert [one["key"] for one in voxmeter("billing", "operator", "list", "--state-dir", books, "--json").told] == [OPERATOR.key_id]
    shown = voxmeter("billing", "authority", "--state-dir", books)
    assert shown.out.strip() == (books / CERTIFICATE_FILE).read_text().strip()
    words = ("--profile", profile_file(house, "cli-1"), "--state-dir", state)
    token = voxmeter("billing", "token", "cli-1", "--tenant", TENANT, "--account", "hotel", "--state-dir", books).out.strip()
    enrolled = voxmeter("fleet", "enroll", token, "--ca", house.bundle, *words)
    assert enrolled.status == 0, enrolled.err
    assert "demo/cli-1 is enrolled; account hotel pays; certificate until " in enrolled.out
    assert "; 1 operators" in enrolled.out
    assert Pair(state).shown()
    once = voxmeter("billing", "operator", "everywhere", "--state-dir", books, "--json")
    assert (once.status, once.told) == (0, {"robots": 1, "set": 1, "failed": {}})
    more = voxmeter("billing", "operator", "add", "night", encode(NIGHT.public), "--everywhere", "--state-dir", books, "--json")
    assert (more.status, more.told["everywhere"]) == (0, {"robots": 1, "set": 1, "failed": {}})
    less = voxmeter("billing", "operator", "remove", "night", "--everywhere", "--state-dir", books)
    assert less.out.splitlines() == ["night: removed", "1 robots, 1 of them get a twin for it"]
    gone = voxmeter("fleet", "decommission", *words, "--json")
    assert gone.status == 0, gone.err
    assert gone.told == {"device": "demo/cli-1", "lost": 0, "unsent": 0, "struck_off": True}
    assert list(state.iterdir()) == []
    assert voxmeter("billing", "operator", "remove", "day", "--state-dir", books).status == 0
    assert "no operator is left" in voxmeter("billing", "operator", "everywhere", "--state-dir", books).line
    assert "no operator is called 'day'" in voxmeter("billing", "operator", "remove", "day", "--state-dir", books).line


def test_what_can_not_be_done_is_one_line(house: House, tmp_path: Path) -> None:
    words = ("--profile", profile_file(house, "cli-2"), "--state-dir", tmp_path / "state")
    refused = voxmeter("fleet", "enroll", "A" * 43, "--ca", house.bundle, *words)
    assert (refused.status, "ask its operator for a new token" in refused.line) == (2, True)
    assert voxmeter("fleet", "decommission", "--profile", profile_file(house, "cli-2"), "--state-dir", tmp_path / "none").status == 2
    unknown = voxmeter("billing", "revoke", f"{TENANT}/nobody", "--state-dir", house.backend.state)
    assert f"no robot is called {TENANT}/nobody" in unknown.line
    half = voxmeter("billing", "serve", "--plain", "--device-authority", house.bundle, "--state-dir", tmp_path / "books")
    assert "--device-authority-key" in half.line
