"""Representation, mel levels and semantic harmonics, against physics and hand-computed values."""

import functools

import librosa
import numpy as np
import pytest
from made_conversions import decibels
from made_sounds import plucks, sine

import data
from common import InputError, weights
from hum2guitar import harmonics
from hum2guitar.harmonics import PUBLISHED, HumRepresentation, mel_to_audio, peak_phase

RATE = PUBLISHED.sample_rate


def test_the_representation_comes_back_from_its_settings_and_refuses_others():
    settings = HumRepresentation(mel_top_db=90.0, n_mels=256).to_dict()
    assert settings["kind"] == "hum2guitar"
    read = functools.partial(weights.read_representation, HumRepresentation, where="a.h5")
    assert read(settings) == HumRepresentation(mel_top_db=90.0, n_mels=256)
    changes = ({"hop_length": 500}, {"n_mels": 8}, {"n_mels": 513}, {"mel_ref_db": 4000.0})
    for damaged in (data.PUBLISHED.to_dict(), {"kind": "hum2guitar"}, *({**settings, **change} for change in changes)):
        with pytest.raises(InputError):
            read(damaged)


def test_magnitude_is_librosas_and_a_full_scale_sine_peaks_at_one_with_energy_one_and_a_half():
    audio = sine(100 * PUBLISHED.bin_hz, level=1.0)
    found = harmonics.magnitude(audio)
    np.testing.assert_allclose(found, np.abs(librosa.stft(audio, n_fft=2048, hop_length=512)) / 512, atol=2e-6)
    middle = found[:, 20]
    assert middle.argmax() == 100
    assert middle.max() == pytest.approx(1, abs=1e-3)
    assert harmonics.frame_energy(found)[20] == pytest.approx(1 + 2 * 0.5**2, abs=2e-3)  # Hann's main lobe: 1/2, 1, 1/2


def test_levels_are_decibels_of_a_fixed_range_and_go_back_to_their_power():
    power = np.array([0.0, 1e-5, 1e-2, 1.0, 100.0], np.float32)
    level = harmonics.to_level(power, 0.0, 100.0)
    np.testing.assert_allclose(level, [-1, 0, 0.6, 1, 1], atol=1e-4)
    back = harmonics.mel_power(level)
    assert back[0] == 0
    np.testing.assert_allclose(back[1:], np.minimum(power[1:], 1), rtol=1e-3)


def test_the_mel_level_of_a_tone_is_highest_in_its_band_and_half_an_amplitude_is_six_decibels():
    loud = harmonics.mel_level(harmonics.magnitude(sine(3000, level=0.8)))[:, 20]
    quiet = harmonics.mel_level(harmonics.magnitude(sine(3000, level=0.4)))[:, 20]
    bands = librosa.mel_frequencies(512 + 2, fmin=0, fmax=10000)[1:-1]
    assert abs(bands[loud.argmax()] - 3000) < PUBLISHED.bin_hz
    assert loud.max() - quiet.max() == pytest.approx(6.02 / 100 * 2, abs=1e-3)
    assert (harmonics.mel_level(np.zeros((1025, 3), np.float32)) == -1).all()


def test_mel_energy_is_that_of_the_magnitude():
    spectrum = harmonics.magnitude(plucks(110, 300))
    found = harmonics.mel_energy(harmonics.mel_filters() @ np.square(spectrum))
    np.testing.assert_allclose(found, harmonics.frame_energy(spectrum), rtol=0.05)


def test_bands_are_halved_without_counting_the_edge_and_doubled_by_lines():
    level = np.array([1.0, 2.0, 6.0, 4.0, 5.0, 9.0])[:, np.newaxis]
    np.testing.assert_allclose(harmonics.halve_bins(level)[:, 0], [1.5, 4.0, 6.0])
    np.testing.assert_allclose(harmonics.double_bins(np.array([[1.0], [3.0], [9.0]]))[:, 0], [1, 2, 3, 6, 9, 9])


def test_harmonics_decay_as_published_and_follow_the_energy():
    # A pitch of exactly 20 bins: the comb is 1 at bins 20, 40, ... 1020, so that only decay and energy remain there.
    f0 = np.array([20 * PUBLISHED.bin_hz, 0, 20 * PUBLISHED.bin_hz])
    found = harmonics.harmonics_magnitude(f0, np.array([0.1, 0.1, 0.3]))
    for bin_index in (20, 500, 1020):
        decay = (np.exp(-5 * bin_index / 1024) - np.exp(-5)) / (1 - np.exp(-5))
        assert found[bin_index, 0] == pytest.approx(0.1 * decay, rel=1e-4)
        assert found[bin_index, 2] == pytest.approx(0.3 * decay, rel=1e-4)
        assert found[bin_index + 1, 0] / found[bin_index, 0] == pytest.approx(
            np.exp(-2) * (np.exp(-5 * (bin_index + 1) / 1024) - np.exp(-5)) / (decay * (1 - np.exp(-5))), rel=1e-3
        )
    assert not found[:, 1].any()


def test_loudness_moves_the_harmonics_by_twice_its_decibels():
    f0, energy = np.full(3, 300.0), np.array([1e-3, 1e-2, 1e-1])
    level = harmonics.harmonics_level(f0, energy).max(axis=0)
    np.testing.assert_allclose(np.diff(level), 20 / 140 * 2, atol=1e-3)  # 10 dB of energy


def test_back_to_audio_is_near_the_sound():
    audio = plucks(110, 165, 220, 330)
    spectrum = harmonics.magnitude(audio)
    power = harmonics.mel_power(harmonics.mel_level(spectrum))
    ours = mel_to_audio(power)[: len(audio)]
    assert decibels(harmonics.magnitude(ours) - spectrum, spectrum) < -20
    again = librosa.feature.melspectrogram(  # what librosa measures in our audio is the mel power that was asked for
        y=ours, sr=RATE, n_fft=2048, hop_length=512, n_mels=512, fmin=0, fmax=10000, norm=None
    )
    assert decibels(np.sqrt(again) / 512 - np.sqrt(power), np.sqrt(power)) < -20


def test_back_to_audio_keeps_silence():
    audio = mel_to_audio(np.zeros((512, 10), np.float32), n_iterations=2)
    assert (audio.shape, audio.dtype) == ((10 * 512 - 1,), np.float32)
    assert not audio.any()


def test_peak_phase_advances_by_the_frequency_of_the_peak():
    frequency = 447.3  # between bins 41 and 42
    spectrum = harmonics.magnitude(sine(frequency))[:, 5:35]
    phase = peak_phase(spectrum)
    turned = np.diff(phase[round(frequency / PUBLISHED.bin_hz)])
    expected = 2 * np.pi * frequency * PUBLISHED.hop_length / RATE
    error = np.angle(np.exp(1j * (turned - expected)))
    assert np.abs(error).max() < 0.1  # radians
    neighbours = phase[42] - phase[41]
    assert np.abs(np.angle(np.exp(1j * (neighbours - np.pi)))).max() < 1e-5
