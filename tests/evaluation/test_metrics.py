"""Metrics against values computed by hand, against librosa and mir_eval, and against what they should hear."""

import dataclasses

import librosa
import mir_eval
import numpy as np
import pytest
import scipy.signal
import threadpoolctl
from made_sounds import RATE, tone

from data import PUBLISHED, amplitude_to_db, db_to_amplitude, forward_transform
from evaluation import metrics

BEST = {metric.name: metric.best for metric in metrics.METRICS}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrix products use one thread, as in an evaluation."""
    with threadpoolctl.threadpool_limits(1):
        yield


def piece(cents=0.0):
    """Four seconds of chords, one each half second."""
    chords = ((60, 64, 67), (57, 60, 64), (53, 57, 60), (55, 59, 62), (48, 64), (69, 72), (62, 65), (60, 76))
    return np.concatenate([sum(tone(pitch, 0.5, cents) for pitch in chord) for chord in chords])


@pytest.fixture(scope="module")
def target():
    return piece()


@pytest.fixture(scope="module")
def analysed(target):
    return metrics.analyse(target)


# --- the whole table --------------------------------------------------------------------------------------------------


def test_a_recording_against_itself_is_exactly_at_its_best(target):
    assert metrics.compare(target, target.copy()) == BEST


def test_only_the_onset_score_is_better_when_it_is_higher():
    assert len(BEST) == len(metrics.METRICS) == 9
    assert {metric.name for metric in metrics.METRICS if metric.better == "higher"} == {"onset_f1"}


def _rises(values, metric):
    """Strictly worse from step to step, beginning worse than the best."""
    sign = 1 if metric.better == "lower" else -1
    steps = np.diff([metric.best, *values]) * sign
    return bool((steps > 0).all())


def _noise(audio, db):
    return audio + 10 ** (db / 20) * np.random.default_rng(0).normal(size=len(audio)).astype(np.float32)


def _delay(audio, seconds):
    return np.pad(audio, (round(seconds * RATE), 0))[: len(audio)]


def _low_pass(audio, hertz):
    taps = scipy.signal.butter(6, hertz, fs=RATE, output="sos")
    return scipy.signal.sosfiltfilt(taps, audio).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "amounts", "seen_by"),
    [
        (_noise, (-70, -55, -40, -25), ("mae", "lsd", "multi_stft", "mfcc", "chroma", "loudness")),
        (_delay, (0.005, 0.02, 0.045), ("mae", "lsd", "multi_stft", "loudness")),
        (lambda _, cents: piece(cents), (10, 25, 50), ("mae", "lsd", "multi_stft", "chroma", "pitch")),
        (_low_pass, (4000, 2000, 1000), ("mae", "lsd", "multi_stft", "mfcc")),
        (lambda audio, db: audio * np.float32(10 ** (db / 20)), (-1, -3, -6), ("mae", "lsd", "multi_stft", "loudness")),
    ],
    ids=["noise", "delay", "detune", "low-pass", "level"],
)
def test_each_change_moves_the_metrics_that_should_see_it_more_the_more_there_is(
    target, analysed, change, amounts, seen_by
):
    rows = [metrics.compare_features(metrics.analyse(change(target, amount)), analysed) for amount in amounts]
    for metric in metrics.METRICS:
        if metric.name in seen_by:
            values = [row[metric.name] for row in rows]
            assert _rises(values, metric), (metric.name, values)


def test_onset_f1_falls_when_the_delay_leaves_its_window(target, analysed):
    late = [metrics.compare_features(metrics.analyse(_delay(target, s)), analysed)["onset_f1"] for s in (0.02, 0.1)]
    assert late == [1.0, 0.0]


def test_timbre_metrics_let_a_change_of_level_pass(target, analysed):
    quieter = metrics.compare_features(metrics.analyse(target * np.float32(0.5)), analysed)
    assert quieter["mfcc"] < 0.01
    assert quieter["chroma"] < 1e-6
    assert quieter["loudness"] == pytest.approx(6.02, abs=0.05)


def test_a_missing_end_counts_like_silence_there(target):
    second = target[:RATE]
    half = second[: RATE // 2]
    filled = np.concatenate([half, np.zeros(len(second) - len(half), np.float32)])
    shorter = metrics.compare(half, second)
    assert shorter == metrics.compare(filled, second)
    assert shorter["lsd"] > 3
    assert metrics.compare(second, half)["lsd"] == pytest.approx(shorter["lsd"])
    assert [len(audio) for audio in metrics.pad_to_longest(half, second)] == [len(second)] * 2


@pytest.mark.parametrize("n_samples", [1, 511, 30_000])
def test_silence_equals_silence_and_nothing_else(n_samples, target):
    silence = np.zeros(n_samples, np.float32)
    assert metrics.compare(silence, silence) == BEST
    for row in (metrics.compare(silence, target[:30_000]), metrics.compare(target[:30_000], silence)):
        assert all(np.isfinite(value) for value in row.values())
        assert row["mfcc"] == row["chroma"] == row["pitch"] == 1.0
        assert row["onset_f1"] == 0.0
        assert row["loudness"] > 20


def test_arguments_are_left_alone(target):
    audio = target[: RATE // 4].copy()
    metrics.compare(audio, audio[:1000])
    np.testing.assert_array_equal(audio, target[: RATE // 4])


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_network_mae_by_hand():
    # Levels 0, 1/2, 1 are -1, 0, 1 for the network.
    output = np.array([[0.0, db_to_amplitude(np.float64(0.5)), 1.0]])
    np.testing.assert_allclose(metrics.network_mae(output, np.array([[1.0, 1.0, 1.0]])), (2 + 1 + 0) / 3)
    assert metrics.network_mae(np.array([[4.0]]), np.array([[1.0]])) == 0  # the level ends at 1
    # 4.8 dB, as the docstring says, are 0.1: well above amin the level is linear in dB.
    assert metrics.network_mae(np.array([[0.1 * 10 ** (4.8 / 20)]]), np.array([[0.1]])) == pytest.approx(0.1, abs=0.001)


def test_log_spectral_distance_by_hand():
    target = np.ones((4, 2))
    output = target.copy()
    output[:2, 0] = 0.1  # two of four bins 20 dB lower: sqrt(400 / 2)
    output[:, 1] = 0.5  # all bins 6.02 dB lower
    assert metrics.log_spectral_distance(output, target) == pytest.approx((200**0.5 + 20 * np.log10(2)) / 2)
    assert metrics.log_spectral_distance(np.zeros((4, 2)), np.full((4, 2), 0.9e-4)) == 0  # both below -80 dB
    assert metrics.log_spectral_distance(np.zeros((4, 2)), target) == pytest.approx(80)


def test_multi_resolution_distance_is_that_of_librosa():
    rng = np.random.default_rng(1)
    output, target = rng.normal(0, 0.1, (2, 8192)).astype(np.float32)
    distances = []
    for n_fft in (2048, 1024, 512, 256, 128, 64):
        y, x = (
            np.abs(librosa.stft(a, n_fft=n_fft, hop_length=n_fft // 4, center=False)) * 4 / n_fft
            for a in (output.astype(float), target.astype(float))
        )
        distances.append(np.mean(np.abs(y - x)) + np.mean(np.abs(np.log(y + 1e-5) - np.log(x + 1e-5))))
    assert metrics.multi_resolution_distance(output, target) == pytest.approx(np.mean(distances), rel=1e-4)


def test_a_long_recording_in_blocks_is_that_in_one(monkeypatch):
    audio = np.random.default_rng(2).normal(0, 0.1, 50_000).astype(np.float32)
    whole = np.concatenate(list(metrics._magnitude_blocks(audio, 512, center=True)))
    monkeypatch.setattr("evaluation.metrics.BLOCK_VALUES", 512 * 7)
    blocks = list(metrics._magnitude_blocks(audio, 512, center=True))
    assert len(blocks) > 50
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    expected = np.abs(librosa.stft(audio, n_fft=512, hop_length=128, pad_mode="constant")) / 128
    np.testing.assert_allclose(whole.T, expected, atol=1e-6)


def test_cosine_distance_by_hand():
    output = np.array([[1.0, 2.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0, 0.0]])
    target = np.array([[1.0, -1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    # 45 degrees, opposite, silence in both (left out), silence in one, another length of the same direction
    assert metrics.cosine_distance(output, target) == pytest.approx(((1 - 0.5**0.5) + 2 + 1 + 0) / 4)


def test_mfcc_by_hand():
    """c_k = sqrt(2 / N) * sum_n x_n cos(pi k (n + 1/2) / N), the orthonormal DCT-II."""
    mel = np.random.default_rng(3).uniform(-100, 0, (128, 7))
    cosines = np.cos(np.pi / 128 * np.outer(np.arange(1, 13), np.arange(128) + 0.5))
    np.testing.assert_allclose(metrics.mfcc(mel), np.sqrt(2 / 128) * cosines @ mel, atol=1e-9)
    assert not metrics.mfcc(np.full((128, 2), -100.0)).any()


def test_pitch_jaccard_distance_by_hand_and_by_mir_eval():
    output, target = np.zeros((2, 64, 3), bool)
    output[[10, 14], 0] = target[[10, 17], 0] = True  # 1 of 3 in common
    output[5, 1] = True  # only there
    assert metrics.pitch_jaccard_distance(output, target) == pytest.approx((2 / 3 + 1) / 2)

    frame = slice(0, 1)
    hertz = [[440 * 2 ** ((metrics.PITCHES[np.nonzero(roll[:, 0])[0]] - 69) / 12)] for roll in (target, output)]
    accuracy = mir_eval.multipitch.evaluate(np.zeros(1), hertz[0], np.zeros(1), hertz[1])["Accuracy"]
    assert metrics.pitch_jaccard_distance(output[:, frame], target[:, frame]) == pytest.approx(1 - accuracy)


def test_onset_f1_by_hand():
    # One of two found onsets is within 50 ms of one of three: precision 1/2, recall 1/3.
    assert metrics.onset_f1(np.array([1.04, 2.06]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.4)
    assert metrics.onset_f1(np.zeros(0), np.zeros(0)) == 1
    assert metrics.onset_f1(np.zeros(0), np.ones(1)) == metrics.onset_f1(np.ones(1), np.zeros(0)) == 0


@pytest.mark.parametrize(("hertz", "weight"), [(1000, 0.0), (100, -19.1), (10000, -2.5)])  # IEC 61672, table of A
def test_loudness_of_a_sine_is_its_a_weighted_level(hertz, weight):
    sine = np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
    loudness = metrics.analyse(sine).loudness
    assert np.median(loudness) == pytest.approx(weight, abs=0.3)
    assert np.median(metrics.analyse(sine / 10).loudness) == pytest.approx(weight - 20, abs=0.3)


def test_loudness_difference_by_hand():
    assert metrics.loudness_difference(np.array([-20.0, -30.0]), np.array([-26.0, -28.0])) == pytest.approx(4)


# --- seams ------------------------------------------------------------------------------------------------------------


def test_seam_score_by_hand():
    """Levels that move by 0.01 from frame to frame and by 0.03 at each border."""
    steps = np.full(1023, 0.01)
    steps[[255, 511, 767]] = 0.03  # the jumps to frames 256, 512, 768
    level = 0.5 + np.concatenate([[0], np.cumsum(steps * np.where(np.arange(1023) % 2, 1, -1))])
    magnitude = db_to_amplitude(np.tile(level, (4, 1)))
    score = lambda *where: metrics._seam_score(magnitude, PUBLISHED.amin, *where)  # noqa: E731
    assert score(256) == pytest.approx(3.0)
    assert score(128, 0) == pytest.approx((3 * 0.03 + 4 * 0.01) / 7 / 0.01)
    assert score(256, 100) == pytest.approx(0.01 / ((1016 * 0.01 + 3 * 0.03) / 1019))
    assert score(2000) == 1.0  # no border


def test_seam_score_of_audio_hears_slices_of_different_level_and_no_others():
    rng = np.random.default_rng(4)
    hop, period = PUBLISHED.hop_length, 64
    noise = rng.normal(0, 0.1, 40 * period * hop).astype(np.float32)
    gains = np.repeat(np.where(np.arange(40) % 2, 1.0, 0.1), period * hop).astype(np.float32)
    assert metrics.seam_score(noise, period_frames=period) == pytest.approx(1, abs=0.05)
    assert metrics.seam_score(noise * gains, period_frames=period) > 1.5
    assert metrics.seam_score(noise * gains, period_frames=period, offset=20) < 1.05
    shifted = np.roll(noise * gains, 20 * hop)
    assert metrics.seam_score(shifted, period_frames=period, offset=20) > 1.5


def test_seam_score_of_silence_of_a_short_sound_and_of_a_step_in_nothing_else():
    assert metrics.seam_score(np.zeros(300 * 512)) == 1
    assert metrics.seam_score(np.ones(1, np.float32)) == 1
    level = np.zeros((4, 300))
    level[:, 256:] = 0.5
    assert metrics._seam_score(db_to_amplitude(level), PUBLISHED.amin) == float("inf")


def magnitude_alone(audio, representation):
    """Features whose magnitude is that of a long recording; the others are those of a single sample."""
    magnitude, _ = forward_transform(audio, representation)
    return dataclasses.replace(metrics.analyse(audio[:1], representation), magnitude=magnitude)


def test_relative_seam_score_forgives_what_the_target_does_too():
    representation = dataclasses.replace(PUBLISHED, n_frames=64)
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.1, 20 * 64 * 512).astype(np.float32)
    gains = np.repeat(np.where(np.arange(20) % 2, 1.0, 0.1), 64 * 512).astype(np.float32)
    smooth, stepped, silence = (magnitude_alone(a, representation) for a in (noise, noise * gains, 0 * noise))
    assert metrics.relative_seam_score(stepped, smooth) > 1.5
    assert metrics.relative_seam_score(stepped, stepped) == 1
    assert metrics.relative_seam_score(smooth, stepped) == 1
    assert metrics.relative_seam_score(silence, smooth) == 1
    assert metrics.relative_seam_score(smooth, silence) == pytest.approx(1, abs=0.05)
    assert np.isfinite(metrics.relative_seam_score(stepped, silence))


def test_seams_of_overlapping_slices_are_looked_for_where_they_are():
    """Slices of 64 frames that share 16 begin every 48: a step in the middle of what they share."""
    representation = dataclasses.replace(PUBLISHED, n_frames=64)
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.1, 20 * 48 * 512).astype(np.float32)
    gains = np.roll(np.repeat(np.where(np.arange(20) % 2, 1.0, 0.1), 48 * 512), 8 * 512).astype(np.float32)
    smooth, stepped = (magnitude_alone(a, representation) for a in (noise, noise * gains))
    assert metrics.relative_seam_score(stepped, smooth, 16) > 1.5
    assert metrics.relative_seam_score(stepped, smooth, 0) < 1.2
    assert metrics.relative_seam_score(smooth, smooth, 16) == 1
    assert np.isnan(metrics.relative_seam_score(stepped, smooth, None))
    assert metrics.compare_features(stepped, smooth, 16)["seam"] > 1.5


# --- estimators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chord", [(60,), (60, 64, 67), (48, 60), (57, 69), (36, 60, 63, 67), (84, 88), (40, 59)])
def test_pitches_of_a_chord_are_found(chord):
    roll = metrics.analyse(sum(tone(pitch) for pitch in chord)).pitches
    found = metrics.PITCHES[roll[:, 5:25].mean(axis=1) > 0.5]
    assert tuple(found) == chord


def test_noise_floor_and_silence_have_no_pitch():
    quiet = 1e-4 * np.random.default_rng(6).normal(size=RATE)
    assert not metrics.analyse(quiet).pitches.any()
    assert not metrics.estimate_pitches(np.zeros((4097, 3)), RATE / 8192).any()


def test_pitches_at_another_sample_rate():
    representation = dataclasses.replace(PUBLISHED, sample_rate=22050)
    roll = metrics.analyse(tone(60, 2.0)[::2], representation).pitches
    assert list(metrics.PITCHES[roll[:, 5:25].mean(axis=1) > 0.5]) == [60]


def test_chroma_of_a_tone_is_its_pitch_class():
    chroma = metrics.analyse(tone(69, decay=0)).chroma[:, 10]
    assert np.argmax(chroma) == 9  # A, counted from C
    assert chroma[9] > 0.5 * chroma.sum()


def test_onsets_are_where_the_notes_begin():
    starts = np.array([0.0, 0.5, 1.1, 1.4, 2.2])
    audio = np.zeros(3 * RATE, np.float32)
    for start in starts:
        note = tone(60, 0.5, decay=8)
        audio[int(start * RATE) :][: len(note)] += note
    onsets = metrics.analyse(audio).onsets
    assert len(onsets) == 5
    np.testing.assert_allclose(onsets, starts, atol=0.035)


def test_level_of_the_features_is_that_of_the_networks(target):
    level = amplitude_to_db(metrics.analyse(target).magnitude)
    expected = librosa.stft(target, n_fft=1024, hop_length=512, window=np.hanning(1024))
    expected = amplitude_to_db(2 * np.abs(expected[:256]) / np.hanning(1024).sum())
    np.testing.assert_allclose(level, expected, atol=1e-3)
