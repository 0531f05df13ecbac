"""The one error a user can mend: what, the numbers, and the cure, in a line."""


class UserError(Exception):
    """Something the user can mend. Its text is one line: what went wrong, the numbers, the cure.

    The command line prints it on stderr without a traceback and exits with 1. Every package raises it
    (it lives here because imports point one way and `boards` is at the bottom).
    """
