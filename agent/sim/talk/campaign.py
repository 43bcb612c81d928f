"""Interrupts conversations at random moments and adds up: stage records = turns = sessions, whatever was stopped when; and nobody who has
asked something is left without an answer."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.clock import seeded
from agent.metering.cards import Cards
from agent.profile import Hearing
from agent.sim.talk import Played, Scene, play, sound
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.values import Turn

FIGURES = ("input_tokens", "output_tokens", "characters", "characters_heard")

RECORDED = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "characters", "characters_heard")

NOISES, STOP = ("", "uh-huh"), "stop"
"""Nobody is owed an answer to them; but who says stop wants none to what he said before, either."""

SENTENCES = ("It is served from half past six to ten.", "The garden is on the second floor, next to the pool.", "Ask me anything.")


def scene(seed: int) -> Scene:
    """Two or three utterances with pauses inside, each soon after the last: most interrupt an answer, some only begin to."""
    chance = seeded(seed)
    parts: list[tuple[float, bool]] = [(0.4, False)]
    for _ in range(chance.randint(2, 3)):
        for _ in range(chance.randint(1, 3)):
            parts += [(chance.choice([0.06, 0.15, 0.4, 0.9, 1.6]), True), (chance.uniform(0.1, 0.9), False)]
        parts.append((chance.uniform(0.0, 4.0), False))
    texts = [chance.choice(["what time is breakfast", *NOISES, "where is the pool and when is it open", STOP]) for _ in range(9)]
    replies = [" ".join(chance.choice(SENTENCES) for _ in range(chance.randint(1, 4))) for _ in range(9)]
    options: dict[str, dict[str, Any]] = {
        "asr": {"transcripts": texts, "ms_per_word": chance.choice([0, 200])},
        "llm": {"replies": [f"fail: {one}" if chance.random() < 0.05 else one for one in replies]},
        "eot": {"probabilities": [round(chance.random(), 2) for _ in range(9)]},
    }
    steps = {part: chance.uniform(0.0, most) for part, most in (("asr", 0.2), ("llm", 0.05), ("tts", 0.4), ("eot", 0.4))}
    return Scene(
        sound(*parts),
        options,
        steps,
        Hearing(whole_ms=200, window_ms=600, open_ms=1500),
        silence_after_s=chance.choice([0.5, 20.0]),
        stop_at_s=chance.choice([None, chance.uniform(0.5, 12.0)]),
    )


def problems(folder: Path, played: Played) -> list[str]:
    """What does not add up, a line each."""
    verdict = verify_books(folder)
    reader = LedgerReader(folder)
    try:
        records = [record["data"] for record in reader.records("usage")]
    finally:
        reader.close()
    found = [] if verdict.whole else [f"the chain: {verdict.problem}"]
    twice = Counter((one["turn_id"], one["stage"], one["attempt"]) for one in records)
    found += [f"{key} is on the books {times} times" for key, times in twice.items() if times > 1]
    for turn in played.turns:
        on_books = _sum([_recorded(one) for one in records if one["turn_id"] == turn.turn_id])
        if on_books != _used(turn):
            found.append(f"turn {turn.turn_id}: records say {on_books}, the turn {_used(turn)}")
    told = {turn.turn_id: turn.session_id for turn in played.turns}
    for session in set(told.values()):
        on_books = _sum([_recorded(one) for one in records if told.get(one["turn_id"]) == one["session_id"] == session])
        in_turns = _sum([_used(turn) for turn in played.turns if turn.session_id == session])
        if on_books != in_turns:
            found.append(f"session {session}: records say {on_books}, its turns {in_turns}")
    return found


def unanswered(told: Scene, played: Played) -> list[str]:
    """Whether the last who had something to say heard neither an answer nor an apology; then a line."""
    asked = [turn for turn in played.turns if turn.transcript not in NOISES]
    if not asked or asked[-1].transcript == STOP or asked[-1].speech_end_to_first_audio_ms is not None:
        return []
    return [] if told.stop_at_s is not None or played.apologies else [f"turn {asked[-1].turn_id}: nobody answered {asked[-1].transcript!r}"]


def _recorded(record: Mapping[str, Any]) -> list[int]:
    return [record.get(name, 0) for name in RECORDED]


def _used(turn: Turn) -> list[int]:
    return _sum([[getattr(stage.usage, name) or 0 for name in FIGURES] for stage in turn.stages])


def _sum(rows: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * len(FIGURES)


def campaign(seed: int, cards: Cards, more: Callable[[int], bool]) -> dict[str, Any]:
    """Plays scene after scene while `more(so far)`; `broken` names the seeds of those that do not add up."""
    runs = turns = records = 0
    ended: Counter[str] = Counter()
    broken: list[dict[str, Any]] = []
    while more(runs):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            told = scene(seed + runs)
            played = play(told, folder, cards, seed + runs)
            found = problems(folder, played) + unanswered(told, played)
            usage = [record["data"] for record in LedgerReader(folder).records("usage")]
        ended.update(one["outcome"] for one in usage)
        turns, records = turns + len(played.turns), records + len(usage)
        broken += [{"seed": seed + runs, "problems": found}] if found else []
        runs += 1
    return {"seed": seed, "runs": runs, "turns": turns, "records": records, "outcomes": dict(ended), "broken": broken}
