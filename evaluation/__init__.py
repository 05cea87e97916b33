"""How close converted recordings are to their targets."""
