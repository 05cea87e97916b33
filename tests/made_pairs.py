"""Samples of a data set in words, for tests."""


def samples_of(pairs, rows):
    """Rows of samples as (name, target) words."""
    return [(str(pairs.names[name]), pairs.targets[target]) for name, target, _ in rows]
