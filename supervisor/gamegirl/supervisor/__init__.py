"""Supervisors: they spawn actors, restore them from a store, commit and restart them."""

from gamegirl.supervisor._build import is_compiled
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._events import (
    ActorCrashed,
    ActorEvent,
    ActorFailed,
    ActorLost,
    ActorReleased,
    ActorRestored,
    ClockMoved,
    CommitFailed,
    ContentQuarantined,
    EventsLost,
    EventStream,
    StoreBack,
    StoreLost,
    StoreRegressed,
    SweepFailed,
)
from gamegirl.supervisor._games import SavedGame
from gamegirl.supervisor._lifecycle import Crash
from gamegirl.supervisor._settings import Durability, Settings
from gamegirl.supervisor._supervisor import OnTurn, Statistics, Supervisor
from gamegirl.supervisor.stores import MemoryStore, RedisStore, SqliteStore, Store, open_store

__all__ = [
    "ActorCrashed",
    "ActorEvent",
    "ActorFailed",
    "ActorLost",
    "ActorReleased",
    "ActorRestored",
    "Clock",
    "ClockMoved",
    "CommitFailed",
    "ContentQuarantined",
    "Crash",
    "Durability",
    "EventStream",
    "EventsLost",
    "MemoryStore",
    "OnTurn",
    "RedisStore",
    "SavedGame",
    "Settings",
    "SqliteStore",
    "Statistics",
    "Store",
    "StoreBack",
    "StoreLost",
    "StoreRegressed",
    "Supervisor",
    "SweepFailed",
    "is_compiled",
    "open_store",
]
