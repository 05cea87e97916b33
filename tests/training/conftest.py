"""A small data set that several test files of training read."""

import pytest

from training import dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory, noise_features):
    """Two targets, three pieces; the second target has another slice of one of them and lacks one."""
    pieces = {"bach": 4, "chopin_op_10": 3, "satie": 5}
    slices = {"piano": pieces, "guitar": pieces, "flute": pieces | {"satie": 6}}
    written = noise_features(tmp_path_factory.mktemp("features"), slices)
    (written / "flute" / "bach_002.npy").unlink()
    return written


@pytest.fixture(scope="module")
def pairs(folder):
    return dataset.find_pairs(folder, ["piano"], ["guitar", "flute"])
