import trio

from gamegirl.actors import ClosedTurn, Session
from gamegirl.supervisor import Supervisor


async def narrate(turn: ClosedTurn, session: Session) -> str:
    return f"{session.game_name}, turn {turn.turn}.\n{turn.format_choices()}"  # ask your model here


async def main(store: str = "sqlite:///games.db") -> None:
    async with Supervisor(store, on_turn=narrate) as supervisor:
        session = supervisor.session("1234")  # the channel's id; nothing is read or claimed yet
        if not (await session.state()).active:
            print((await session.boot("Neon Catacombs")).banner())
        pressed = await session.press("42", "Ana", "Open the door")
        print(f"Turn {pressed.turn} closes in {pressed.remaining:.1f} s")
        await session.press("43", "Ben", "Run")
        await session.close_window()  # everybody has chosen; else it closes by itself
        async for seen in session.watch():
            if seen.turn_number >= pressed.turn and not seen.closed_turns:
                break
        print((await session.history(1))[0].narrative_summary)


if __name__ == "__main__":
    trio.run(main)
