"""Decides what is to be published for one sending, and how it stands: one op, some robots, one answer of each.

    due --next--> with the broker --result--> final
     ^  \\--(away, no clock)--> held            ^
     |                           |             |
     +---- it is back, we are back, its nonce is another ----

A robot knows a command again and answers it from its book, so an order is published again, with the same id and number, whenever it
may have been lost: the robot has another connection than it was published for, or we have. An answer that is final stays. Nothing is
published after the commands' end.

A robot whose clock can't be trusted takes a command only with the nonce of its present connection. It is signed anew for each, with the
same id and number, until the robot says (`cmd/sync`) that it has taken that number: then the same bytes go again, for the book knows
nothing else. While such a robot is away the order is held. One that came too late for its connection is written off in the robot's
book; it is ordered anew, with another id and number.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agent.contract import wire
from agent.contract.fleet import command
from agent.contract.fleet.command import FINAL, Command, Result
from agent.contract.fleet.presence import Birth, Sync
from agent.contract.signing import SigningKey
from agent.desk.news import News
from agent.desk.roster import Robot, Roster
from agent.errors import BadInput
from agent.link.mqtt.message import FAILURE, LOST, Verdict

STALE = "stale"
"""Code of an answer: the nonce was another connection's."""

ANEW_MAX = 5
"""How often what came too late for a connection is ordered anew: a link that is as poor as that is no link for commands."""

Renew = Callable[[], tuple[int, str]]
"""Another number and id."""


class Parcel(NamedTuple):
    """A command as it is published."""

    device: str
    topic: str
    content: bytes
    valid_s: int
    """What remains; the broker throws it away after that."""
    response: str


class Progress(NamedTuple):
    """How many robots."""

    asked: int
    succeeded: int
    failed: int
    """Finally anything but succeeded, and what could not be published."""
    under_way: int
    """Accepted or running."""
    offline: int
    """Not connected, and not answered."""

    @property
    def answered(self) -> int:
        return self.succeeded + self.failed


@dataclass(slots=True)
class Order:
    """A command and one robot that is to do it."""

    device: str
    command: Command
    result: Result | None = None
    """The last one told."""
    refused: str = ""
    """Why the broker doesn't take it."""
    connection: str = ""
    """The robot's, that it was published for, by its nonce."""
    bound: bytes = field(default=b"", repr=False)
    """As it was signed last, if that was for a connection: the robot's book knows it by these bytes."""
    nonces: set[str] = field(default_factory=set)
    """That it was signed for, under its present id."""
    anew: int = 0
    """How often it was ordered anew."""
    reached: bool = False
    """The broker had somebody to give it to, or to keep it for."""

    @property
    def final(self) -> bool:
        return bool(self.refused) or (self.result is not None and self.result.state in FINAL)

    @property
    def succeeded(self) -> bool:
        return self.result is not None and self.result.state == "succeeded"


class What(NamedTuple):
    """What all orders of a sending have in common."""

    op: str
    args: Mapping[str, Any]
    iat: int
    exp: int

    def command(self, aud: str, seq: int, cmd_id: str) -> Command:
        return Command(cmd_id=cmd_id, aud=aud, seq=seq, op=self.op, args=dict(self.args), iat=self.iat, exp=self.exp)


def orders(what: What, tenant: str, devices: Sequence[str], *, numbers: range, ids: Iterable[str]) -> list[Order]:
    """A command for each robot; as many numbers."""
    numbered = zip(devices, numbers, ids, strict=True)
    return [Order(device, what.command(command.audience_of(tenant, device), seq, cmd_id)) for device, seq, cmd_id in numbered]


def group_orders(what: What, tenant: str, group: str, devices: Sequence[str], *, number: int, cmd_id: str) -> list[Order]:
    """One command for all of a group."""
    one = what.command(command.audience_of_group(tenant, group), number, cmd_id)
    return [Order(device, one) for device in devices]


class Sending:
    """One sending, from its orders to their answers."""

    def __init__(self, tenant: str, ordered: Sequence[Order], key: SigningKey, roster: Roster, renew: Renew) -> None:
        """`renew` raises BadInput where no number is to be had; then what came too late stays so."""
        self._tenant, self._key, self._roster, self._renew = tenant, key, roster, renew
        self._orders = {order.device: order for order in ordered}
        self._due = deque(self._orders)
        self._queued = set(self._orders)
        self._open = set(self._orders)

    @property
    def done(self) -> bool:
        return not self._open

    @property
    def idle(self) -> bool:
        """Nothing is to be published at present."""
        return not self._due

    @property
    def cmd_ids(self) -> list[str]:
        return list(dict.fromkeys(order.command.cmd_id for order in self._orders.values()))

    @property
    def orders(self) -> Sequence[Order]:
        return list(self._orders.values())

    def next(self, now_s: int) -> Parcel | None:
        """The next to be published at that time (seconds since 1970, this desk's), if any."""
        while self._due:
            device = self._due.popleft()
            self._queued.discard(device)
            if device in self._open and (parcel := self._parcel(self._orders[device], now_s)):
                return parcel
        return None

    def given(self, device: str, verdict: Verdict) -> None:
        """What the broker said to a parcel. What was lost with our connection is due again by `reconnected`."""
        order = self._orders[device]
        order.reached = order.reached or verdict.taken
        if verdict.code >= FAILURE and verdict.code != LOST:
            order.refused = verdict.name
            self._open.discard(device)

    def heard(self, news: News) -> Order | None:
        """The order that has another answer than before; None for whatever else robots say."""
        order = self._orders.get(news.device) if news.tenant == self._tenant else None
        if order is None or order.final:
            return None
        if isinstance(news.told, Result):
            return self._answered(order, news.told)
        is_back = isinstance(news.told, Sync) or (isinstance(news.told, Birth) and not order.bound)
        if is_back and order.connection != self._roster.robot(news.device).nonce:
            self._again(news.device)
        return None

    def reconnected(self) -> None:
        """Our connection is another one: answers may have been lost with the old."""
        for device in list(self._open):
            self._again(device)

    def progress(self) -> Progress:
        orders = self._orders.values()
        succeeded, final = sum(order.succeeded for order in orders), len(orders) - len(self._open)
        unanswered = [self._orders[device] for device in self._open]
        under_way = sum(order.result is not None for order in unanswered)
        offline = sum(not self._roster.robot(order.device).present for order in unanswered)
        return Progress(len(orders), succeeded, final - succeeded, under_way, offline)

    def outcome(self, order: Order) -> dict[str, Any]:
        """As JSON: a result; of what was not answered the same fields, in a state of the desk's own: `offline`, `sent`, `refused`."""
        if order.result:
            return order.result.model_dump()
        if order.refused:
            state, message = "refused", f"the broker refuses it: {order.refused}"
        elif not self._roster.robot(order.device).present:
            state, message = "offline", "no answer: the robot is not connected"
        else:
            state, message = "sent", "no answer yet"
        about = {"cmd_id": order.command.cmd_id, "device": command.audience_of(self._tenant, order.device)}
        asked = {"op": order.command.op, "seq": order.command.seq}
        return about | asked | {"state": state, "code": "", "message": message, "result": {}}

    def _parcel(self, order: Order, now_s: int) -> Parcel | None:
        robot = self._roster.robot(order.device)
        left_s = order.command.exp - now_s
        if left_s <= 0 or (robot.clockless and not robot.present):
            return None
        order.connection = robot.nonce
        cmd_id = order.command.cmd_id
        answer_at = wire.topic(self._tenant, order.device, f"{wire.RESULT}/{cmd_id}")
        topic = wire.topic(self._tenant, order.device, f"{wire.REQUEST}/{cmd_id}")
        return Parcel(order.device, topic, self._signed(order, robot), left_s, answer_at)

    def _signed(self, order: Order, robot: Robot) -> bytes:
        if order.bound and robot.taken(self._key.key_id) >= order.command.seq:
            return order.bound
        nonce = robot.nonce if robot.clockless else ""
        content = command.signed(order.command.model_copy(update={"session_nonce": nonce}), self._key)
        order.nonces.add(nonce)
        order.bound = content if nonce else b""
        return content

    def _answered(self, order: Order, result: Result) -> Order | None:
        if result.cmd_id != order.command.cmd_id:
            return None
        overtaken = result.code == STALE and order.nonces != {self._roster.robot(order.device).nonce}
        if overtaken and self._ordered_anew(order):
            self._again(order.device)
            return None
        order.result = result
        if order.final:
            self._open.discard(order.device)
        return order

    def _ordered_anew(self, order: Order) -> bool:
        if order.anew >= ANEW_MAX:
            return False
        try:
            seq, cmd_id = self._renew()
        except BadInput:
            return False
        order.command = order.command.model_copy(update={"seq": seq, "cmd_id": cmd_id})
        order.bound, order.nonces, order.anew = b"", set(), order.anew + 1
        return True

    def _again(self, device: str) -> None:
        if device not in self._queued:
            self._queued.add(device)
            self._due.append(device)
