"""Augmentation against the same effects on audio, and against what acoustics says."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import signal

import data
from training import augmentation
from training.augmentation import Effects

PUBLISHED = data.PUBLISHED
RATE, HOP = PUBLISHED.sample_rate, PUBLISHED.hop_length
N_SAMPLES = HOP * (PUBLISHED.n_frames - 1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def magnitude_of(audio):
    return data.forward_transform(audio.astype(np.float32))[0]


def augmented(audio, effects, seed=0):
    """The magnitude that `effects` make of the slice of `audio`."""
    level = data.amplitude_to_db(magnitude_of(audio))
    return data.db_to_amplitude(augmentation.augment(level, np.random.default_rng(seed), PUBLISHED, effects))


def white_noise(rng, rms=0.1):
    return rms * rng.standard_normal(N_SAMPLES)


def sine(hz):
    return 0.1 * np.sin(2 * np.pi * hz * np.arange(N_SAMPLES) / RATE)


def power_db(magnitude, axis=None):
    return 10 * np.log10(np.maximum((magnitude.astype(np.float64) ** 2).mean(axis), 1e-20))


def analog_butterworth(audio, order, hz, kind):
    """The audio behind an analog filter, which is not warped towards half the sample rate as a digital one is."""
    n = 2 * len(audio)
    coefficients = signal.butter(order, 2 * np.pi * hz, kind, analog=True)
    response = signal.freqs(*coefficients, 2 * np.pi * np.fft.rfftfreq(n, 1 / RATE))[1]
    return np.fft.irfft(np.fft.rfft(audio, n) * response, n)[: len(audio)]


def bin_of(hz):
    return round(hz / PUBLISHED.bin_hz)


# --- level, equaliser, band limits ------------------------------------------------------------------------------------


def test_six_decibels_at_1_khz_are_what_a_filter_of_that_response_does_to_the_audio(rng):
    audio = white_noise(rng, 0.05)
    wet = augmented(audio, Effects(equaliser_db=(0, 0, 0, 6, 6, 0, 0)))  # the bands at 693 and 1566 Hz
    points = np.linspace(0, RATE / 2, 4097)
    ratio = (8000 / 60) ** (1 / 6)
    corners = [1, 60 * ratio**2, 60 * ratio**3, 60 * ratio**4, 60 * ratio**5, RATE]
    gains_db = np.interp(np.log(np.maximum(points, 1)), np.log(corners), [0, 0, 6, 6, 0, 0])
    taps = signal.firwin2(4097, points, 10 ** (gains_db / 20), fs=RATE)
    filtered = power_db(magnitude_of(signal.fftconvolve(audio, taps, "same")), 1)
    np.testing.assert_allclose(power_db(wet, 1)[2:], filtered[2:], atol=0.3)


def test_band_limits_are_what_butterworth_filters_do_to_the_audio(rng):
    audio = white_noise(rng)
    wet = power_db(augmented(audio, Effects(band_limits_hz=(350, 3400))), 1)
    audio = analog_butterworth(analog_butterworth(audio, 4, 350, "highpass"), 4, 3400, "lowpass")
    filtered = power_db(magnitude_of(audio), 1)
    passed = slice(bin_of(250), None)  # below, the window spreads what lies above over several bins
    np.testing.assert_allclose(wet[passed], filtered[passed], atol=1)
    assert np.abs(wet[passed] - filtered[passed]).mean() < 0.1


# --- room -------------------------------------------------------------------------------------------------------------


def impulse_response(rt60, wet_db, damping_hz, rng):
    """White noise with an exponential decay of 60 dB in RT60, its expected energy `wet_db`, low-passed."""
    seconds = np.arange(round(1.5 * rt60 * RATE)) / RATE
    decay = 10 ** (-3 * seconds / rt60)
    decay *= 10 ** (wet_db / 20) / np.sqrt((decay**2).sum())
    return analog_butterworth(decay * rng.standard_normal(len(seconds)), 2, damping_hz, "lowpass")


@pytest.mark.parametrize("room", [(0.3, -10, 2000), (1.0, -16, 5000)])
def test_a_room_is_what_convolving_with_decaying_noise_does_to_the_audio(rng, room):
    audio = white_noise(rng)
    audio[round(0.8 * RATE) :] = 0
    ours = np.mean([augmented(audio, Effects(room=room), seed) ** 2 for seed in range(8)], 0)
    tails = [signal.fftconvolve(audio, impulse_response(*room, rng))[: len(audio)] for _ in range(8)]
    truth = np.mean([magnitude_of(audio + tail) ** 2 for tail in tails], 0)
    for low, high in [(0, room[2] / 2), (room[2] / 2, room[2]), (room[2], 8000)]:
        band = slice(bin_of(low) + 1, bin_of(high))
        # Energy that is still to come (Schroeder, 1965), of the dry sound and its tail.
        remaining = [np.cumsum(power[band].sum(0)[::-1])[::-1] for power in (ours, truth)]
        curves = 10 * np.log10(np.maximum(remaining, 1e-20))
        heard = curves[1] > curves[1][0] - 60
        assert heard.sum() > 0.8 * RATE / HOP + 8  # well into the tail
        np.testing.assert_allclose(curves[0][heard], curves[1][heard], atol=1.5)


def test_the_expected_power_of_a_held_tone_in_a_room_is_the_sum_of_both():
    magnitude = np.full((PUBLISHED.n_bins, PUBLISHED.n_frames), 0.1, np.float32)
    turned = np.full(PUBLISHED.n_bins, 1j)  # at a right angle to the dry sound, so that powers add up
    wet = augmentation.reverberate(magnitude, (0.3, -8, 5000), PUBLISHED, turned)
    low, cut_off = power_db(wet[0, -1:]), power_db(wet[bin_of(5000), -1:])
    assert low == pytest.approx(-20 + 10 * math.log10(1 + 10**-0.8), abs=0.01)
    assert cut_off == pytest.approx(-20 + 10 * math.log10(1 + 10**-0.8 / 2), abs=0.01)  # 3 dB down


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level_db", [-50, -80])
def test_a_white_noise_floor_has_the_power_of_white_noise_in_the_audio(rng, level_db):
    truth = magnitude_of(white_noise(rng, 10 ** (level_db / 20)))
    ours = augmented(np.zeros(N_SAMPLES), Effects(noise_db=(level_db, 0)))
    assert power_db(ours) == pytest.approx(power_db(truth), abs=0.3)
    assert ours.mean() / np.sqrt((ours**2).mean()) == pytest.approx(math.sqrt(math.pi) / 2, abs=0.01)  # Rayleigh's
    for axis in (0, 1):  # neighbours are as alike as the window and the hop make them
        pairs = [np.moveaxis(magnitude, axis, 0) for magnitude in (ours, truth)]
        likeness = [np.corrcoef(m[1:].ravel(), m[:-1].ravel())[0, 1] for m in pairs]
        assert likeness[0] == pytest.approx(likeness[1], abs=0.02)


def test_pink_noise_falls_by_3_db_per_octave_and_has_the_power_of_white_noise():
    white, pink = (
        np.mean([augmented(np.zeros(N_SAMPLES), Effects(noise_db=(-55, slope)), i) ** 2 for i in range(4)], 0)
        for slope in (0, -3)
    )
    octaves = 10 * np.log10([pink[first : 2 * first].mean() for first in (8, 16, 32, 64)])
    np.testing.assert_allclose(np.diff(octaves), -3, atol=0.5)
    assert 10 * math.log10(pink.mean() / white.mean()) == pytest.approx(0, abs=0.4)


# --- detuning ---------------------------------------------------------------------------------------------------------


def spectral_centre(magnitude, hz):
    """The centre of gravity of the peak at `hz`, in Hz."""
    bins = np.arange(bin_of(hz) - 4, bin_of(hz) + 5)
    spectrum = magnitude[bins, 20:-20].mean(1)
    return (bins * spectrum).sum() / spectrum.sum() * PUBLISHED.bin_hz


@pytest.mark.parametrize(("hz", "cents"), [(1000, 20), (3000, -20), (5250, 30)])
def test_detuning_moves_a_tone_by_as_many_cents(hz, cents):
    wet = augmented(sine(hz), Effects(detuning_cents=cents))
    truth = magnitude_of(sine(hz * 2 ** (cents / 1200)))
    moved = 1200 * math.log2(spectral_centre(wet, hz) / spectral_centre(magnitude_of(sine(hz)), hz))
    assert moved == pytest.approx(cents, abs=2)
    assert power_db(wet) == pytest.approx(power_db(truth), abs=1)


# --- a slice ----------------------------------------------------------------------------------------------------------


def test_silence_stays_silence_until_noise_is_added(rng):
    silence = np.zeros((PUBLISHED.n_bins, PUBLISHED.n_frames), np.float32)
    everything = Effects(20, (1, -8, 5000), (10.0,) * 7, (100, 5000), -3)
    assert not augmentation.augment(silence, rng, PUBLISHED, everything).any()
    assert augmentation.augment(silence, rng, PUBLISHED, dataclasses.replace(everything, noise_db=(-70, 0))).all()


def test_samples_are_drawn_independently_with_the_probabilities_of_the_table():
    drawn = [augmentation.draw(np.random.default_rng([7, 2, 1, n])) for n in range(2000)]
    for effect, probability in zip(dataclasses.fields(Effects), augmentation.PROBABILITIES.values(), strict=True):
        count = sum(getattr(effects, effect.name) != effect.default for effects in drawn)
        deviation = math.sqrt(len(drawn) * probability * (1 - probability))
        assert abs(count - len(drawn) * probability) <= 4 * deviation, effect.name
