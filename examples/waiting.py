import anyio

from gamegirl.actors import NoActiveGameError, SessionRef
from gamegirl.supervisor import Supervisor


async def tell_story(session: SessionRef) -> None:
    while True:
        try:
            turn = await session.next_turn()  # the oldest closed turn without a record
        except NoActiveGameError:
            return  # exit, swap and wipe end the waiting
        await session.record(turn, f"{turn.format_choices()}\nThe lights go out.")


async def main(store: str = "memory://") -> None:
    async with Supervisor(store) as supervisor, anyio.create_task_group() as tasks:
        session = supervisor.session("1234")
        await session.boot("Neon Catacombs")
        tasks.start_soon(tell_story, session)
        await session.press("42", "Ana", "Open the door")
        await session.close_window()
        async for seen in session.watch():
            if seen.turn_number == 1 and not seen.closed_turns:
                break
        print(await session.history())
        print((await session.exit()).banner())


if __name__ == "__main__":
    anyio.run(main)
