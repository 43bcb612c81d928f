"""Decides which refused commands are worth a line of their own: a flood of forgeries becomes one line a minute and a count."""

from dataclasses import dataclass, field, replace

TOGETHER_S = 60.0
"""After the first of a code, further ones are told together, once in so long."""

LOOK_S = 10.0
"""Between two looks at what is due: nobody hears of it much later than that."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Commands that were not run, for the audit log."""

    code: str
    """`bad-signature`, `wrong-audience`, `retained`, `replayed`, `forged`, `stale`, `expired`, `unknown-op`, `busy`, `repeated` …"""
    message: str
    """Of the last of them, one line."""
    count: int = 1


@dataclass(slots=True)
class _Flood:
    """Of one code."""

    told_s: float
    more: Refusal | None = None


@dataclass(slots=True)
class Refusals:
    """Per code: the first is told at once, the rest together."""

    _floods: dict[str, _Flood] = field(default_factory=dict)

    def note(self, code: str, message: str, now_s: float) -> Refusal | None:
        """What is to be told now, if anything. `now_s`: monotonic."""
        flood = self._floods.get(code)
        if flood is None:
            self._floods[code] = _Flood(now_s)
            return Refusal(code, message)
        flood.more = Refusal(code, message, flood.more.count + 1 if flood.more else 1)
        return self._told(flood, now_s)

    def due(self, now_s: float) -> list[Refusal]:
        """What has waited long enough. Codes that have been quiet are as good as new afterwards."""
        told = [one for flood in self._floods.values() if (one := self._told(flood, now_s))]
        for code in [code for code, flood in self._floods.items() if flood.more is None and now_s - flood.told_s >= TOGETHER_S]:
            del self._floods[code]
        return told

    def rest(self) -> list[Refusal]:
        """All that was not told yet, at the end."""
        rest = [replace(flood.more) for flood in self._floods.values() if flood.more]
        self._floods.clear()
        return rest

    def _told(self, flood: _Flood, now_s: float) -> Refusal | None:
        if flood.more is None or now_s - flood.told_s < TOGETHER_S:
            return None
        told, flood.more, flood.told_s = flood.more, None, now_s
        return told
