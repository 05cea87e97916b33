"""The second system: the pitch of any sound to a guitar."""
