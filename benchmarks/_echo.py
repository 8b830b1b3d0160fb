"""The trivial behaviour of W1, and its caller."""

from __future__ import annotations

import attrs

from gamegirl.actors import ActorRef, Answer, Behaviour
from gamegirl.codec import JsonCodec


@attrs.define
class EchoState:
    """The state of an actor that has none."""

    actor_id: str


class Echo(Behaviour[EchoState]):
    """Answers what it was asked."""

    kind = "echo"
    codec = JsonCodec(EchoState)

    def initial(self, actor_id: str) -> EchoState:
        return EchoState(actor_id)

    def handle(self, state: EchoState, message: int, now: float) -> Answer:
        return Answer(message)


def echo(message: int) -> int:
    """The same for whoever knows no state and no decisions."""
    return message


async def ask(reference: ActorRef, count: int) -> None:
    """Ask so often, one after the other."""
    for _ in range(count):
        await reference.ask(1)
