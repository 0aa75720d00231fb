"""Errors caused by user input. Any other exception is a fault of the program."""


class InputError(ValueError):
    """An input is wrong; the message says what was expected, what was found and what to do."""
