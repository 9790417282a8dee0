"""Errors that a user can mend."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    The command prints the line without a traceback and exits with code 2.
    """

    def __str__(self) -> str:
        """One line, even where a file name in it has several."""
        return " ".join(super().__str__().splitlines())
