"""Breaks the promises of the ledger one by one, in a copy, and shows that a test dies of each: `python -m tests.mutants [--json]`.

A mutant that lives means that nobody would notice. Exit 1 then, or where a text to be broken is no longer there.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

CUTS = ("-m", "agent", "sim", "cuts", "--images", "400", "--seed", "1")
"""Power cuts at every write and sync of the first life or two."""

SECONDS_MAX = 400


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to lose a record."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    """Text that is there, and what stands there instead."""
    proof: tuple[str, ...] = CUTS
    """Arguments of Python that must fail."""


def pytest(*names: str) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *names)


WRITER = "agent/store/ledger/writer.py"
CHAIN = "agent/store/ledger/chain.py"
BOOK = "agent/store/ledger/commands.py"
EXECUTOR = "agent/fleet/executor.py"

MUTANTS = [
    Mutant("synchronous=NORMAL", "agent/store/db.py", (("synchronous=FULL", "synchronous=NORMAL"),)),
    Mutant(
        "returning before commit",
        WRITER,
        (
            (
                'self._connection.execute("BEGIN IMMEDIATE")',
                'self._connection.execute("COMMIT" if self._connection.in_transaction else "SELECT 1")\n'
                '            self._connection.execute("BEGIN IMMEDIATE")',
            ),
            ('            self._connection.execute("COMMIT")\n        except', "            pass\n        except"),
        ),
    ),
    Mutant(
        "intent not durable",
        "agent/store/ledger/journal.py",
        (
            (
                'if entry.state == "intended":\n            carry(connection, entry, intent)',
                'if entry.state == "intended":\n            pass',
            ),
        ),
    ),
    Mutant(
        "odometer outside the transaction",
        CHAIN,
        (
            (
                "connection.executemany(ADVANCE, [(*place, quantity) for place, quantity in advance.items()])",
                "connection.executemany(ADVANCE, getattr(self, '_late', []))\n"
                "        self._late = [(*place, quantity) for place, quantity in advance.items()]",
            ),
        ),
    ),
    Mutant(
        "folder not synced: set-aside log and file",
        "agent/store/ledger/epochs.py",
        (("        rename_durably(_log(path), _log(target))", "        _log(path).rename(_log(target))"),),
        pytest("tests/store/ledger/test_set_aside.py"),
    ),
    Mutant(
        "folder not synced: key made",
        "agent/store/keys.py",
        (('write_durably(path, f"', 'path.write_bytes(f"'),),
    ),
    Mutant(
        "folder not synced: key promoted",
        "agent/store/keys.py",
        (("rename_durably(self._pending, self._usage)", "self._pending.rename(self._usage)"),),
    ),
    Mutant(
        "folder not synced: odometer file",
        "agent/files.py",
        (("    rename_durably(part, path)", '    part.rename(path) if path.suffix == ".json" else rename_durably(part, path)'),),
    ),
    Mutant(
        "a roll-up over a batched record",
        "agent/store/ledger/space.py",
        (("begin = cursor(connection).batched", "begin = cursor(connection).acked"),),
        pytest("tests/store/ledger"),
    ),
    Mutant(
        "the cursor moved without the hash",
        "agent/store/ledger/leaving/backlog.py",
        (('if standing not in ("agreed", "behind")', 'if standing not in ("agreed", "behind", "different")'),),
        pytest("tests/store/ledger"),
    ),
    Mutant(
        "a command confirmed before it is on the books",
        EXECUTOR,
        (
            (
                "        await self._book.accept(known)\n        message.confirm()",
                "        message.confirm()\n        await self._book.accept(known)",
            ),
        ),
        pytest("tests/fleet/test_executor.py", "tests/fleet/test_executor_cuts.py"),
    ),
    Mutant(
        "a command run again that must not be",
        EXECUTOR,
        (("        again = spec(known.op).idempotent", "        again = bool(spec(known.op))"),),
        pytest("tests/fleet/test_executor_cuts.py"),
    ),
    Mutant(
        "an end without its result in the outbox",
        BOOK,
        (("                outbox.put(connection, [Posted(", "                list([Posted("),),
        pytest("tests/store/ledger/test_commands.py"),
    ),
    Mutant(
        "a key's count that does not outlive its epoch",
        BOOK,
        (("    counts = [*book.counts, *(", "    counts = [*("),),
        pytest("tests/store/ledger/test_commands.py"),
    ),
    Mutant(
        "a seq that was passed is run",
        "agent/fleet/order.py",
        (("    if asked.command.seq > highest:", "    if asked.command.seq >= highest:"),),
        pytest("tests/fleet/test_order.py"),
    ),
    Mutant(
        "a retained command is run",
        "agent/fleet/order.py",
        (("    if asked.retained:", "    if asked.retained and not asked.command.seq:"),),
        pytest("tests/fleet/test_order.py"),
    ),
]


def main() -> int:
    """Tries all, a line on stderr for each."""
    as_json = "--json" in sys.argv
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for mutant in MUTANTS:
            result = tried(mutant, Path(scratch) / "tree")
            results.append({"mutant": mutant.name, "result": result})
            sys.stderr.write(f"{result:8} {mutant.name}\n")
    if as_json:
        told = {"mutants": results, "caught": sum(one["result"] == "caught" for one in results)}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0 if all(one["result"] == "caught" for one in results) else 1


def tried(mutant: Mutant, tree: Path) -> str:
    """`caught`, `lived`, or `stale` where the text is not there."""
    shutil.rmtree(tree, ignore_errors=True)
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    source = tree / mutant.file
    text = source.read_text()
    for there, instead in mutant.changes:
        if text.count(there) != 1:
            return "stale"
        text = text.replace(there, instead)
    source.write_text(text)
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, *mutant.proof], cwd=tree, env=environment, capture_output=True, timeout=SECONDS_MAX, check=False
    )
    return "lived" if ended.returncode == 0 else "caught"


if __name__ == "__main__":
    raise SystemExit(main())
