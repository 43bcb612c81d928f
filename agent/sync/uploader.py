"""Decides what to do next so that every record is acknowledged: a state machine without clock, network or disk.

Whoever drives it tells what there is (`listed`, `looked`, `grew`, `brought`) and what came of what was begun (`acked` and `landed`,
`failed`, `refused`, `put_off`), with the time in seconds and, where a pause follows, a chance in [0, 1). `next` answers:

    Mark   ask what the backend holds of an epoch: at first, on every new connection and other link, where an ack says less than
           we know, where the backend has become another one, and where all is sent but not all is linked
    Fetch  bring batches: those that left and are not acknowledged (after each mark), or the next that never left
    Send   a batch: oldest epoch first, within the window of the last ack
    Wait   until a time that lies ahead, or until something happens
    Idle   nothing is unacknowledged and nothing asked

    epoch: listed --mark--> known --fetch again, then new ones--> sending --all acknowledged--> rests
             ^                                                       |
             +----- new connection, behind, another backend ---------+        ahead, different, fork --> differed: forgotten

New batches are made only as the window opens, and only while the backend answers: what has left in a batch can't be folded any more on a
full disk. A record that comes while nothing is on its way leaves at once; while something is, records gather until it has landed,
so that few batches carry many. After a failure one batch at a time is tried until one gets through.
"""

import math
from collections.abc import Iterator, Sequence

from agent.contract.ack import Ack, Standing
from agent.contract.batch import Batch
from agent.contract.wire import INFLIGHT_MAX
from agent.sync.progress import Parcel, Progress
from agent.sync.route import REFUSED_FIRST_MS, REFUSED_MOST_MS, SILENCE_MS_MAX, Route, pause_s
from agent.sync.steps import Fetch, Idle, Mark, Send, Step, Wait

GATHER_MS_MAX = 1_000
"""Records wait no longer for company, even if what is on its way takes long."""

CLOSED_MS = 5_000
"""A window of no batches is looked at again after this, if the backend names no time."""

STUCK_FIRST_MS, STUCK_MOST_MS = 1_000, 30 * 60_000
"""Ceilings of the pause before the mark is asked again of an epoch where all is sent and something is missing."""

RECHECK_S = 3_600.0
"""Each hour, a little spread, the mark is asked for without need: an idle robot must notice a backend that was restored."""

TOO_BIG = "too-big"

WHO_WE_ARE = frozenset({"unknown-key", "unknown-device", "unauthorized", "forbidden", "revoked"})
"""Refusals of the robot, not of what it sent."""


class Uploader:
    """The state. All times are seconds of one clock that never goes back."""

    def __init__(self, links: Sequence[str], patience_ms: int = SILENCE_MS_MAX) -> None:
        """`links`: their names, in the order of preference; at least one."""
        self.route = Route(links, patience_ms)
        self.window = 1
        """Batches the backend wants at once; one until it has said so."""
        self.backend_id = ""
        self.server_time = ""
        self._epochs: dict[str, Progress] = {}
        self._differed: set[str] = set()
        self._flying: list[Parcel] = []
        self._asking: Mark | None = None
        self._trying: Mark | None = None
        self._connection: tuple[str, int] | None = None
        self._opens_at = 0.0
        self._recheck_at = math.inf

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def waiting(self, now: float = math.inf) -> int:
        """Batches that are to be sent, as far as they are fetched, and not put off beyond a time."""
        return sum(parcel.not_before <= now for epoch in self._epochs.values() for parcel in epoch.waiting)

    def knows(self, epoch: str) -> bool:
        """Whether an epoch is one to send, or was."""
        return epoch in self._epochs

    def listed(self, epochs: Sequence[str]) -> None:
        """What may have something to send, oldest first, the present one last. Others rest, in case the backend loses them."""
        resting = {name: known for name, known in self._epochs.items() if name not in epochs}
        for known in resting.values():
            known.listed = False
        sending = {name: self._epochs.get(name) or Progress(name) for name in epochs if name not in self._differed}
        for known in sending.values():
            if not known.listed:
                known.listed, known.dry = True, False
        self._epochs = resting | sending

    def looked(self, number: int, *, up: bool, connections: int) -> None:
        """What a link, by its place in the order, says of itself."""
        self.route.looked(number, up=up, connections=connections)

    def grew(self) -> None:
        """Something has been appended to the present epoch."""
        for epoch in list(self._epochs.values())[-1:]:
            epoch.dry = False

    def brought(self, fetch: Fetch, batches: Sequence[Batch], now: float) -> None:
        if epoch := self._epochs.get(fetch.epoch):
            epoch.brought(batches, now, again=fetch.again, asked=fetch.count)

    def begun(self, step: Send | Mark) -> None:
        """What `next` asked for is on its way."""
        self.route.begun(step.link, step.at)
        if isinstance(step, Mark):
            if step.trial:
                self._trying = step
                self.route.tries()
            else:
                self._asking = step
            return
        self._flying.append(step.parcel)
        epoch = self._epochs[step.epoch]
        epoch.waiting.remove(step.parcel)
        epoch.flying.append(step.parcel)

    def goes_back(self, mark: Mark, ack: Ack) -> bool:
        """Whether an answer to a mark may move the cursor back: not if an ack has moved it on meanwhile."""
        epoch = self._epochs.get(mark.epoch)
        return epoch is not None and (epoch.acked == mark.acked or ack.cum_ack >= epoch.acked)

    def acked(self, ack: Ack, standing: Standing, now: float, chance: float, *, mark: bool) -> None:
        """An ack has been taken that agrees, or is behind. `mark`: it was allowed to move the cursor back."""
        epoch = self._epochs.get(ack.epoch)
        if epoch is None:
            return
        newer, older = epoch.compared(ack)
        if standing == "agreed" or mark:
            epoch.learn(ack, mark=mark)
        elif newer or ack.backend_id != self.backend_id:
            epoch.mark_due = True
        if mark:
            epoch.mark_due, epoch.again, epoch.after, epoch.dry = False, True, ack.cum_ack, False
            epoch.marks_missed = 0
            epoch.stuck_at = now + pause_s(epoch.stuck_marks, chance, STUCK_FIRST_MS, STUCK_MOST_MS)
        if mark or not older:
            self._told(ack, now, chance)

    def landed(self, step: Send, now: float, chance: float) -> None:
        """The ack that answers a batch has been dealt with. If the backend has not all of it, it is sent again."""
        self.route.succeeded(step.link)
        if self._land(step):
            step.parcel.not_before = now + pause_s(step.parcel.failures, chance)

    def marked(self, step: Mark, now: float, chance: float) -> None:
        """The ack that answers a mark has been dealt with."""
        self._ended(step)
        if step.trial:
            self.route.tried(True, now, chance)
            self._notice_connection(known=step.epoch)
        else:
            self.route.succeeded(step.link)

    def failed(self, step: Send | Mark, now: float, chance: float, after_ms: int = 0) -> None:
        """No answer, or one that asks for patience."""
        if after_ms:
            self.route.patience(now, after_ms + chance * after_ms / 4)
        else:
            self.route.failed(step.link, step.at, now, chance)
        self.put_off(step, now, chance)

    def refused(self, step: Send | Mark, code: str, now: float, chance: float, after_ms: int = 0) -> None:
        """The backend took nothing. Nothing is dropped: it is asked again, much later."""
        if code in WHO_WE_ARE:
            self.route.refused(step.link, step.at, now, chance)
            self.put_off(step, now, chance, after_ms)
        else:
            if code == TOO_BIG:  # perhaps only for what is between here and the backend
                self.route.failed(step.link, step.at, now, chance)
            else:
                self.route.succeeded(step.link)
            pause_ms = 1000 * pause_s(self._failures_of(step) + 1, 0.5 + chance / 2, REFUSED_FIRST_MS, REFUSED_MOST_MS)
            self.put_off(step, now, chance, max(after_ms, int(pause_ms)))

    def put_off(self, step: Send | Mark, now: float, chance: float, after_ms: int = 0) -> None:
        """It came to nothing and is tried again later, `after_ms` at the earliest."""
        if isinstance(step, Send):
            if self._land(step):
                step.parcel.not_before = now + after_ms / 1000 + pause_s(step.parcel.failures, chance)
            return
        self._ended(step)
        if step.trial:
            self.route.tried(False, now, chance)
        elif epoch := self._epochs.get(step.epoch):
            epoch.marks_missed += 1
            epoch.mark_at = now + after_ms / 1000 + pause_s(epoch.marks_missed, chance)

    def differed(self, epoch: str) -> None:
        """The backend has something else in its place: nothing more is sent of it."""
        self._epochs.pop(epoch, None)
        self._differed.add(epoch)

    def hurry(self, patience_ms: int) -> None:
        """Somebody waits, or no longer: what was put off by our own rules is tried now, with so much patience for each link."""
        self.route.hurry(patience_ms)
        for epoch in self._epochs.values():
            epoch.mark_at, epoch.marks_missed = 0.0, 0
            for parcel in epoch.waiting:
                parcel.not_before = 0.0

    def next(self, now: float, chance: float = 0.5) -> Step:
        """What to do now. Asked again after each step, it goes on until it answers Wait or Idle."""
        working = any(epoch.working for epoch in self._epochs.values())
        changes_at = self.route.silence(working, now, chance)
        self._notice_connection()
        self._notice_hour(now, chance)
        if self._trying is None and self._epochs and (first := self.route.to_try(now)):
            present = list(self._epochs)[-1]
            return Mark(first.name, present, now, self._epochs[present].acked, trial=True)
        if not working:
            return Idle()
        if not self.route.way.up:
            return Wait(changes_at)
        if (opens := self.route.open_at()) > now:
            return Wait(min(opens, changes_at))
        times = [changes_at]
        for step in self._steps(now):
            if not isinstance(step, Wait):
                return step
            times.append(step.until)
        return Wait(min(times))

    def _steps(self, now: float) -> Iterator[Step]:
        """What could be done, best first, and when the rest could."""
        if self.window == 0 and self._asking is None:
            present = self._epochs[list(self._epochs)[-1]]
            yield self._mark(present, now) if now >= self._opens_at else Wait(self._opens_at)
        for epoch in self._epochs.values():
            yield from self._of(epoch, now)

    def _of(self, epoch: Progress, now: float) -> Iterator[Step]:
        if epoch.mark_due or epoch.stuck:
            due = epoch.mark_at if epoch.mark_due else max(epoch.mark_at, epoch.stuck_at)
            if self._asking is None:
                yield self._mark(epoch, now) if now >= due else Wait(due)
            return
        open_ = min(1 if self.route.way.failures else INFLIGHT_MAX, self.window)
        if self.in_flight < open_:
            for parcel in epoch.waiting:
                yield Send(self.route.way.name, parcel, now) if now >= parcel.not_before else Wait(parcel.not_before)
        if epoch.again and not epoch.waiting:
            yield Fetch(epoch.epoch, again=True, after=epoch.after)
        elif epoch.listed and not epoch.dry and (free := self._free(epoch, open_, now)) > 0:
            gathered = epoch.fetched_at + GATHER_MS_MAX / 1000
            ready = epoch.full or not epoch.flying or now >= gathered
            yield Fetch(epoch.epoch, again=False, count=free if epoch.full else 1) if ready else Wait(gathered)

    def _free(self, epoch: Progress, open_: int, now: float) -> int:
        """New batches an epoch may have made. What another epoch has put off, for it is refused, keeps nobody waiting."""
        others = sum(parcel.not_before <= now for other in self._epochs.values() if other is not epoch for parcel in other.waiting)
        return open_ - self.in_flight - len(epoch.waiting) - others

    def _mark(self, epoch: Progress, now: float) -> Mark:
        return Mark(self.route.way.name, epoch.epoch, now, epoch.acked)

    def _notice_connection(self, known: str = "") -> None:
        """Another link or a new connection: what the backend holds is asked anew, of one epoch it may be known."""
        way = self.route.way
        if way.up and (way.name, way.connections) != self._connection:
            self._connection = (way.name, way.connections)
            for epoch in self._epochs.values():
                epoch.mark_due = epoch.mark_due or (epoch.listed and epoch.epoch != known)

    def _notice_hour(self, now: float, chance: float) -> None:
        if now >= self._recheck_at:
            for epoch in self._epochs.values():
                epoch.mark_due = epoch.mark_due or epoch.listed
        if now >= self._recheck_at or self._recheck_at == math.inf:
            self._recheck_at = now + RECHECK_S * (0.75 + chance / 2)

    def _told(self, ack: Ack, now: float, chance: float) -> None:
        """What every new ack says besides its cursor."""
        if self.backend_id and ack.backend_id != self.backend_id:
            for name, epoch in self._epochs.items():
                epoch.mark_due = epoch.mark_due or name != ack.epoch
        self.backend_id, self.server_time, self.window = ack.backend_id, ack.server_time, ack.window_batches
        self._opens_at = now + (CLOSED_MS * (1 + chance)) / 1000
        if ack.not_before_ms:
            self.route.patience(now, ack.not_before_ms * (1 + chance / 4))

    def _land(self, step: Send) -> bool:
        self._flying.remove(step.parcel)
        epoch = self._epochs.get(step.epoch)
        return epoch is not None and epoch.landed(step.parcel)

    def _failures_of(self, step: Send | Mark) -> int:
        return step.parcel.failures if isinstance(step, Send) else 0

    def _ended(self, step: Mark) -> None:
        if step.trial:
            self._trying = None
        else:
            self._asking = None
