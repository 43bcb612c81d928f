"""The executor on a real ledger: what is run, what is told, and what is not run and who hears of it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.contract.fleet import command as wire_command
from agent.contract.fleet import jws
from agent.contract.fleet.command import COMMAND, COMMAND_BYTES_MAX, RESULT_BYTES_MAX, written
from agent.errors import BadInput, LedgerFull
from agent.fleet.commands import COMMANDS
from agent.fleet.executor import AHEAD_MAX, WAITING_MAX
from agent.fleet.running.repeats import AGAIN, IDS_MAX
from agent.sim.world.loop import run
from tests.fleet.steered import ARGUMENTS, OPERATOR, STRANGER, Bench, cmd_id


@pytest.mark.parametrize("op", COMMANDS)
def test_every_command_is_run_once_and_answered(tmp_path: Path, op: str) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            result = await bench.result(bench.command(op))
            assert (result.state, result.op, result.seq, result.code) == ("succeeded", op, 1, "")
            assert sum(bench.robot.done.values()) == (op != "ping")
            await bench.idle()
            assert bench.confirmed == [cmd_id(1)]
            states = [one.state for one in bench.news]
            assert states == ([] if op == "ping" else ["accepted"] if op == "agent.restart" else ["accepted", "running"])
            assert await bench.book.open() == []

    run(main())


def test_the_same_again_is_answered_and_not_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            command = bench.command("say")
            first = await bench.result(command)
            for _ in range(AGAIN):
                assert await bench.result(command) == first
            for _ in range(2):
                await bench.clock.sleep(130)
                assert await bench.result(command) == first
            assert bench.times("say") == 1
            assert bench.refused == []

    run(main())


def test_who_sends_the_same_without_end_costs_the_card_next_to_nothing_and_is_on_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            command, book, answers = bench.command("say"), bench.book._writer._connection, 0
            await bench.result(command)
            content, changed = wire_command.signed(command, OPERATOR), book.total_changes
            for _ in range(3000):
                bench.deliver(command.cmd_id, content)
                await bench.clock.sleep(0.1)
                answers += len(await bench.results())
            await bench.clock.sleep(100)
            assert len(bench.confirmed) == 3001
            assert AGAIN <= answers <= AGAIN + 6  # five minutes
            assert book.total_changes - changed < 6 * answers
            assert bench.times("say") == 1
            assert {one.code for one in bench.refused} == {"repeated"}
            assert sum(one.count for one in bench.refused) > 2900
            assert len(bench.refused) <= 7

    run(main())


def test_old_commands_of_many_ids_are_not_all_answered_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            sent = [bench.command("ping", number) for number in range(1, 2 * IDS_MAX + 1)]
            for _ in range(2):
                for one in sent:
                    bench.send(one)
                    await bench.clock.sleep(0.1)
                await bench.idle()
            assert len(await bench.results()) == 2 * IDS_MAX
            for one in sent:
                bench.send(one)
                await bench.clock.sleep(0.05)
            await bench.idle()
            assert len(await bench.results()) == IDS_MAX
            await bench.clock.sleep(300)
            assert (await bench.result(sent[-1])).state == "succeeded"

    run(main())


def test_while_it_runs_the_same_again_hears_how_it_stands(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.hangs.add("speak")
            command = bench.command("say")
            bench.send(command)
            await bench.idle()
            bench.send(command)
            await bench.idle()
            assert [one.state for one in bench.news] == ["accepted", "running", "running"]
            assert len(bench.confirmed) == 2
            bench.robot.go_on.set()
            await bench.idle()
            assert [one.state for one in await bench.results()] == ["succeeded"]
            assert bench.times("say") == 1

    run(main())


def test_a_ping_overtakes_what_takes_long_and_others_keep_their_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.hangs.add("flush")
            for number, op in enumerate(("usage.flush", "say", "mode.set", "ping"), 1):
                bench.send(bench.command(op, number))
            await bench.idle()
            assert [one.op for one in await bench.results()] == ["ping"]
            assert len(bench.confirmed) == 4
            bench.robot.go_on.set()
            await bench.idle()
            assert [one.op for one in await bench.results()] == ["usage.flush", "say", "mode.set"]

    run(main())


def test_no_more_is_accepted_ahead_than_a_power_cut_may_leave_open_and_what_only_answers_passes(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.hangs.add("flush")
            bench.send(bench.command("usage.flush", 1))
            await bench.idle()
            for number in range(2, 41):
                bench.send(bench.command("mode.set", number))
            bench.send(bench.command("ping", 41))
            await bench.idle()
            assert len(await bench.book.open()) == AHEAD_MAX + 1
            assert len(bench.confirmed) == 41
            told = await bench.results()
            assert (told[-1].op, told[-1].state) == ("ping", "succeeded")
            assert {(one.state, one.code) for one in told[:-1]} == {("rejected", "busy")}
            assert [one.seq for one in told[:-1]] == list(range(AHEAD_MAX + 2, 41))
            bench.robot.go_on.set()
            await bench.idle()
            assert bench.times("mode.set") == AHEAD_MAX
            assert {one.code for one in bench.refused} == {"busy"}
            assert len(await bench.results()) == AHEAD_MAX + 1
            assert (await bench.result(bench.command("mode.set", 42))).state == "succeeded"

    run(main())


def gone(state: Path) -> None:
    for path in state.glob("ledger.db*"):
        path.unlink()


def unreadable(state: Path) -> None:
    path = state / "ledger.db"
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("loss", [gone, unreadable])
def test_a_ledger_that_is_lost_lets_nothing_old_be_done_again(tmp_path: Path, loss: Callable[[Path], None], trusted: bool) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            old = bench.command("say", 5, session_nonce="nonce-1", exp=int(bench.clock.utc().timestamp()) + 24 * 3600)
            await bench.result(old)
        bench.clock.leap(10)
        loss(tmp_path)
        async with Bench(tmp_path, robot=bench.robot, clock=bench.clock) as again:
            again.nonce = "nonce-2"
            again.clock.believed = "ntp" if trusted else "none"
            for _ in range(2):
                assert (await again.result(old)).code == "stale"
                again.clock.leap(1000)
            again.clock.believed = "ntp"
            assert (await again.result(old)).code == "stale"
            assert again.times("say") == 1
            assert (await again.result(again.command("say", 6, session_nonce="nonce-2"))).state == "succeeded"
            assert (await again.result(again.command("say", 7))).state == "succeeded"

    run(main())


def test_right_after_a_loss_only_the_nonce_of_the_connection_lets_a_command_in(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.result(bench.command("say", 5))
        unreadable(tmp_path)
        async with Bench(tmp_path, robot=bench.robot, clock=bench.clock) as again:
            assert (await again.result(again.command("say", 6))).code == "stale"  # two clocks may differ by half a minute
            assert (await again.result(again.command("say", 7, session_nonce="nonce-1"))).state == "succeeded"

    run(main())


@pytest.mark.parametrize("op", [op for op in COMMANDS if op not in ("ping", "agent.restart")])
def test_what_exceeds_its_limit_has_failed(tmp_path: Path, op: str) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.hangs |= {"diagnostics", "apply", "flush", "audit", "set_budget", "set_mode", "speak", "set_log_level", "forget"}
            result = await bench.result(bench.command(op))
            assert (result.state, result.code) == ("failed", "timeout")
            assert "stopped after" in result.message
            after = await bench.result(bench.command("ping", 2))
            assert after.state == "succeeded"

    run(main())


def test_what_the_robot_says_is_wrong_stands_in_the_result(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.fails["apply"] = BadInput("audio: no such microphone", "see voxmeter doctor")
            result = await bench.result(bench.command("config.apply"))
            assert (result.state, result.code, result.message) == ("failed", "bad-input", "audio: no such microphone; see voxmeter doctor")
            bench.robot.answers["diagnostics"] = {"thing": {1: object}}
            result = await bench.result(bench.command("diagnostics.collect", 2))
            assert (result.state, result.code) == ("failed", "bad-answer")

    run(main())


@pytest.mark.parametrize(
    "answer", [{"log": "x" * 10**6, "status": "ok"}, {f"n{i}": i for i in range(20_000)}, {"t": {"lines": ["y" * 90] * 5000}}]
)
def test_a_result_that_is_too_long_is_cut_and_says_so(tmp_path: Path, answer: dict[str, object]) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.answers["diagnostics"] = answer
            result = await bench.result(bench.command("diagnostics.collect"))
            assert result.state == "succeeded"
            assert result.result["cut"]
            assert len(written(result)) <= RESULT_BYTES_MAX
            assert "status" not in answer or result.result["status"] == "ok"

    run(main())


@pytest.mark.parametrize(
    ("changes", "state", "code"),
    [
        ({"op": "model.update"}, "rejected", "unknown-op"),
        ({"op": "rm -rf"}, "rejected", "unknown-op"),
        ({"op": "say"}, "rejected", "not-allowed"),
        ({"op": "mode.set", "args": {"mode": "sideways"}}, "rejected", "bad-arguments"),
        ({"op": "mode.set", "args": {"mode": "auto", "and": 1}}, "rejected", "bad-arguments"),
        ({"op": "ping", "args": {"echo": 7}}, "rejected", "bad-arguments"),
        ({"iat": 1, "exp": 2}, "expired", "expired"),
        ({"iat": 2**40, "exp": 2**40 + 9}, "rejected", "from-the-future"),
        ({"exp": 2**40}, "rejected", "too-long"),
    ],
)
def test_what_is_refused_is_told_why_once_and_stays_so(tmp_path: Path, changes: dict[str, object], state: str, code: str) -> None:
    async def main() -> None:
        async with Bench(tmp_path, allowed=set(COMMANDS) - {"say"}) as bench:
            command = bench.command(**{"args": ARGUMENTS.get(str(changes.get("op")), {})} | changes)  # type: ignore[arg-type]
            result = await bench.result(command)
            assert (result.state, result.code) == (state, code)
            assert "\n" not in result.message
            assert result.message
            assert [(one.code, one.count) for one in bench.refused] == [(code, 1)]
            bench.send(command)
            await bench.idle()
            assert len(bench.confirmed) == 2
            assert not bench.robot.done
            assert all(one == result for one in await bench.results())

    run(main())


def test_a_seq_that_was_passed_is_refused_even_when_its_command_is_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            command = bench.command("say", 7)
            await bench.result(command)
            bench.clock.leap(40 * 24 * 3600)
            await bench.book.forget(30)
            assert await bench.book.find(command.cmd_id) is None
            result = await bench.result(bench.command("say", 3))
            assert (result.state, result.code) == ("rejected", "replayed")
            result = await bench.result(command)
            assert (result.state, result.code) == ("rejected", "replayed")
            assert bench.times("say") == 1

    run(main())


def test_a_retained_command_is_refused_and_says_nothing_against_the_one_that_was_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            result = await bench.result(bench.command("agent.restart", 1), retained=True)
            assert (result.state, result.code) == ("rejected", "retained")
            done = bench.command("say", 2)
            await bench.result(done)
            bench.send(done, retained=True)
            await bench.idle()
            assert await bench.results() == []
            assert [one.code for one in bench.refused] == ["retained"]
            assert dict(bench.robot.done) == {"speak": 1}

    run(main())


def test_an_id_that_is_taken_gives_nobody_its_result(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.result(bench.command("diagnostics.collect", 1))
            bench.send(bench.command("say", 9, cmd_id=cmd_id(1)))
            await bench.idle()
            assert [one.code for one in bench.refused] == ["forged"]
            assert await bench.results() == []
            known = await bench.book.find(cmd_id(1))
            assert known is not None
            assert (known.op, known.state) == ("diagnostics.collect", "succeeded")
            assert bench.times("say") == 0

    run(main())


def test_what_nobody_here_signed_or_meant_for_us_leaves_no_trace_in_the_book(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            good = bench.command("say")
            content = wire_command.signed(good, OPERATOR)
            bench.send(good, key=STRANGER)
            bench.deliver(good.cmd_id, content[:-4] + b"AAAA")
            bench.deliver(good.cmd_id, b"\xff\x00 no command")
            bench.deliver(good.cmd_id, b"")
            bench.deliver(good.cmd_id, jws.sign("voxmeter-twin+jws", b"{}", OPERATOR))
            bench.deliver(good.cmd_id, jws.sign(COMMAND, b"[1, 2", OPERATOR))
            bench.deliver(good.cmd_id, jws.sign(COMMAND, b"[" * 9000, OPERATOR))
            bench.deliver(good.cmd_id, b"x" * 1024 * 1024)
            bench.deliver(good.cmd_id, b"x" * (COMMAND_BYTES_MAX + 1))
            bench.send(good, topic_id=cmd_id(9))
            bench.send(bench.command("say", aud="demo/sim-2"))
            bench.send(bench.command("say", aud="demo/@kitchen"))
            await bench.idle()
            assert len(bench.confirmed) == 12
            assert Counter(one.code for one in bench.refused) == dict.fromkeys(
                ("bad-signature", "bad-command", "too-big", "wrong-topic", "wrong-audience"), 1
            )
            assert (await bench.results(), await bench.book.find(good.cmd_id), await bench.book.highest(OPERATOR.key_id)) == ([], None, 0)
            assert not bench.robot.done
            assert (await bench.result(good)).state == "succeeded"  # after all that

    run(main())


def test_a_group_is_steered_as_long_as_the_robot_is_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            assert (await bench.result(bench.command("ping", 1, aud="demo/@lobby"))).state == "succeeded"
            bench.groups.clear()
            bench.send(bench.command("ping", 2, aud="demo/@lobby"))
            await bench.idle()
            assert await bench.results() == []
            assert [one.code for one in bench.refused] == ["wrong-audience"]

    run(main())


def test_a_robot_without_a_clock_takes_what_was_signed_for_this_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.clock.believed = "none"
            assert (await bench.result(bench.command("mode.set", 1, session_nonce="nonce-1", exp=5))).state == "succeeded"
            bench.nonce = "nonce-2"
            result = await bench.result(bench.command("mode.set", 2, session_nonce="nonce-1"))
            assert (result.state, result.code) == ("expired", "stale")
            assert bench.times("mode.set") == 1

    run(main())


def test_a_command_that_waited_too_long_is_not_begun(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.hangs.add("flush")
            bench.send(bench.command("usage.flush", 1))
            now = int(bench.clock.utc().timestamp())
            bench.send(bench.command("say", 2, exp=now + 60))
            await bench.clock.sleep(200)
            bench.robot.go_on.set()
            await bench.idle()
            assert [(one.op, one.state) for one in await bench.results()] == [("usage.flush", "succeeded"), ("say", "expired")]
            assert bench.times("say") == 0

    run(main())


def test_thousands_at_once_become_a_few_lines(tmp_path: Path) -> None:
    """A broker that keeps to nothing: what goes beyond the queue is not confirmed, and counted."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            forged = wire_command.signed(bench.command("say"), STRANGER)
            for _ in range(3000):
                bench.deliver(cmd_id(1), forged)
            await bench.idle()
            for _ in range(3000):
                bench.deliver(cmd_id(1), forged)
                await bench.clock.sleep(0.001)
            await bench.clock.sleep(200)
            assert len(bench.refused) <= 8
            counts: Counter[str] = Counter()
            for one in bench.refused:
                counts[one.code] += one.count
            assert counts.total() == 6000
            assert counts["bad-signature"] == len(bench.confirmed) >= WAITING_MAX
            assert await bench.results() == []
            assert (await bench.result(bench.command("say"))).state == "succeeded"

    run(main())


def test_who_sends_too_fast_waits_and_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            began_s = bench.clock.monotonic()
            for number in range(1, 301):
                await bench.until(lambda number=number: number - len(bench.confirmed) <= 16)  # type: ignore[misc]
                bench.send(bench.command("ping", number))
            await bench.until(lambda: len(bench.confirmed) == 300)
            assert 9 < bench.clock.monotonic() - began_s < 15  # a hundred at once, then twenty a second
            assert [one.seq for one in await bench.results()] == list(range(1, 301))
            assert bench.refused == []

    run(main())


def test_a_ledger_that_refuses_makes_all_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            writing, full = bench.book._do, True

            async def refusing(work):  # type: ignore[no-untyped-def]
                if full:
                    raise LedgerFull("the ledger took no record: disk full", "make room")
                return await writing(work)

            bench.book._do = refusing  # type: ignore[method-assign]
            bench.send(bench.command("say", 1))
            bench.send(bench.command("ping", 2))
            await bench.clock.sleep(300)
            assert (bench.confirmed, dict(bench.robot.done)) == ([], {})
            assert len(bench.said) == 1
            assert "disk full" in bench.said[0]
            full = False
            await bench.clock.sleep(70)
            assert len(bench.confirmed) == 2
            assert [one.state for one in await bench.results()] == ["succeeded"] * 2
            bench.robot.hangs.add("flush")
            bench.send(bench.command("usage.flush", 3))
            await bench.idle()
            full = True
            bench.robot.go_on.set()
            await bench.clock.sleep(300)
            full = False
            await bench.clock.sleep(70)
            assert [one.state for one in await bench.results()] == ["succeeded"]
            assert bench.times("usage.flush") == 1  # what was done is not done again

    run(main())


def test_a_restart_is_on_the_books_before_it_happens_and_what_comes_then_is_left_for_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            stood: list[str] = []
            held = bench.book.find

            def did(what: str, _how: str) -> None:
                row = bench.book._writer._connection.execute("SELECT state FROM command").fetchone()
                stood.append(f"{what}: {row[0]}")

            bench.robot._did = did
            bench.send(bench.command("agent.restart", 1))
            bench.send(bench.command("say", 2))
            await bench.idle()
            assert stood == ["restart: succeeded"]
            assert bench.confirmed == [cmd_id(1)]
            assert await held(cmd_id(2)) is None
            await bench.clock.sleep(100)  # nothing came of it
            assert bench.confirmed == [cmd_id(1), cmd_id(2)]

    run(main())


@pytest.mark.parametrize("between", ["nothing", "the same", "unknown", "too late", "unfit"])
def test_who_asks_while_a_restart_waits_for_what_is_being_said_is_answered(tmp_path: Path, between: str) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.hangs.add("speak")
            sent = [bench.command(op, number) for number, op in enumerate(("say", "agent.restart"), 1)]
            late, strange = bench.command("log.level", 3, iat=1, exp=2), bench.command("nonsense", 3)
            unfit = bench.command("log.level", 3, args={"level": 7})
            for one in (*sent, *{"the same": sent, "unknown": [strange], "too late": [late], "unfit": [unfit]}.get(between, [])):
                bench.send(one)
            for number, op in enumerate(("ping", "log.level", "ping"), 4):
                bench.send(bench.command(op, number))
            await bench.clock.sleep(1)
            pinged = await bench.book.find(cmd_id(4))
            assert pinged is not None
            assert pinged.state == "succeeded"
            assert bench.confirmed[-1] == cmd_id(4)  # what acts is for the next start, and what would come after it

    run(main())


def test_what_does_not_stop_is_left_to_itself_and_others_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.hangs.add("set_log_level")
            bench.robot.stubborn = True
            result = await bench.result(bench.command("log.level"))
            assert (result.state, result.code) == ("failed", "timeout")
            assert bench.said == ["a command does not stop and is left to itself"]
            assert (await bench.result(bench.command("mode.set", 2))).state == "succeeded"
            bench.robot.go_on.set()
            await bench.idle()

    run(main())


def test_an_error_nobody_thought_of_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.robot.fails["audit"] = RuntimeError("one\ntwo")
            result = await bench.result(bench.command("usage.audit"))
            assert (result.state, result.code, result.message) == ("failed", "error", "RuntimeError: one two")
            bench.robot.fails["restart"] = BadInput("no service runs this agent")
            assert (await bench.result(bench.command("agent.restart", 2))).state == "succeeded"
            assert bench.said == ["agent.restart did nothing: no service runs this agent"]
            assert (await bench.result(bench.command("ping", 3))).state == "succeeded"  # and it does not wait for an end

    run(main())


def test_a_message_that_breaks_the_judge_is_dropped_and_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.groups = None  # type: ignore[assignment]
            bench.send(bench.command("say", aud="demo/@lobby"))
            await bench.idle()
            assert len(bench.confirmed) == 1
            assert len(bench.said) == 1
            assert bench.said[0].startswith("a command could not be judged: TypeError")
            bench.groups = ["lobby"]
            assert (await bench.result(bench.command("ping", 2))).state == "succeeded"

    run(main())
