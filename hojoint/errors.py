"""Errors of user input and of the machine. Any other exception is a fault of the program."""


class InputError(ValueError):
    """An input is wrong; the message says what was expected, what was found and what to do."""


class MachineError(RuntimeError):
    """The machine did not do its part; the message says what failed and what to do. The command line exits with 1."""
