"""The error for everything that a user can get wrong."""

from __future__ import annotations


class InputError(ValueError):
    """An error that the user can fix: the text says what was expected, what was found and where."""
