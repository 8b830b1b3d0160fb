"""A timed poll, another kind of actor in the same runtime: `python examples/poll.py`."""

from typing import Any

import anyio
import attrs

from gamegirl.actors import Behaviour, Decision, InvalidInputError, Later, WakeWaiters, Woken
from gamegirl.codec import JsonCodec
from gamegirl.supervisor import Supervisor


@attrs.define
class Ballot:
    actor_id: str
    options: list[str] = attrs.field(factory=list[str])
    votes: dict[str, str] = attrs.field(factory=dict[str, str])
    closes_at: float | None = None  # epoch seconds; None: not opened yet, or closed


class Poll(Behaviour[Ballot]):
    kind = "poll"
    codec = JsonCodec(Ballot)  # what is stored of a poll: one JSON text

    def initial(self, actor_id: str) -> Ballot:
        return Ballot(actor_id)

    def wake_at(self, state: Ballot) -> float | None:
        return state.closes_at  # then comes Woken, in whichever process is alive

    def handle(self, state: Ballot, message: Any, now: float) -> Decision:
        late = state.closes_at is None or now >= state.closes_at
        match message:
            case ("open", [_, *_] as options, float(seconds)) if seconds > 0 and not state.options:
                state.options, state.closes_at = list(options), now + seconds
            case ("vote", str(voter), option) if not late and option in state.options:
                state.votes[voter] = option  # the voter's latest one counts
            case Woken() if late:
                state.closes_at = None
            case "result" if state.closes_at is not None:
                return Decision(Later(message))  # asked again at the next WakeWaiters
            case "result" if state.options:
                votes = list(state.votes.values())
                return Decision({option: votes.count(option) for option in state.options})
            case _:
                return Decision(error=InvalidInputError(f"{state.actor_id}: no {message!r} now"))
        return Decision(writes=self.stored(state), effects=[WakeWaiters()])


async def main() -> None:
    async with Supervisor("memory://", behaviours=[Poll()]) as supervisor:
        poll = supervisor.actor("poll", "where to go")
        await poll.ask(("open", ["the cave", "the tower"], 0.5))
        for voter, option in (("42", "the cave"), ("43", "the tower"), ("42", "the tower")):
            await poll.ask(("vote", voter, option))
        print(await poll.ask("result"))


if __name__ == "__main__":
    anyio.run(main)
