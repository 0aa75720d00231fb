"""What is found when a data set is checked: counts, and faults with a sentence and a remedy each.

A fault is fatal where a run on these data would stop later or would learn from wrong labels; any other is worth a note.
Not here: how sets are checked (``audit``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hojoint.errors import InputError

SHOWN = 8  # faults in one message


@dataclass(frozen=True)
class Fault:
    """One kind of fault in one place."""

    kind: str  # one word for programs, such as 'image_missing'
    where: str  # a sequence, an object or a file
    count: int  # frames or files that have it
    sentence: str  # what was expected and what was found, with numbers
    remedy: str  # what to do
    fatal: bool = True

    @property
    def text(self) -> str:
        """Sentence and remedy in one line."""
        return f"{self.sentence}; {self.remedy}" if self.remedy else self.sentence


@dataclass(frozen=True)
class Audit:
    """The result of checking one set."""

    name: str  # of the set and its folder
    counts: dict[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    @property
    def fatal(self) -> tuple[Fault, ...]:
        """The faults with which no run should start."""
        return tuple(fault for fault in self.faults if fault.fatal)

    @property
    def notes(self) -> tuple[Fault, ...]:
        """The other faults."""
        return tuple(fault for fault in self.faults if not fault.fatal)

    def refuse(self) -> None:
        """Raise one InputError that lists the fatal faults, if there are any."""
        fatal = self.fatal
        if len(fatal) == 1:
            raise InputError(fatal[0].text)
        if fatal:
            lines = [f"\n  {fault.text}" for fault in fatal[:SHOWN]]
            more = f"\n  and {len(fatal) - SHOWN} more" if len(fatal) > SHOWN else ""
            raise InputError(f"{self.name} has {len(fatal)} faults:{''.join(lines)}{more}")
