"""Units that fail: one never ends a dataset, many in a row do, because something other than a unit must be wrong.

A failed unit is tried once more after all others, by any actor. Not here: videos that fail, which cost no unit
(``teacher``); wrong inputs, which end a run at once (``pool``).
"""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from dataclasses import dataclass

from cluster.patience import first_line
from hojoint.errors import MachineError, NoRoom, Unavailable

IN_A_ROW = 8  # failed units without a commit between them, or two for each actor
TRACE_END = 4000  # characters of a traceback that travel
OUTAGE, NO_ROOM, FAULT = "outage", "no_room", "fault"


@dataclass(frozen=True)
class UnitFailure:
    """Why an attempt at a unit gave no commit."""

    unit: str
    kind: str  # OUTAGE, NO_ROOM or FAULT
    message: str  # one line
    trace: str = ""  # of a fault

    @classmethod
    def of(cls, unit: str, error: Exception) -> UnitFailure:
        """In an actor, while ``error`` is handled."""
        if isinstance(error, Unavailable):
            return cls(unit, NO_ROOM if isinstance(error, NoRoom) else OUTAGE, str(error))
        trace = "".join(traceback.format_exception(error))[-TRACE_END:]
        return cls(unit, FAULT, f"{type(error).__name__}: {first_line(error)}", trace)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UnitFailure:
        return cls(**json.loads(text))


class Failures:
    """The failed units of one pass over a run."""

    def __init__(self, actors: int) -> None:
        self.units: dict[str, UnitFailure] = {}
        self._in_a_row, self._limit = 0, max(IN_A_ROW, 2 * actors)

    def add(self, failure: UnitFailure) -> None:
        """Note a failure; of the first fault the traceback is printed.

        Raises:
            Unavailable: a store was away for longer than the patience, or every unit fails for want of room.
            MachineError: every unit fails.
        """
        if failure.kind == OUTAGE:
            raise Unavailable(failure.message)
        if failure.kind == FAULT and not any(known.kind == FAULT for known in self.units.values()):
            print(failure.trace, file=sys.stderr, flush=True)
        print(f"note: unit {failure.unit} failed ({failure.message}); the others continue", file=sys.stderr, flush=True)
        self.units[failure.unit] = failure
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            self.end(f"{self._in_a_row} units in a row failed")

    def success(self) -> None:
        """A unit was committed."""
        self._in_a_row = 0

    def end(self, what: str) -> None:
        """Raise NoRoom where only room was missing, else MachineError; ``what`` begins the message."""
        failure = next(iter(self.units.values()))
        text = f"{what}; the first, {failure.unit}: {failure.message}. The same command tries them again"
        kinds = {failure.kind for failure in self.units.values()}
        raise NoRoom(text) if kinds == {NO_ROOM} else MachineError(text)
