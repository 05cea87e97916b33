"""Pitch tracking of made voices whose pitch is known."""

import mir_eval
import numpy as np
import pytest
from made_sounds import sine

from common.errors import InputError
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.pitch import octaves_into_range, track_f0
from hum2guitar.singing import synthesize_voice

RATE = PUBLISHED.sample_rate
SEGMENT = PUBLISHED.segment_samples


def melody(*notes: float, seconds: float = 0.5) -> np.ndarray:
    """F0 for every sample: notes in Hz, 0 for a rest."""
    return np.repeat(np.asarray(notes, float), int(seconds * RATE))


def vibrato(base: float, t: np.ndarray) -> np.ndarray:
    return base * 2 ** (np.sin(2 * np.pi * 5.5 * t) / 24)


def slide(base: float, t: np.ndarray) -> np.ndarray:
    return base * 2 ** (np.interp(t % 2.5, [0, 0.5, 1.5, 2.5], [0, 0, 7, 7]) / 12)


@pytest.mark.parametrize(
    ("voice", "within", "octaves"),
    [
        ({"closed": False}, 0.97, 0.01),
        ({"closed": True}, 0.97, 0.01),
        ({"closed": True, "breath": 0.1}, 0.97, 0.01),
        ({"closed": False, "first_harmonic": 2}, 0.95, 0.02),
    ],
)
def test_pyin_follows_a_voice_within_50_cents(voice, within, octaves):
    t = np.arange(2 * SEGMENT) / RATE
    for base in (100.0, 240.0):
        f0 = np.where(t < 2.5, vibrato(base, t), slide(base, t))
        f0[(t > 4.5) & (t < 5)] = 0
        truth = f0[:: PUBLISHED.hop_length][:430]
        found = track_f0(synthesize_voice(f0, **voice))[:430]
        times = np.arange(430) * PUBLISHED.hop_length / RATE
        scores = mir_eval.melody.evaluate(times, truth, times, found)
        assert scores["Raw Pitch Accuracy"] >= within
        assert scores["Raw Chroma Accuracy"] - scores["Raw Pitch Accuracy"] < octaves
        assert scores["Voicing Recall"] >= 0.97


def test_pyin_finds_no_pitch_in_noise_or_silence():
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert (track_f0(noise) > 0).mean() < 0.05
    assert not track_f0(np.zeros(RATE, np.float32)).any()
    assert not track_f0(sine(220, level=1e-5)).any()  # -100 dB


def test_cepstrum_snaps_to_bins_and_drops_outliers_where_asked():
    voice = synthesize_voice(melody(200, 203, 206, 540, seconds=0.6), closed=False)
    found = track_f0(voice, method="cepstrum")
    voiced = found[found > 0]
    np.testing.assert_allclose(voiced / PUBLISHED.bin_hz, np.round(voiced / PUBLISHED.bin_hz), atol=1e-4)
    assert np.median(voiced) == pytest.approx(203, abs=PUBLISHED.bin_hz)
    assert (found > 500).any()
    without = track_f0(voice, method="cepstrum", remove_outliers=True)
    assert not (without > 500).any()
    assert not track_f0(np.zeros(RATE, np.float32), method="cepstrum").any()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"method": "yin"}, r"pyin, cepstrum.*'yin'"),
        ({"f0_range": (300, 200)}, "300 to 200"),
        ({"f0_range": (5, 200)}, "5 to 200"),
        ({"f0_range": (50, 20000)}, "50 to 20000"),
    ],
)
def test_a_wrong_method_or_range_is_named(arguments, text):
    with pytest.raises(InputError, match=text):
        track_f0(sine(220, 0.1), **arguments)


@pytest.mark.parametrize(
    ("f0", "semitones"),
    [
        ([100, 200, 0, 300], 0),
        ([50, 60, 70], 12),
        ([30, 40], 24),
        ([1500, 1800, 0], -12),
        ([3000, 2500], -24),
        ([0, 0], 0),
        ([], 0),
    ],
)
def test_octaves_move_a_melody_into_the_range_by_the_shortest_way(f0, semitones):
    assert octaves_into_range(np.asarray(f0, float), 82.4, 988.0) == semitones
