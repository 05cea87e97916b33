"""The error for everything that a user can get wrong."""

from __future__ import annotations


class InputError(ValueError):
    """An error that the user can fix: the text says what was expected, what was found and where, in one line."""

    def __init__(self, text: object = "") -> None:
        super().__init__(one_line(str(text)))  # names in a stranger's file may hold anything


def one_line(text: str) -> str:
    """`text` in one line and without control characters, which a terminal would obey: names of files may hold any."""
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else repr(c)[1:-1] for c in " ".join(text.split()))
