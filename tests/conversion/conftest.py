"""Models that the tests of this folder share."""

import pytest
from made_conversions import write_discriminator


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_generator):
    """A folder of models: for a pair and for any target with descriptions, a published one without, a discriminator."""
    folder = tmp_path_factory.mktemp("models")
    described = {"origin": "keyboard_acoustic", "epoch": 7, "validation_mae": 0.0456}
    for name in ("keyboard_2_guitar", "keyboard_2_any", "published"):
        (folder / name).mkdir()
    write_generator(folder / "keyboard_2_guitar/generator.h5", targets=["guitar_acoustic"], **described)
    write_generator(folder / "keyboard_2_any/generator.h5", 2, targets=["guitar_acoustic", "string"], **described)
    write_generator(folder / "published/generator.h5")
    write_discriminator(folder / "keyboard_2_guitar/discriminator.h5")
    return folder


@pytest.fixture
def pair(models):
    return str(models / "keyboard_2_guitar/generator.h5")


@pytest.fixture
def anything(models):
    return str(models / "keyboard_2_any/generator.h5")
