"""The second system, hum2guitar: a guitar plays the pitch of any sound."""
