"""A recording and trained weights to a new recording."""
