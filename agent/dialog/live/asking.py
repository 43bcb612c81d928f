"""Asks the language model in a lull whether the customer has said all: where nobody vouches for the words, it knows best.

A question costs no tokens on the books, see the port WordsEnd. It reads what a reply to the same words would be made from, so that what
the model has computed of the conversation stays of use.
"""

from collections.abc import Iterable

from agent.dialog.exchange.calls import Calls
from agent.dialog.exchange.plan import Plan, Verbatim
from agent.dialog.exchange.robot import Robot
from agent.dialog.live.load import NO_VERDICTS
from agent.dialog.session import Session
from agent.errors import EngineFailed
from agent.ports import EndOfWords, Listener


def may_ask(plan: Plan, level: int, calls: Iterable[Calls]) -> bool:
    """Whether the model is free: nothing is thought about for this answer, no reply is being made, the machine keeps up."""
    return isinstance(plan, Verbatim) and level < NO_VERDICTS and not any(one.thinking for one in calls)


async def ask_ends(robot: Robot, session: Session, words: str, listener: Listener, until_ms: int) -> None:
    """Gives the listener the probability that nothing follows these words, of the utterance's first `until_ms`; or nothing, from a model
    that is gone or has begun a reply meanwhile."""
    if robot.ends is None:
        return
    call = robot.ends.open()
    try:
        await call.send(EndOfWords(robot.manner.asked(session.history, words)[0]))
        await call.finish()
        async for probability in call:
            listener.hint(unfinished=False, ends=probability, until_ms=until_ms)
    except EngineFailed:
        pass  # whoever asks it for a reply will say so
    finally:
        await call.cancel()
