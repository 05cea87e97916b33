"""What a user can get wrong."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user can put right: the text says what was expected, what was found and where."""
