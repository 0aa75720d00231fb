"""Errors that are the user's to mend. Anything else that is raised is a fault of ours."""


class InputError(ValueError):
    """Something given from outside is wrong; the message says what was wanted, what was found and what to do."""
