"""Decides when a customer begins, pauses and has finished, from probabilities that come with the sound: pure, frame in, events out.

    silent --loud--> onset --loud for long enough--> speaking --lull_ms of quiet--> lull
      ^                |                                ^                            | |
      +- FalseStart ---+                                +--- loud again: Resumed ----+ |
      +------------------------------- quiet for the window: Ended --------------------+

Theory of operation. In `onset` loud frames fill a bucket and others empty it: full is `Began`, empty `FalseStart`, so that a
plosive inside a word does not undo it and a click does not make it. While the robot speaks loud may be louder and the bucket larger; what
is surely speech fills it faster, and it empties slowly, for the robot's own voice hides the softer half of a word.

A lull is short, for others begin their work in it: the recogniser, the end-of-turn model, the answer. So `Lull` comes early and is
cheap to take back: what follows it is held back, and given after `Resumed` if the customer goes on. How long the quiet must last
for `Ended` depends on what is known by then: `window_ms` while nobody has spoken, `whole_ms` after the model's word that this was a
complete sentence, more the less likely that is, up to `open_ms`. Words know better than sound: where they can't be all, `open_ms`
stands whatever the model says, where somebody vouches for them, `known_ms`, and where the language model is sure enough that a message
ends after them, `whole_ms`. Knowledge that comes after its own window has passed ends the turn at once. A click in a lull does not begin
the count anew.

An utterance that is too long ends where it is. What follows without a pause begins nothing until the answer sounds, or it is clear that
none will: else whoever goes on and on would take each answer back before it could be heard.

Push to talk is the same machine, deaf unless the key is held, and never sure of an end before it is let go.
"""

from collections import deque
from typing import Literal

from agent.ports.sound import Began, Chunk, Ended, FalseStart, Lull, Onset, Resumed, SpeechEvent
from agent.profile import Hearing
from agent.values import FRAME_MS, AudioChunk

PARTIAL_MS = 480
"""How often a partial transcript is asked for while somebody speaks; each costs the recognition of all so far, and drafts the next."""

ONSET_MS_MAX = 1_000
"""A noise that has not become speech by now is none, however it flickers; the robot must not stay lowered for it."""

FALL_DB, FADE_DB = 35.0, 0.1
"""A frame so far below the loudest of late is silence, whatever the detector says, which notices an end 60 ms after it; the end of a
word is not as soft. The loudest is forgotten by 3 dB a second. In a noisy hall nothing falls so far, and the detector decides alone."""

SURE_ABOVE, SURE_FRAMES = 0.9, 4 / 3
"""While the robot speaks, a frame from that probability on counts as so many: words that begin with a hiss are noticed late, and the vowel
after it is beyond doubt."""

HIDDEN_FRAMES = 0.5
"""While the robot speaks, a frame that is not loud takes back so many."""

ANSWER_MS = 3_000
"""An answer that has not begun to sound by then is none."""

RESUME_FRAMES = 2
"""Loud frames in a row that end a lull: one alone is a click."""

Why = Literal["whole", "window", "open"]


class Endpointer:
    """One microphone's turns, one after the other."""

    def __init__(self, hearing: Hearing) -> None:
        self.robot_speaks = False
        self._hearing = hearing
        self._before: deque[AudioChunk] = deque(maxlen=hearing.before_ms // FRAME_MS)
        self._held: list[AudioChunk] = []  # since the onset, or since the lull
        self._pressed = False
        self._state: Literal["silent", "onset", "speaking", "lull"] = "silent"
        self._speech_db = -100.0
        self._loud = 0.0  # frames
        self._quiet = 0
        self._given = 0  # chunks of this utterance
        self._asked = 0  # of them, when a partial transcript was last asked for
        self._verdict: float | None = None
        self._unfinished = self._complete = False
        self._ends: float | None = None
        self._passing = 0  # frames of sound that begins nothing: the last utterance was too long, and is about to be answered

    @property
    def speaking(self) -> bool:
        """Between Began and Ended."""
        return self._state in ("speaking", "lull")

    @property
    def stirring(self) -> bool:
        """Between Onset and FalseStart, or Ended."""
        return self._state != "silent"

    @property
    def given_ms(self) -> int:
        """Sound of this utterance given so far."""
        return self._given * FRAME_MS

    def step(self, pcm: bytes, probability: float, at: float = 0.0, level_db: float = 0.0) -> list[SpeechEvent]:
        """What the next frame changes; `at` is when its last sample was captured, `level_db` its level where somebody measures it."""
        fallen = level_db < self._speech_db - FALL_DB
        self._speech_db = max(level_db, self._speech_db - FADE_DB)
        probability = 0.0 if fallen and self.speaking else probability
        if self._hearing.push_to_talk and not self._pressed:
            self._before.append(AudioChunk(pcm))
            return []
        match self._state:
            case "silent":
                return self._while_silent(pcm, probability, at)
            case "onset":
                return self._while_onset(pcm, probability)
            case "speaking":
                return self._while_speaking(pcm, probability)
            case "lull":
                return self._while_lull(pcm, probability)

    def verdict(self, probability: float) -> list[SpeechEvent]:
        """The end-of-turn model's word on the sound up to the last Lull. Outside of a lull it comes too late."""
        if self._state != "lull":
            return []
        self._verdict = probability
        return self._end_of_window()

    def hint(
        self, *, unfinished: bool, complete: bool = False, ends: float | None = None, until_ms: int | None = None
    ) -> list[SpeechEvent]:
        """Whether the words so far end in the middle of a sentence, or somebody vouches that they are all, as for a question whose
        answer is known; `ends` is the probability that they are, from a model of language. Of a transcript that covers less than was
        given, nothing follows."""
        if self._state != "lull" or (until_ms is not None and until_ms < self.given_ms):
            return []
        self._unfinished, self._complete, self._ends = unfinished, complete, ends
        return self._end_of_window()

    def press(self, at: float = 0.0) -> list[SpeechEvent]:
        """The key of push to talk goes down. What the robot says meanwhile is lowered at once."""
        if not self._hearing.push_to_talk or self._pressed:
            return []
        self._pressed = True
        return self._onset(at)

    def release(self) -> list[SpeechEvent]:
        """The key is let go: what was said is all."""
        if not self._pressed:
            return []
        self._pressed = False
        return self._stop("released")

    def finish(self) -> list[SpeechEvent]:
        """No more sound follows."""
        self._pressed = False
        return self._stop("stream")

    def _stop(self, why: Literal["released", "stream"]) -> list[SpeechEvent]:
        if self.speaking:
            return self._ended(why)
        return self._false_start() if self._state == "onset" else []

    def _while_silent(self, pcm: bytes, probability: float, at: float) -> list[SpeechEvent]:
        self._quiet = self._quiet + 1 if probability < self._hearing.silence_below else 0
        answered = self.robot_speaks or self._quiet * FRAME_MS >= self._hearing.window_ms
        self._passing = 0 if answered else max(0, self._passing - 1)
        if probability < self._loud_above or self._passing:
            self._before.append(AudioChunk(pcm))
            return []
        return [*self._onset(at - FRAME_MS / 1000), *self._while_onset(pcm, probability)]

    def _onset(self, at: float) -> list[SpeechEvent]:
        self._state, self._loud, self._held = "onset", 0, []
        return [Onset(at)]

    def _while_onset(self, pcm: bytes, probability: float) -> list[SpeechEvent]:
        self._held.append(AudioChunk(pcm))
        more, less = (SURE_FRAMES if probability >= SURE_ABOVE else 1, HIDDEN_FRAMES) if self._interrupts else (1, 1)
        self._loud += more if probability >= self._loud_above else -less
        undecided = len(self._held) * FRAME_MS >= max(ONSET_MS_MAX, 2 * self._enough_ms)
        if self._loud * FRAME_MS >= self._enough_ms or (undecided and self._pressed):
            return self._began()
        if self._loud <= 0 and self._pressed:  # a key held in silence keeps no more sound than silence does
            self._before.extend(self._held)
            self._loud, self._held = 0, []
            return []
        return self._false_start() if self._loud <= 0 or undecided else []

    def _false_start(self) -> list[SpeechEvent]:
        self._before.extend(self._held)
        self._state, self._held = "silent", []
        return [FalseStart()]

    def _began(self) -> list[SpeechEvent]:
        chunks = (*self._before, *self._held)
        self._before.clear()
        self._state, self._held, self._quiet = "speaking", [], 0
        self._given, self._asked = len(chunks), len(chunks)
        return [Began(chunks)]

    def _while_speaking(self, pcm: bytes, probability: float) -> list[SpeechEvent]:
        self._quiet = self._quiet + 1 if probability < self._hearing.silence_below else 0
        if self._quiet * FRAME_MS >= self._hearing.lull_ms:
            self._state, self._loud, self._held = "lull", 0, []
            self._verdict, self._unfinished, self._complete, self._ends = None, False, False, None
            self._given += 1
            self._asked = self._given
            return [Lull(AudioChunk(pcm, partial=True)), *self._end_of_speech()]
        return [*self._give([AudioChunk(pcm)]), *self._end_of_speech()]

    def _while_lull(self, pcm: bytes, probability: float) -> list[SpeechEvent]:
        self._quiet += 1
        paused = self._quiet * FRAME_MS >= self._hearing.pause_ms > (self._quiet - 1) * FRAME_MS
        self._held.append(AudioChunk(pcm, pause=paused))
        self._loud = self._loud + 1 if probability >= self._hearing.speech_above else 0
        if self._loud < RESUME_FRAMES:
            return self._end_of_window() or self._end_of_speech()
        held, self._held = self._held, []
        self._state, self._quiet = "speaking", 0
        return [Resumed(), *self._give(held), *self._end_of_speech()]

    def _give(self, chunks: list[AudioChunk]) -> list[SpeechEvent]:
        """The chunks; the last asks for a partial transcript when it is time, unless a lull may be about to ask for one."""
        self._given += len(chunks)
        if self._quiet == 0 and (self._given - self._asked) * FRAME_MS >= PARTIAL_MS:
            self._asked = self._given
            chunks = [*chunks[:-1], AudioChunk(chunks[-1].pcm, chunks[-1].pause, partial=True)]
        return [Chunk(chunk) for chunk in chunks]

    def _end_of_speech(self) -> list[SpeechEvent]:
        too_long = (self._given + len(self._held)) * FRAME_MS >= self._hearing.utterance_ms_max
        return self._ended("long") if too_long else []

    def _end_of_window(self) -> list[SpeechEvent]:
        """The end, if the quiet has lasted long enough for what is known. Not while it is just getting loud, nor while a key is held."""
        wait_ms, why = self._window()
        over = self._quiet * FRAME_MS >= wait_ms and self._loud == 0 and not self._pressed
        return self._ended(why) if over else []

    def _window(self) -> tuple[int, Why]:
        hearing = self._hearing
        if self._unfinished:
            return hearing.open_ms, "open"
        if self._complete:
            return hearing.known_ms, "whole"
        if self._ends is not None and self._ends >= hearing.ends_above:
            return hearing.whole_ms, "whole"
        if self._verdict is None:
            return hearing.window_ms, "window"
        if self._verdict >= hearing.whole_above:
            return hearing.whole_ms, "whole"
        missing = 1 - self._verdict / hearing.whole_above
        return round(hearing.window_ms + (hearing.open_ms - hearing.window_ms) * missing), "open"

    def _ended(self, why: Literal["whole", "window", "open", "long", "released", "stream"]) -> list[SpeechEvent]:
        self._before.extend(self._held)  # it was not given, and may be how the next one begins
        quiet_ms, self._passing = self._quiet * FRAME_MS, ANSWER_MS // FRAME_MS if why == "long" else 0
        self._state, self._held, self._quiet = "silent", [], 0
        return [Ended(why, quiet_ms)]

    @property
    def _interrupts(self) -> bool:
        """Whoever speaks now."""
        return self.robot_speaks and not self._hearing.push_to_talk

    @property
    def _loud_above(self) -> float:
        return self._hearing.barge_in_above if self._interrupts else self._hearing.speech_above

    @property
    def _enough_ms(self) -> int:
        return self._hearing.barge_in_ms if self._interrupts else self._hearing.speech_ms_min
