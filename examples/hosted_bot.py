import asyncio

from gamegirl.actors import ClosedTurn, Session
from gamegirl.supervisor import Supervisor


class Bot:  # (discord.Client), or whatever has a setup_hook and a close
    def __init__(self, store: str = "sqlite:///games.db") -> None:
        self.supervisor = Supervisor(store, on_turn=self.narrate)

    async def setup_hook(self) -> None:
        await self.supervisor.start()

    async def close(self) -> None:
        await self.supervisor.aclose()  # from any task; cancellation doesn't stop it

    async def narrate(self, turn: ClosedTurn, session: Session) -> str:
        return f"Turn {turn.turn}: {turn.format_choices()}"

    async def on_button(self, channel_id: str, user_id: str, name: str, choice: str) -> float:
        pressed = await self.supervisor.session(channel_id).press(user_id, name, choice)
        return pressed.remaining


async def main(store: str = "sqlite:///games.db") -> None:
    bot = Bot(store)
    await bot.setup_hook()
    try:
        await bot.supervisor.session("5678").swap("Neon Catacombs")
        print(await bot.on_button("5678", "42", "Ana", "Open the door"))
    finally:
        await bot.close()


if __name__ == "__main__":
    asyncio.run(main())
