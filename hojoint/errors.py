"""Errors of user input and of the machine. Any other exception is a fault of the program.

The command line gives each its exit code (``jobs.command``): 2 for ``InputError``, 75 for ``Unavailable``, 1 for all
others. A message travels from a node to the driver, so it names the node where that matters.
"""


class InputError(ValueError):
    """An input is wrong; the message says what was expected, what was found and what to do."""


class MachineError(RuntimeError):
    """The machine did not do its part; the message says what failed and what to do. The command line exits with 1."""


class Unavailable(RuntimeError):
    """What a run needs is away for now: a store, a cluster, room. The same command may succeed later; exit code 75."""


class NoRoom(Unavailable):
    """A disk is full; the message names the node, the path and the remedy."""
