"""The Protocols rooms meet at: engines that stream, sound, books that keep, links that carry; clocks come from `agent.clock`."""

from agent.ports.books import Appended, Draft, Entry, Ledger, OpenCall
from agent.ports.engines import Asr, Call, Counter, Embedder, Engine, EngineSettings, Eot, Llm, Tts, Vad
from agent.ports.road import BATCHES_MAX, Acked, Answer, Backlog, Link, LinkSettings, Refused, Retry
from agent.ports.sound import Ears, HeardFrame, Microphone, Sounding, Speaker

__all__ = [
    "BATCHES_MAX",
    "Acked",
    "Answer",
    "Appended",
    "Asr",
    "Backlog",
    "Call",
    "Counter",
    "Draft",
    "Ears",
    "Embedder",
    "Engine",
    "EngineSettings",
    "Entry",
    "Eot",
    "HeardFrame",
    "Ledger",
    "Link",
    "LinkSettings",
    "Llm",
    "Microphone",
    "OpenCall",
    "Refused",
    "Retry",
    "Sounding",
    "Speaker",
    "Tts",
    "Vad",
]
