"""A robot closed and opened in one process, what is asked of it from afar, and who is watched."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from agent import service
from agent.app import App
from agent.errors import BadProfile
from agent.notify import Notifier
from agent.ports import Steering
from agent.service.running import Asking, Request, Running, Settings
from agent.service.watch import Watchdog


class Script:
    """Implements Steers: lays `settings` over the profile, one after the other, and asks for what it is told to."""

    def __init__(self, settings: list[Settings], asks: list[Callable[[Running], None]]) -> None:
        self.settings, self.asks = settings, asks
        self.opened: list[int] = []
        self.failures: list[str] = []

    async def beside(self) -> Settings:
        return self.settings[0]

    async def failed(self, why: str) -> bool:
        self.failures.append(why)
        self.settings.pop(0)
        return bool(self.settings)

    def steering(self, app: App) -> Steering | None:
        del app
        return None

    def steered(self, running: Running) -> AbstractAsyncContextManager[object]:
        @asynccontextmanager
        async def open_() -> AsyncIterator[None]:
            self.opened.append(running.app.profile.llm.max_tokens)
            self.settings = self.settings[1:] or self.settings
            self.asks.pop(0)(running)
            yield

        return open_()


def play(tmp_path: Path, script: Script) -> tuple[Request, list[str]]:
    said: list[str] = []
    run = service.run("scripted", tmp_path / "s", said.append, steers=lambda *_: script, notifier=Notifier({}))
    return asyncio.run(asyncio.wait_for(run, 60)), said


def test_it_is_opened_anew_with_other_settings_and_then_ends(tmp_path: Path) -> None:
    asks: list[Callable[[Running], None]] = [lambda one: one.request_reopen("other settings"), lambda one: one.request_restart("asked")]
    script = Script([{"llm": {"max_tokens": 7}}, {"llm": {"max_tokens": 9}}], asks)
    request, said = play(tmp_path, script)
    assert (script.opened, request) == ([7, 9], Request("restart", "asked"))
    assert [line for line in said if "reopen" in line] == ["reopen: other settings"]
    assert not (tmp_path / "s/agent.sock").exists()


def test_settings_that_do_not_open_give_way_to_what_is_told_then(tmp_path: Path) -> None:
    script = Script([{"llm": {"max_tokens": -1}}, {}], [lambda one: one.request_restart("done")])
    request, _ = play(tmp_path, script)
    assert (request.kind, len(script.failures), len(script.opened)) == ("restart", 1, 1)


def test_where_nothing_else_is_told_the_error_ends_it(tmp_path: Path) -> None:
    with pytest.raises(BadProfile):
        play(tmp_path, Script([{"llm": {"max_tokens": -1}}], []))


def test_the_gravest_request_is_what_is_done() -> None:
    async def asked(*kinds: str) -> Request:
        asking = Asking()
        for kind in kinds:
            asking.ask(Request(kind, kind))  # type: ignore[arg-type]
        return await asking.wait()

    assert asyncio.run(asked("reopen", "restart", "reopen")).kind == "restart"
    assert asyncio.run(asked("restart", "reopen")).kind == "restart"


def test_a_ledger_that_stands_still_starves_the_watchdog_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watched by a clock that is moved on by hand, while the writer's thread answers nobody."""
    fed: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(Notifier, "alive", lambda _: fed.append("fed"))

    async def story(running: Running) -> None:
        now = running.app.clock.monotonic()
        monkeypatch.setattr(running.app.ledger, "beat", lambda: asyncio.Event().wait())
        watchdog = Watchdog(Notifier({}), running.app.clock, said.append)
        watchdog.opened(running)
        for later in (0, 30, 59, 61, 90):
            monkeypatch.setattr(type(running.app.clock), "monotonic", lambda _, at=now + later: at)
            watchdog._look()
            await asyncio.sleep(0)
        await watchdog.closing()
        monkeypatch.undo()

    async def steered() -> None:
        script = Script([{}], [])
        done = asyncio.Event()

        def ask(running: Running) -> None:
            async def told() -> None:
                await story(running)
                done.set()
                running.request_restart("seen")

            script.task = asyncio.create_task(told())  # type: ignore[attr-defined]

        script.asks.append(ask)
        await service.run("scripted", tmp_path / "s", lambda _: None, steers=lambda *_: script, notifier=Notifier({}))
        await script.task  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(steered(), 60))
    assert len(fed) >= 3
    assert [line for line in said if "stuck" in line] == [
        "stuck: ledger has stood still for 61 s (allowed: 60 s); the watchdog is not fed any more"
    ]
