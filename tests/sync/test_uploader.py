"""The uploader: whatever order answers, losses and restores come in, all is acked in the end and nothing is asked for in vain."""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.contract.ack import Ack
from agent.contract.wire import INFLIGHT_MAX
from agent.ports import BATCHES_MAX
from agent.sync.steps import Fetch, Idle, Mark, Send, Step, Wait
from agent.sync.uploader import Uploader
from tests.sync.helpers import Backend, Books, batch_of, epoch_of

LINKS = ["mqtt", "https"]


class World(RuleBasedStateMachine):
    """Plays everything around the uploader; time goes only by rule."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.backend, self.books = Backend(), Books()
        self.kept: dict[str, dict[int, bytes]] = {}
        self.uploader = Uploader(LINKS)
        self.up = {"mqtt": True, "https": True}
        self.connections = {"mqtt": 1, "https": 1}
        self.under_way: list[Send | Mark] = []
        self.acks: dict[Send | Mark, Ack] = {}
        self.restores = itertools.count(2)

    @initialize(older=st.integers(0, 5), records=st.integers(0, 60))
    def begin(self, older: int, records: int) -> None:
        if older:
            self.books.add(older)
            self.books.names.append(epoch_of(2))
        self.books.add(records)
        self.drive()

    @rule(records=st.integers(1, 9))
    def append(self, records: int) -> None:
        self.books.add(records)
        self.uploader.grew()
        self.drive()

    @precondition(lambda self: self.under_way)
    @rule(
        which=st.integers(0, 20),
        fate=st.sampled_from(["good", "good", "lost", "unheard", "busy", "unknown-key", "odd"]),
        chance=st.floats(0, 0.99),
    )
    def answer(self, which: int, fate: str, chance: float) -> None:
        self.end(self.under_way[which % len(self.under_way)], fate, chance)
        self.drive()

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 20))
    def receive(self, which: int) -> None:
        """The backend has answered; the answer takes its time."""
        step = self.under_way[which % len(self.under_way)]
        self.acks[step] = self.ack_of(step)

    @rule(window=st.integers(0, 12), not_before_ms=st.sampled_from([0, 0, 700]))
    def throttle(self, window: int, not_before_ms: int) -> None:
        self.backend.window, self.backend.not_before_ms = window, not_before_ms

    @rule(seconds=st.sampled_from([0.01, 1.0, 40.0, 200.0, 3600.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.drive()

    @rule(link=st.sampled_from(LINKS))
    def lose(self, link: str) -> None:
        self.up[link] = False
        self.drive()

    @rule(link=st.sampled_from(LINKS))
    def connect(self, link: str) -> None:
        self.up[link] = True
        self.connections[link] += 1
        self.drive()

    @rule()
    def back_up(self) -> None:
        self.kept = {epoch: dict(held) for epoch, held in self.backend.held.items()}

    @rule()
    def restore(self) -> None:
        self.backend.restore(self.kept, f"b{next(self.restores)}")

    @invariant()
    def few_are_on_their_way(self) -> None:
        assert sum(isinstance(step, Mark) for step in self.under_way) <= 2
        assert sum(isinstance(step, Send) for step in self.under_way) == self.uploader.in_flight <= INFLIGHT_MAX

    def end(self, step: Send | Mark, fate: str, chance: float = 0.0) -> None:
        self.under_way.remove(step)
        if fate in ("good", "lost"):
            ack = self.acks.pop(step, None) or self.ack_of(step)
            if fate == "good":
                mark = isinstance(step, Mark) and self.uploader.goes_back(step, ack)
                before = self.books.cursor.get(step.epoch, 0)
                standing = self.books.take(ack, mark=mark)
                assert standing in ("agreed", "behind")
                assert (mark and self.backend.backend_id != "b1") or self.books.cursor.get(step.epoch, 0) >= before
                self.uploader.acked(ack, standing, self.now, chance, mark=mark)
                if isinstance(step, Send):
                    self.uploader.landed(step, self.now, chance)
                else:
                    self.uploader.marked(step, self.now, chance)
                return
        if fate in ("unknown-key", "odd"):
            self.uploader.refused(step, fate, self.now, chance)
        else:
            self.uploader.failed(step, self.now, chance, 5000 if fate == "busy" else 0)

    def ack_of(self, step: Send | Mark) -> Ack:
        return self.backend.receive(step.parcel.batch.content) if isinstance(step, Send) else self.backend.ack(step.epoch, "nonce")

    def drive(self) -> Step:
        """Does what is asked until there is nothing to do at once."""
        self.uploader.listed(self.books.epochs())
        for number, link in enumerate(LINKS):
            self.uploader.looked(number, up=self.up[link], connections=self.connections[link])
        for _ in range(200):
            step = self.uploader.next(self.now)
            if isinstance(step, Wait):
                assert step.until > self.now
                return step
            if isinstance(step, Idle):
                return step
            self.do(step)
        raise AssertionError("it never rests")

    def do(self, step: Send | Mark | Fetch) -> None:
        if isinstance(step, Fetch):
            if not step.again:
                waiting = self.uploader.waiting(self.now)  # what is put off, for it is refused, does not count
                assert self.uploader.in_flight + waiting + step.count <= min(INFLIGHT_MAX, self.uploader.window)
            new = [] if step.again else [self.books.next_batch(step.epoch) for _ in range(step.count)]
            batches = self.books.unacked(step.epoch, step.after, BATCHES_MAX) if step.again else [batch for batch in new if batch]
            self.uploader.brought(step, batches, self.now)
            return
        assert self.up[step.link]
        if isinstance(step, Send):
            assert self.uploader.in_flight < min(INFLIGHT_MAX, self.uploader.window)
            assert (step.epoch, step.parcel.batch.first) not in self.on_their_way()
            assert step.parcel.batch.last > self.books.cursor.get(step.epoch, 0)
        self.uploader.begun(step)
        self.under_way.append(step)

    def on_their_way(self) -> set[tuple[str, int]]:
        return {(step.epoch, step.parcel.batch.first) for step in self.under_way if isinstance(step, Send)}

    def teardown(self) -> None:
        """Everything becomes good: all is acked, within a day and few words."""
        self.backend.window, self.backend.not_before_ms = 8, 0
        for link in LINKS:
            self.connect(link)
        words = 0
        for _ in range(2000):
            rest = self.drive()
            if self.under_way:
                words += 1
                self.end(self.under_way[0], "good")
            elif isinstance(rest, Wait):
                self.now = rest.until
            else:
                break
        assert isinstance(rest, Idle)
        for name in self.books.names:
            assert self.books.left(name) == 0
            assert self.backend.cum(name) == self.books.last.get(name, 0)
        assert words <= 400


World.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestWorld = World.TestCase


def test_a_mark_that_was_overtaken_by_an_ack_is_asked_again_and_moves_nothing_back() -> None:
    backend, books, uploader = Backend(), Books(), Uploader(["mqtt"])
    books.add(2)
    uploader.listed(books.epochs())
    uploader.looked(0, up=True, connections=1)
    mark = uploader.next(0.0)
    assert isinstance(mark, Mark)
    uploader.begun(mark)
    stale = backend.ack(mark.epoch, "nonce")
    newer = backend.receive(batch_of(mark.epoch, 1, 2).content)
    uploader.acked(newer, "agreed", 0.0, 0.0, mark=False)
    assert not uploader.goes_back(mark, stale)
    uploader.acked(stale, "behind", 0.0, 0.0, mark=False)
    uploader.marked(mark, 0.0, 0.0)
    again = uploader.next(0.0)
    assert isinstance(again, Mark)
    assert uploader.goes_back(again, stale)
