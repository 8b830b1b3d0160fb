"""All scenarios, by name."""

from __future__ import annotations

from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos.scenarios import (
    _cancel,
    _corrupt,
    _drain,
    _flood,
    _games,
    _kill9,
    _lostreply,
    _oldbot,
    _oom_readonly,
    _outage,
    _rediskill,
    _rollback,
    _soak,
    _splitbrain,
    _supervise,
)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        _kill9.KILL9,
        _splitbrain.SPLITBRAIN,
        _lostreply.LOSTREPLY,
        _outage.OUTAGE,
        _rediskill.REDISKILL,
        _rollback.ROLLBACK,
        _corrupt.CORRUPT,
        _flood.FLOOD,
        _cancel.CANCEL,
        _drain.DRAIN,
        _supervise.SUPERVISE,
        _oom_readonly.OOM_READONLY,
        _games.GAMES,
        _oldbot.OLDBOT,
        _soak.SOAK,
    )
}
