"""The settings of a representation: kept as JSON, and refused where nothing can be transformed with them."""

import dataclasses
import json

import pytest

from common.errors import InputError
from data import PUBLISHED, Representation


def test_settings_come_back_from_json():
    other = Representation(sample_rate=22050, n_fft=2048, hop_length=256, amin=1e-5)
    assert Representation.from_dict(json.loads(json.dumps(other.to_dict()))) == other


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("sample_rate", 44100.5, "sample_rate 44100.5"),
        ("sample_rate", "44100", "sample_rate '44100'"),
        ("sample_rate", float("inf"), "infinity"),
        ("amin", float("nan"), "amin nan"),
        ("amin", 0.0, "amin above 0"),
        ("hop_length", 300, "multiple of hop_length, found 1024 and 300"),
        ("hop_length", 0, "hop_length above 0"),
        ("n_bins", 514, "at most 513"),
        ("n_frames", None, "NoneType"),
    ],
)
def test_settings_that_nothing_can_be_transformed_with_are_refused(name, value, reason):
    with pytest.raises(InputError, match=r"file\.h5: damaged description") as refusal:
        Representation.from_dict({**PUBLISHED.to_dict(), name: value}, "file.h5")
    assert reason in str(refusal.value)


def test_a_missing_setting_is_named():
    settings = dataclasses.asdict(PUBLISHED)
    del settings["n_fft"]
    with pytest.raises(InputError, match="no n_fft"):
        Representation.from_dict(settings)
