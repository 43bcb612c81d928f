"""Whatever the order batches come in, each record is linked once, and what contradicts is never held."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.billing.ingest.decide import Books, Hole, Placed, Range, Rec, Segment, advance, place, unknown
from agent.contract.canonical import link
from tests.billing.helpers import EPOCH

START = unknown(EPOCH).head


def chain(count: int, story: bytes = b"", after: bytes = START, first: int = 1) -> list[Rec]:
    found, head = [], after
    for sequence in range(first, first + count):
        head = link(head, story + b"%d" % sequence)
        found.append(Rec(sequence, head))
    return found


CHAIN = chain(40)
HASHES = [START, *(one.hash for one in CHAIN)]


def segment(first: int, last: int) -> Segment:
    return Segment(HASHES[first - 1], CHAIN[first - 1 : last])


def hole(first: int, last: int, kind: str = "gap", *, known: bool = True) -> Hole:
    return Hole(first, last, HASHES[first - 1], HASHES[last] if known else b"", "rollup" if kind == "rollup" else "gap")


class Model:
    """The books of one epoch, kept by the pure part alone."""

    def __init__(self) -> None:
        self.books = unknown(EPOCH)
        self.held: dict[int, bytes] = {}
        self.linked: list[int] = []
        self.forked: list[int] = []
        self.holes: list[Hole] = []

    def take(self, *batch: Segment) -> Placed:
        first, last = batch[0].records[0].sequence, batch[-1].records[-1].sequence
        known = {place: hash_ for place, hash_ in self.held.items() if first - 1 <= place <= last}
        placed = place(self.books, batch, known, [one for one in self.holes if one.first <= last and one.last >= first])
        self.held |= dict([*placed.stored, *placed.late])
        self.linked += [one.sequence for one in placed.late]
        self.forked += [one.sequence for one in placed.forked]
        self.books = placed.books
        self.advance()
        return placed

    def declare(self, one: Hole) -> None:
        self.holes.append(one)
        self.advance()

    def advance(self) -> None:
        done = advance(self.books, self.holes)
        self.books = done.books
        self.linked += [place for part in done.linked for place in range(part.first, part.last + 1)]
        for part in done.forked:
            for sequence in range(part.first, part.last + 1):
                del self.held[sequence]
                self.forked.append(sequence)


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[tuple[int, int, str]], list[object]]:
    """Stretches of the chain, each sent or lost in one of the ways there are; and in which order things arrive, some twice."""
    cuts = sorted(draw(st.sets(st.integers(1, 39), max_size=10)) | {0, 40})
    kinds = st.sampled_from(["sent", "sent", "gap", "unknown", "rollup"])
    parts = [(low + 1, high, draw(kinds)) for low, high in pairwise(cuts)]
    parts[-1] = (*parts[-1][:2], "sent")
    events: list[object] = []
    for first, last, kind in parts:
        events.append(segment(first, last) if kind == "sent" else hole(first, last, kind, known=kind != "unknown"))
    again = draw(st.lists(st.sampled_from(events), max_size=4))
    return parts, draw(st.permutations([*events, *again]))


@settings(max_examples=400)
@given(lives())
def test_any_order_links_each_record_once_and_ends_at_the_last(life: tuple[list[tuple[int, int, str]], list[object]]) -> None:
    parts, events = life
    model = Model()
    for event in events:
        if isinstance(event, Segment):
            model.take(event)
        elif isinstance(event, Hole):
            model.declare(event)
        assert model.books.cum in (0, *model.held)
        assert model.books.head == HASHES[model.books.cum]
        assert all(before.last < after.first for before, after in pairwise(model.books.ranges))
    sent = [place for first, last, kind in parts if kind == "sent" for place in range(first, last + 1)]
    assert sorted(model.linked) == sent
    assert (model.books.cum, model.books.ranges, model.forked) == (40, (), [])


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12)), min_size=1, max_size=15))
def test_batches_may_overlap_as_they_like(cuts: list[tuple[int, int]]) -> None:
    model = Model()
    for first, more in [*cuts, (1, 39)]:
        model.take(segment(first, min(first + more, 40)))
    assert sorted(model.linked) == list(range(1, 41))
    assert model.forked == []


@settings(max_examples=300)
@given(st.integers(1, 30), st.lists(st.tuples(st.booleans(), st.integers(0, 7)), min_size=1, max_size=16))
def test_of_two_stories_one_place_holds_only_one_and_what_is_linked_is_one_story(common: int, order: list[tuple[bool, int]]) -> None:
    """A cloned card: both robots share what was before, and each goes on."""
    other = [*CHAIN[:common], *chain(40 - common, b"clone", HASHES[common], common + 1)]
    stories = {False: CHAIN, True: other}
    model = Model()
    for cloned, part in order:
        records = stories[cloned][part * 5 : part * 5 + 5]
        before = stories[cloned][part * 5 - 1].hash if part else START
        model.take(Segment(before, records))
        linked = {place: model.held[place] for place in model.linked}
        assert linked.items() <= dict(CHAIN).items() or linked.items() <= dict(other).items()
        assert len(model.linked) == len(set(model.linked))


def test_a_duplicate_is_nothing_and_another_hash_is_a_fork() -> None:
    books, held = Books(5, HASHES[5]), dict(CHAIN[:5])
    assert place(books, [segment(3, 5)], held) == Placed(books, duplicates=3)
    other = Segment(HASHES[2], chain(3, b"x", HASHES[2], 3))
    assert [one.sequence for one in place(books, [other], held).forked] == [3, 4, 5]


def test_what_hangs_on_another_story_is_a_fork_where_it_meets_the_chain() -> None:
    model = Model()
    model.take(Segment(b"?" * 32, chain(3, b"x", b"?" * 32, 6)))
    assert model.books.ranges[0][:2] == (6, 8)
    model.take(segment(1, 5))
    assert (model.books.cum, model.forked) == (5, [6, 7, 8])


def test_a_hole_is_crossed_only_onto_a_record_that_is_held() -> None:
    model = Model()
    model.take(segment(1, 5))
    model.declare(hole(6, 10))
    assert model.books.cum == 5
    model.take(segment(11, 12))
    assert (model.books.cum, model.linked[-1]) == (12, 12)


def test_where_nobody_knows_the_hash_after_a_gap_the_next_word_is_taken_and_flagged() -> None:
    books = Books(5, HASHES[5], (Range(11, 12, HASHES[10], HASHES[12]),))
    assert [way.proven for way in advance(books, [hole(6, 10)]).crossed] == [True]
    assert [way.proven for way in advance(books, [hole(6, 10, known=False)]).crossed] == [False]
    assert advance(books, [hole(6, 9)]).crossed == []


def test_a_hole_that_does_not_follow_is_strange_and_crossed_by_nobody() -> None:
    books = Books(5, b"!" * 32, (Range(11, 12, HASHES[10], HASHES[12]),))
    done = advance(books, [hole(6, 10)])
    assert (done.books.cum, done.strange) == (5, [hole(6, 10)])


def test_what_comes_after_all_counts_if_it_was_declared_lost_and_not_if_it_was_folded() -> None:
    for kind, late, forked in (("gap", [6, 7], []), ("rollup", [], [6, 7])):
        model = Model()
        model.take(segment(1, 5), segment(11, 12))
        model.declare(hole(6, 10, kind))
        placed = model.take(segment(6, 7))
        assert [one.sequence for one in placed.late] == late
        assert [one.sequence for one in placed.forked] == forked
        assert model.books.cum == 12


def test_a_range_inside_a_gap_is_kept_and_inside_a_roll_up_it_contradicts() -> None:
    for kind, linked in (("gap", [8, 12]), ("rollup", [12])):
        books = Books(5, HASHES[5], (Range(8, 8, HASHES[7], HASHES[8]), Range(12, 12, HASHES[11], HASHES[12])))
        done = advance(books, [hole(6, 11, kind)])
        assert [part.first for part in done.linked] == linked
        assert done.books.cum == 12


def test_what_was_folded_contradicts_also_before_the_hole_is_crossed() -> None:
    model = Model()
    model.take(segment(1, 5))
    model.declare(hole(6, 10, "rollup"))
    assert [one.sequence for one in model.take(segment(6, 7)).forked] == [6, 7]
    assert model.books.cum == 5


def test_what_comes_after_all_must_follow_from_what_is_held_before_it() -> None:
    model = Model()
    model.take(segment(1, 5), segment(11, 12))
    model.declare(hole(6, 10))
    other = Segment(b"?" * 32, chain(2, b"x", b"?" * 32, 6))
    assert [one.sequence for one in model.take(other).forked] == [6, 7]
