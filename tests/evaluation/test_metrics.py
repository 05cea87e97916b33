"""Metrics against values computed by hand, against librosa and mir_eval, and against what they should hear."""

import numpy as np
import pytest
import scipy.signal
import threadpoolctl
from made_sounds import RATE, tone

from data import db_to_amplitude
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
        (_noise, (-70, -55, -40, -25), ("mae", "lsd", "mfcc", "chroma", "loudness")),
        (_delay, (0.005, 0.02, 0.045), ("mae", "lsd", "loudness")),
        (lambda _, cents: piece(cents), (10, 25, 50), ("mae", "lsd", "chroma")),
        (_low_pass, (4000, 2000, 1000), ("mae", "lsd", "lsd_65", "mfcc")),
        (lambda audio, db: audio * np.float32(10 ** (db / 20)), (-1, -3, -6), ("gain",)),
    ],
    ids=["noise", "delay", "detune", "low-pass", "level"],
)
def test_each_change_moves_the_metrics_that_should_see_it_more_the_more_there_is(
    target, analysed, change, amounts, seen_by
):
    rows = [BEST, *(metrics.measure(change(target, amount), analysed) for amount in amounts)]
    for metric in metrics.METRICS:
        if metric.name in seen_by:
            values = [row[metric.name] for row in rows]
            assert (np.diff(np.abs(np.array(values) - metric.best)) > 0).all(), (metric.name, values)


def test_a_missing_end_counts_like_silence_there(target):
    second = target[:RATE]
    half = second[: RATE // 2]
    shorter = metrics.compare(half, second)
    assert shorter == pytest.approx(metrics.compare(np.pad(half, (0, len(second) - len(half))), second), nan_ok=True)
    assert 3 < shorter["lsd"] == pytest.approx(metrics.compare(second, half)["lsd"])


def test_silence_equals_silence_and_nothing_else(target):
    for n_samples in (1, 30_000):
        silence = np.zeros(n_samples, np.float32)
        row = metrics.compare(silence, silence)
        assert np.isnan([row.pop(name) for name in ("attack", "flutter")]).all()  # there is nothing to measure
        assert row == {name: BEST[name] for name in row}
    for row in (metrics.compare(silence, target[:30_000]), metrics.compare(target[:30_000], silence)):
        assert all(np.isfinite(row[name]) for name in row if name not in ("attack", "flutter"))
        assert row["mfcc"] == row["chroma"] == 1.0
        assert row["onset_f1"] == 0.0
        assert row["loudness"] > 20


def test_network_mae_by_hand():
    # Levels 0, 1/2, 1 are -1, 0, 1 for the network.
    output = np.array([[0.0, db_to_amplitude(np.float64(0.5)), 1.0]])
    np.testing.assert_allclose(metrics.network_mae(output, np.array([[1.0, 1.0, 1.0]])), (2 + 1 + 0) / 3)
    assert metrics.network_mae(np.array([[4.0]]), np.array([[1.0]])) == 0  # the level ends at 1


def test_log_spectral_distance_by_hand():
    target = np.ones((4, 2))
    output = target.copy()
    output[:2, 0] = 0.1  # two of four bins 20 dB lower: sqrt(400 / 2)
    output[:, 1] = 0.5  # all bins 6.02 dB lower
    assert metrics.log_spectral_distance(output, target) == pytest.approx((200**0.5 + 20 * np.log10(2)) / 2)
    assert metrics.log_spectral_distance(np.zeros((4, 2)), np.full((4, 2), 0.9e-4)) == 0  # both below -80 dB
    assert metrics.log_spectral_distance(np.zeros((4, 2)), target) == pytest.approx(80)


def test_cosine_distance_by_hand():
    output = np.array([[1.0, 2.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0, 0.0]])
    target = np.array([[1.0, -1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    # 45 degrees, opposite, silence in both (left out), silence in one, another length of the same direction
    assert metrics.cosine_distance(output, target) == pytest.approx(((1 - 0.5**0.5) + 2 + 1 + 0) / 4)


def test_onset_f1_by_hand():
    # One of two found onsets is within 50 ms of one of three: precision 1/2, recall 1/3.
    assert metrics.onset_f1(np.array([1.04, 2.06]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.4)
    assert metrics.onset_f1(np.array([1.06]), np.ones(1)) == 0 < metrics.onset_f1(np.array([1.04]), np.ones(1))
    assert metrics.onset_f1(np.zeros(0), np.zeros(0)) == 1
    assert metrics.onset_f1(np.zeros(0), np.ones(1)) == metrics.onset_f1(np.ones(1), np.zeros(0)) == 0


@pytest.mark.parametrize(("hertz", "weight"), [(1000, 0.0), (100, -19.1), (10000, -2.5)])  # IEC 61672, table of A
def test_loudness_of_a_sine_is_its_a_weighted_level(hertz, weight):
    sine = np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
    loudness = metrics.analyse(sine).loudness
    assert np.median(loudness) == pytest.approx(weight, abs=0.3)
    assert np.median(metrics.analyse(sine / 10).loudness) == pytest.approx(weight - 20, abs=0.3)


def test_a_gain_of_6_db_is_the_gain_row_and_no_other(target, analysed):
    """Halving is 20 log10(1/2) = -6.02 dB; a model that forgot them is measured as if it had not."""
    row = metrics.measure(target * np.float32(0.5), analysed)
    assert row.pop("gain") == pytest.approx(20 * np.log10(2), abs=0.01)
    assert row == pytest.approx({name: best for name, best in BEST.items() if name != "gain"}, abs=2e-3)


def plucks(rise_ms):
    """Single notes of 40 partials whose level rises along a straight line and then decays."""
    audio, time = np.zeros(4 * RATE + RATE // 2), np.arange(RATE) / RATE
    envelope = np.clip(time / (rise_ms / 1000), 0, 1) * np.exp(-3 * time)
    for start, f0 in zip((0.3, 1.3, 2.3, 3.3), (220, 261, 330, 196), strict=True):
        note = sum(np.sin(2 * np.pi * m * f0 * time + m * m) / m**0.5 for m in range(1, 41)) * envelope
        audio[round(start * RATE) :][: len(note)] += 0.05 * note
    return audio.astype(np.float32)


def test_the_rise_of_a_pluck_is_measured_from_10_to_90_percent():
    """Of a straight line these are 80 % of its length; the pluck decays meanwhile, and the window is 5.8 ms long."""
    sharp = metrics.analyse(plucks(1))
    for rise in (10, 60):
        soft = metrics.analyse(plucks(rise))
        assert metrics.measure_target(soft)["attack"] == pytest.approx(0.8 * rise, abs=2)
        assert metrics.attack_difference(soft, sharp) == pytest.approx(0.8 * rise - 2.7, abs=2)
        assert metrics.attack_difference(soft, sharp) == -metrics.attack_difference(sharp, soft) > 0


def test_an_attack_under_another_note_or_near_another_onset_is_not_measured():
    np.testing.assert_allclose(metrics.isolated(np.array([0.0, 0.2, 0.25, 0.9])), [0.0, 0.9])
    time = np.arange(2 * RATE) / RATE
    steady = metrics.analyse((0.3 * np.sin(2 * np.pi * 2000 * time)).astype(np.float32))
    assert np.isnan(metrics.rise_times(steady, np.array([1.0]))).all()


@pytest.mark.parametrize(("hertz", "wobble_db"), [(4, 1.0), (6, 2.0), (0, 0.0)])
def test_the_flutter_of_a_partial_is_the_second_difference_of_its_wobble(hertz, wobble_db):
    """A level of a sin(wt) has second differences of at most 2 a (1 - cos(w hop)), by sqrt(1/2) of that in the median;
    a decay of 20 dB a second has none."""
    time, step = np.arange(4 * RATE) / RATE, 2 * np.pi * hertz * metrics.HOP / RATE
    level = wobble_db * np.sin(2 * np.pi * hertz * time) - 10 * time
    features = metrics.analyse((0.3 * 10 ** (level / 20) * np.sin(2 * np.pi * 440 * time)).astype(np.float32))
    expected = 2 * wobble_db * (1 - np.cos(step)) * 0.5**0.5
    assert metrics.flutter(features, np.zeros(1)) == pytest.approx(expected, rel=0.08, abs=2e-3)
    assert np.isnan(metrics.flutter(features, np.arange(0, 4, 0.02)))  # frames near onsets do not count


def test_brightness_is_the_power_above_4_khz(target, analysed):
    time = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (500, 6000))
    bright, dull = metrics.analyse(0.5 * low + 0.1 * high), metrics.analyse(0.5 * low + 0.01 * high)
    assert metrics.brightness(dull) - metrics.brightness(bright) == pytest.approx(-20, abs=0.1)
    assert metrics.measure(_low_pass(target, 3000), analysed)["brightness"] < -6


def test_onsets_are_where_the_notes_begin():
    starts = np.array([0.0, 0.5, 1.1, 1.4, 2.2])
    audio = np.zeros(3 * RATE, np.float32)
    for start in starts:
        note = tone(60, 0.5, decay=8)
        audio[int(start * RATE) :][: len(note)] += note
    np.testing.assert_allclose(metrics.analyse(audio).onsets, starts, atol=0.035)
