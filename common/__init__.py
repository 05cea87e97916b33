"""What all other folders use. `InputError` is imported from here."""

from common.errors import InputError as InputError
