"""Mel spectrogram back to audio: nearness, length and phase."""

import librosa
import numpy as np
import pytest
from made_sounds import plucks, sine

from hum2guitar import harmonics
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.mel_inverse import mel_to_audio, peak_phase

RATE = PUBLISHED.sample_rate


def decibels_between(found: np.ndarray, expected: np.ndarray) -> float:
    """Spectral convergence."""
    return 20 * np.log10(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_back_to_audio_is_near_the_sound():
    audio = plucks(110, 165, 220, 330)
    spectrum = harmonics.magnitude(audio)
    power = harmonics.mel_power(harmonics.mel_level(spectrum))
    ours = mel_to_audio(power, len(audio), n_iterations=16)
    assert len(ours) == len(audio)
    assert decibels_between(harmonics.magnitude(ours), spectrum) < -20
    again = librosa.feature.melspectrogram(  # what librosa measures in our audio is the mel power that was asked for
        y=ours, sr=RATE, n_fft=2048, hop_length=512, n_mels=512, fmin=0, fmax=10000, norm=None
    )
    assert decibels_between(np.sqrt(again) / 512, np.sqrt(power)) < -20


def test_back_to_audio_keeps_silence_length_and_arguments():
    power = np.zeros((512, 10), np.float32)
    for length in (1, 4000, 9 * 512, 10 * 512 - 1, 6000):
        audio = mel_to_audio(power, length, n_iterations=2)
        assert audio.shape == (length,)
        assert audio.dtype == np.float32
        assert not audio.any()
    power = harmonics.mel_filters() @ np.square(harmonics.magnitude(sine(440)))
    kept = power.copy()
    audio = mel_to_audio(power, RATE, n_iterations=4)
    np.testing.assert_array_equal(power, kept)
    spectrum = np.abs(np.fft.rfft(audio[4096:-4096]))
    assert spectrum.argmax() * RATE / (RATE - 8192) == pytest.approx(440, abs=3)


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
