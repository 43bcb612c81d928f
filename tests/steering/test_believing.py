"""A file of whom to believe that is damaged keeps nobody from telling the robot whom to believe."""

import asyncio
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contract.fleet.twin import Keys
from agent.contract.registration import jwks
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.log import Log
from agent.steering import FromAfar
from agent.store import trust

OLD, NEW, OPERATOR = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))


def afar(state: Path, said: list[str]) -> FromAfar:
    return FromAfar("scripted", Log(), state, SystemClock(), said.append)


def test_a_robot_that_runs_learns_from_the_next_twin_and_its_next_start_knows(tmp_path: Path) -> None:
    said: list[str] = []
    trust.write(tmp_path, jwks([OLD.public]), "PEM", jwks([OPERATOR.public]))
    steers = afar(tmp_path, said)
    assert set(steers._surroundings().trusted()) == {OLD.key_id}
    (tmp_path / trust.TRUST_FILE).write_bytes(b"\0" * 100)
    steers._surroundings().believe(Keys(ack_keys=jwks([OLD.public, NEW.public])))
    wanted = trust.Trust({one.key_id: one.public for one in (OLD, NEW)}, "PEM", {OPERATOR.key_id: OPERATOR.public})
    assert trust.read(tmp_path) == wanted
    assert any("whom to believe" in line for line in said)


def test_what_went_while_it_ran_is_there_before_it_is_opened_anew(tmp_path: Path) -> None:
    before = trust.write(tmp_path, jwks([OLD.public]), "PEM", jwks([OPERATOR.public]))
    steers = afar(tmp_path, [])
    asyncio.run(steers.beside())
    (tmp_path / trust.TRUST_FILE).unlink()
    asyncio.run(steers.beside())
    assert trust.read(tmp_path) == before


def test_one_that_starts_with_it_does_not_guess_and_learns_from_a_registration(tmp_path: Path) -> None:
    """Its authority is lost with the file: written without one, it would believe any of this machine's."""
    said: list[str] = []
    (tmp_path / trust.TRUST_FILE).write_bytes(b"\0" * 100)
    steers = afar(tmp_path, said)
    with pytest.raises(BadInput, match="register"):
        steers._surroundings().believe(Keys(ack_keys=jwks([NEW.public])))
    assert steers._surroundings().trusted() == {}
    trust.write(tmp_path, jwks([OLD.public]), "PEM")
    assert set(steers._surroundings().trusted()) == {OLD.key_id}
    steers._surroundings().believe(Keys(ack_keys=jwks([OLD.public, NEW.public])))
    assert trust.read(tmp_path).authority == "PEM"
