"""Settings, transform, log scale and slices, against librosa and hand-computed values."""

import librosa
import numpy as np
import pytest

import data
from common import InputError, weights
from data import PUBLISHED, Representation
from hum2guitar.harmonics import HumRepresentation


def test_settings_that_nothing_can_be_transformed_with_are_refused():
    for name, values in {
        "sample_rate": (44100.5, "44100", float("inf"), 10**9), "amin": (float("nan"), 0.0), "hop_length": (300, 0, 1),
        "n_bins": (514,), "n_frames": (None, 2**20), "n_fft": (2**17,), "window": ("kaiser",),
    }.items():  # fmt: skip
        for value in values:
            with pytest.raises(InputError):
                weights.read_representation(Representation, {**PUBLISHED.to_dict(), name: value}, "a.json")


@pytest.mark.parametrize("representation", [PUBLISHED, HumRepresentation()])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_transform_is_librosas_and_has_an_inverse(representation, kind):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 20_001).astype(np.float32)
    n_fft, hop = representation.n_fft, representation.hop_length
    window = np.hanning(n_fft) if representation is PUBLISHED else np.hanning(n_fft + 1)[:-1]
    expected = librosa.stft(audio.astype(kind), n_fft=n_fft, hop_length=hop, window=window)
    found = data.stft(audio.astype(kind), representation)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, expected, atol=1e-5 if kind is np.float64 else 1e-4)
    np.testing.assert_allclose(data.istft(found, len(audio), representation), audio, atol=1e-5)
    whole = data.stft(audio, representation, center=False)
    np.testing.assert_allclose(whole, found[:, n_fft // hop // 2 :][:, : whole.shape[1]], atol=1e-4)


def test_a_full_scale_sine_has_magnitude_one_and_comes_back():
    audio = np.sin(2 * np.pi * 20 * np.arange(44100) / 1024).astype(np.float32)
    magnitude, phase = data.forward_transform(audio)
    assert magnitude.shape == (256, 87)
    assert magnitude[:, 40].argmax() == 20
    assert magnitude[20, 40] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(np.abs(phase), 1, atol=1e-6)
    inside = slice(1024, -1024)  # the sine's sudden start and end need the bins that are left out
    np.testing.assert_allclose(data.inverse_transform(magnitude, phase, len(audio))[inside], audio[inside], atol=1e-3)
    assert data.inverse_transform(magnitude, phase).shape == (86 * 512,)


@pytest.mark.parametrize(("values", "offset"), [((0, 4, 2), 1 / 6), ((2, 4, 0), -1 / 6), ((1, 2, 2), 0.5),
                                                ((1, 2, 3), 0), ((3, 1, 3), 0), ((2, 2, 2), 0)])  # fmt: skip
def test_a_peak_stands_at_the_vertex_of_the_parabola(values, offset):
    # A parabola a x^2 + b x + c through -1, 0, 1 has a = (left + right) / 2 - middle and b = (right - left) / 2.
    assert data.peak_offset(*np.array(values, float)[:, np.newaxis]) == pytest.approx(offset)


def test_the_log_scale_is_the_published_one_and_has_an_inverse():
    magnitude = np.array([0, 2.0**-16, 3 * 2.0**-16, 1])
    level = data.amplitude_to_db(magnitude)
    np.testing.assert_allclose(level, np.array([0, np.log(2), np.log(4), np.log(65537)]) / np.log(65537), rtol=1e-6)
    np.testing.assert_allclose(data.db_to_amplitude(level), magnitude, rtol=1e-5)
    np.testing.assert_array_equal(data.to_network(np.array([0, 0.25, 1])), [-1, -0.5, 1])
    np.testing.assert_array_equal(data.from_network(np.array([-1, -0.5, 1])), [0, 0.25, 1])


def test_slices_are_padded_with_silence_and_joined_again():
    level = np.arange(14.0).reshape(2, 7)
    slices = data.slice_frames(level, 4)
    assert slices.shape == (2, 2, 4, 1)
    np.testing.assert_array_equal(slices[1, :, :, 0], [[4, 5, 6, 0], [11, 12, 13, 0]])
    np.testing.assert_array_equal(data.join_slices(slices, 7), level)
    assert data.join_slices(slices).shape == (2, 8)


def test_the_phase_of_subnormal_numbers_is_finite():
    """A reverb in floating point ends in them; their reciprocal may be infinite."""
    spectrum = np.array([1e-45, 1e-40 + 1e-41j, 3e-39j, 1e-38, 2e-38j, -1e-30, 0], np.complex64)
    with np.errstate(all="raise", under="ignore"):
        phase = data.unit(spectrum)
    np.testing.assert_allclose(np.abs(phase), 1, rtol=1e-6)
    np.testing.assert_allclose(phase[4:], [1j, -1, 1], rtol=1e-6)
