"""Pitch, semantic harmonics, mel levels and the way back to audio, against physics and hand-computed values."""

import librosa
import mir_eval
import numpy as np
import pytest
from made_sounds import synthesize_voice

import data
from common.errors import InputError
from hum2guitar import harmonics
from hum2guitar.harmonics import PUBLISHED, HumRepresentation
from hum2guitar.mel_inverse import mel_to_audio, mel_to_audio_published, peak_phase
from hum2guitar.pitch import analyse, octaves_into_range, track_f0

RATE = PUBLISHED.sample_rate
SEGMENT = PUBLISHED.segment_samples


def tone(frequency: float, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def melody(*notes: float, seconds: float = 0.5) -> np.ndarray:
    """F0 for every sample: notes in Hz, 0 for a rest."""
    return np.repeat(np.asarray(notes, float), int(seconds * RATE))


def plucks(*notes: float, seconds: float = 0.5) -> np.ndarray:
    """Decaying notes with the harmonics of a string."""
    t = np.arange(int(seconds * RATE)) / RATE
    return np.concatenate(
        [0.1 * sum(np.exp(-(3 + i) * t) / i * np.sin(2 * np.pi * i * f * t) for i in range(1, 20)) for f in notes]
    ).astype(np.float32)


def decibels_between(found: np.ndarray, expected: np.ndarray) -> float:
    """Spectral convergence."""
    return 20 * np.log10(np.linalg.norm(found - expected) / np.linalg.norm(expected))


# --- representation ---------------------------------------------------------------------------------------------------


def test_the_representation_comes_back_from_its_settings_and_refuses_others():
    settings = HumRepresentation(mel_top_db=90.0, n_mels=256).to_dict()
    assert settings["kind"] == "hum2guitar"
    assert HumRepresentation.from_dict(settings) == HumRepresentation(mel_top_db=90.0, n_mels=256)
    with pytest.raises(InputError, match=r"file\.h5.*hum2guitar.*log_magnitude"):
        HumRepresentation.from_dict(data.PUBLISHED.to_dict(), "file.h5")
    with pytest.raises(InputError, match=r"file\.h5.*damaged"):
        HumRepresentation.from_dict({"kind": "hum2guitar"}, "file.h5")
    with pytest.raises(InputError, match=r"file\.h5.*damaged.*2048 and 500"):
        HumRepresentation.from_dict({**settings, "hop_length": 500}, "file.h5")


def test_a_segment_of_five_seconds_is_216_frames():
    assert harmonics.magnitude(np.zeros(5 * RATE, np.float32)).shape == (1025, 216)
    assert harmonics.magnitude(np.zeros(SEGMENT, np.float32)).shape == (1025, 216)
    assert harmonics.magnitude(np.zeros(SEGMENT - 1, np.float32)).shape == (1025, 215)


def test_magnitude_is_librosas_and_a_full_scale_sine_peaks_at_one_with_energy_one_and_a_half():
    audio = tone(100 * PUBLISHED.bin_hz, level=1.0)
    found = harmonics.magnitude(audio)
    np.testing.assert_allclose(found, np.abs(librosa.stft(audio, n_fft=2048, hop_length=512)) / 512, atol=2e-6)
    middle = found[:, 20]
    assert middle.argmax() == 100
    assert middle.max() == pytest.approx(1, abs=1e-3)
    assert harmonics.frame_energy(found)[20] == pytest.approx(1 + 2 * 0.5**2, abs=2e-3)  # Hann's main lobe: 1/2, 1, 1/2


@pytest.mark.parametrize(("power", "level"), [(1.0, 1.0), (1e-5, 0.0), (1e-2, 0.6), (0.0, -1.0), (100.0, 1.0)])
def test_levels_are_decibels_of_a_fixed_range(power, level):
    assert harmonics.to_level(np.array([power]), 0.0, 100.0)[0] == pytest.approx(level, abs=1e-4)


def test_a_level_goes_back_to_its_power():
    power = np.array([0.0, 1e-10, 3e-7, 2e-3, 0.7], np.float32)
    back = harmonics.from_level(harmonics.to_level(power, 0, 100), 0, 100)
    assert back[0] == 0
    np.testing.assert_allclose(back[1:], power[1:], rtol=1e-3)


def test_the_mel_level_of_a_tone_is_highest_in_its_band_and_half_an_amplitude_is_six_decibels():
    loud = harmonics.mel_level(harmonics.magnitude(tone(3000, level=0.8)))[:, 20]
    quiet = harmonics.mel_level(harmonics.magnitude(tone(3000, level=0.4)))[:, 20]
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


# --- semantic harmonics -----------------------------------------------------------------------------------------------


def test_harmonics_of_a_tone_peak_at_its_multiples_and_are_silent_where_it_is():
    audio = np.concatenate([tone(220), np.zeros(RATE, np.float32)])
    f0, energy, _ = analyse(audio)
    found = harmonics.harmonics(f0, energy)
    frame = found[:, 20]
    peaks = np.flatnonzero((frame[1:-1] > frame[:-2]) & (frame[1:-1] > frame[2:])) + 1
    count = int(1024 * PUBLISHED.bin_hz / 220)
    assert len(peaks) == pytest.approx(count, abs=1)
    expected = 220 / PUBLISHED.bin_hz * np.arange(1, len(peaks) + 1)
    np.testing.assert_allclose(peaks, expected, atol=1)
    assert not found[:, 46:].any()  # 46 frames are 1.07 s
    level = harmonics.harmonics_level(f0, energy)
    assert (level[:, 46:] == -1).all()
    assert level[:, 20].max() > 0


def test_harmonics_decay_as_published_and_follow_the_energy():
    # A pitch of exactly 20 bins: the comb is 1 at bins 20, 40, ... 1020, so that only decay and energy remain there.
    f0 = np.array([20 * PUBLISHED.bin_hz, 0, 20 * PUBLISHED.bin_hz])
    found = harmonics.harmonics(f0, np.array([0.1, 0.1, 0.3]))
    for bin_index in (20, 500, 1020):
        decay = (np.exp(-5 * bin_index / 1024) - np.exp(-5)) / (1 - np.exp(-5))
        assert found[bin_index, 0] == pytest.approx(0.1 * decay, rel=1e-4)
        assert found[bin_index, 2] == pytest.approx(0.3 * decay, rel=1e-4)
        assert found[bin_index + 1, 0] / found[bin_index, 0] == pytest.approx(
            np.exp(-2) * (np.exp(-5 * (bin_index + 1) / 1024) - np.exp(-5)) / (decay * (1 - np.exp(-5))), rel=1e-3
        )
    assert not found[:, 1].any()


def test_harmonics_of_a_low_pitch_overlap_as_a_sum():
    # Independent of the implementation's nearest neighbours: the sum over all i, as the formula says.
    p = 1.9
    bins = np.arange(1025)
    comb = sum(np.exp(-2 * (bins - p * i) ** 2) for i in range(1, int(1024 / p) + 1))
    decay = np.exp(-np.linspace(0, 5, 1025))
    expected = comb * (decay - decay[-1]) / (1 - decay[-1])
    found = harmonics.harmonics(np.array([p * PUBLISHED.bin_hz]), np.array([1.0]))[:, 0]
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=2e-3)


def test_loudness_moves_the_harmonics_by_twice_its_decibels_and_arguments_stay():
    f0, energy = np.full(3, 300.0), np.array([1e-3, 1e-2, 1e-1])
    before = f0.copy(), energy.copy()
    level = harmonics.harmonics_level(f0, energy).max(axis=0)
    np.testing.assert_allclose(np.diff(level), 20 / 140 * 2, atol=1e-3)  # 10 dB of energy
    np.testing.assert_array_equal(f0, before[0])
    np.testing.assert_array_equal(energy, before[1])


# --- pitch ------------------------------------------------------------------------------------------------------------


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
    assert not track_f0(tone(220, level=1e-5)).any()  # -100 dB


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
        track_f0(tone(220, 0.1), **arguments)


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


# --- back to audio ----------------------------------------------------------------------------------------------------


def test_back_to_audio_is_three_decibels_nearer_than_the_published_way():
    audio = plucks(110, 165, 220, 330)
    spectrum = harmonics.magnitude(audio)
    power = harmonics.mel_power(harmonics.mel_level(spectrum))
    ours = mel_to_audio(power, len(audio), n_iterations=16)
    published = mel_to_audio_published(power, len(audio), n_iterations=16)
    assert len(ours) == len(published) == len(audio)
    near = decibels_between(harmonics.magnitude(ours), spectrum)
    assert near < -20
    assert near < decibels_between(harmonics.magnitude(published), spectrum) - 3
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
    power = harmonics.mel_filters() @ np.square(harmonics.magnitude(tone(440)))
    kept = power.copy()
    audio = mel_to_audio(power, RATE, n_iterations=4)
    np.testing.assert_array_equal(power, kept)
    spectrum = np.abs(np.fft.rfft(audio[4096:-4096]))
    assert spectrum.argmax() * RATE / (RATE - 8192) == pytest.approx(440, abs=3)


def test_peak_phase_advances_by_the_frequency_of_the_peak():
    frequency = 447.3  # between bins 41 and 42
    spectrum = harmonics.magnitude(tone(frequency))[:, 5:35]
    phase = peak_phase(spectrum)
    turned = np.diff(phase[round(frequency / PUBLISHED.bin_hz)])
    expected = 2 * np.pi * frequency * PUBLISHED.hop_length / RATE
    error = np.angle(np.exp(1j * (turned - expected)))
    assert np.abs(error).max() < 0.1  # radians
    neighbours = phase[42] - phase[41]
    assert np.abs(np.angle(np.exp(1j * (neighbours - np.pi)))).max() < 1e-5


def test_peak_phase_goes_on_from_what_is_already_made():
    audio = tone(600)
    true = data.stft(audio, PUBLISHED)
    phase = peak_phase(np.abs(true), before=true[:, :20])
    np.testing.assert_allclose(np.exp(1j * phase[:, :20]), np.exp(1j * np.angle(true[:, :20])), atol=1e-4)
    peak = round(600 / PUBLISHED.bin_hz)
    difference = np.angle(np.exp(1j * (phase[peak, 19:30] - np.angle(true[peak, 19:30]))))
    assert np.abs(difference).max() < 0.3  # radians after ten frames, where chance would be anything


# --- the voice --------------------------------------------------------------------------------------------------------


def test_the_made_voice_has_its_pitch_its_rests_and_its_missing_fundamental():
    f0 = melody(200, 0, seconds=1.0)
    voice = synthesize_voice(f0)
    assert np.abs(voice).max() == pytest.approx(0.5)
    assert not voice[RATE + 500 :].any()
    spectrum = np.abs(np.fft.rfft(voice[:RATE]))  # 1 Hz a bin
    assert spectrum.argmax() == 200
    without = np.abs(np.fft.rfft(synthesize_voice(f0, first_harmonic=2)[:RATE]))
    assert without[200] < 0.01 * without[400]
    assert not synthesize_voice(np.zeros(100)).any()
