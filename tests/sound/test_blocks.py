"""Streams of blocks: lengths, integer samples and the true peak by hand, the STFT against librosa's of the whole."""

import librosa
import numpy as np
import pytest
import soundfile

from conversion.recordings import spectrogram
from data import PUBLISHED
from sound.blocks import (
    add_streams,
    istft_blocks,
    regroup_frames,
    resample,
    resample_blocks,
    stft_blocks,
    to_pcm,
    trim_or_pad,
    true_peak,
)

RATE = 44100


def test_integer_samples_are_the_nearest_and_clip():
    audio = np.array([1, 2, -2, 0.6 / 2**15, -0.6 / 2**15, 0.4 / 2**15], np.float32)
    np.testing.assert_array_equal(to_pcm(audio, 16), [32767, 32767, -32768, 1, -1, 0])
    np.testing.assert_array_equal(to_pcm(audio[:3], 24), [(2**23 - 1) << 8, (2**23 - 1) << 8, -(2**31)])


@pytest.mark.parametrize("rates", [(100, 44100), (44100, 10**7), (10**7, 44100)])
def test_resampled_blocks_are_small_whatever_the_rates_are(rates):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 5000).astype(np.float32)
    blocks = list(resample_blocks([audio], *rates))
    assert max(map(len, blocks)) < 1.5 * 2**20
    np.testing.assert_array_equal(np.concatenate(blocks), resample(audio, *rates))


def test_blocks_are_cut_filled_and_added():
    audio = np.arange(20, dtype=np.float32).reshape(10, 2)
    parts = np.split(audio, [4, 4, 9])
    for n_samples in (0, 7, 10, 15):
        blocks = list(trim_or_pad(parts, n_samples, 2))
        assert all(len(block) for block in blocks)
        found = np.concatenate([np.zeros((0, 2)), *blocks])
        np.testing.assert_array_equal(found, np.pad(audio, ((0, 10), (0, 0)))[:n_samples])
    np.testing.assert_array_equal(np.concatenate(list(add_streams(parts, np.split(audio, [3])))), 2 * audio)


def test_the_true_peak_lies_between_the_samples():
    time = np.arange(4000)
    quarter = np.sin(2 * np.pi * 0.25 * time + np.pi / 4).astype(np.float32)  # samples at 0.707 only
    other = 0.9 * np.sin(2 * np.pi * 0.2 * time).astype(np.float32)
    for channels, expected in (([quarter], 1), ([other, 0.5 * quarter], 0.9), ([0.01 * quarter], 0.01)):
        stream = np.stack(channels, axis=1) * np.hanning(4000).astype(np.float32)[:, np.newaxis]
        assert true_peak([stream]) == pytest.approx(expected, rel=0.01)
        assert true_peak(np.split(stream, [0, 1, 5, 30, 1999, 2001])) == pytest.approx(true_peak([stream]), rel=1e-6)


def test_stft_of_blocks_is_that_of_the_whole_and_comes_back():
    audio = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    cuts = [0, 1, 5, 700, 701, 9000, 19_999]  # blocks of 0 samples, of less than a hop, and of many frames
    spectra = list(stft_blocks(np.split(audio, cuts), PUBLISHED))
    expected = librosa.stft(audio, n_fft=1024, hop_length=512, window=np.hanning(1024))
    np.testing.assert_allclose(np.concatenate(spectra, axis=1), expected, atol=1e-5)
    again = np.concatenate(list(istft_blocks(spectra, PUBLISHED)))
    np.testing.assert_allclose(again[: len(audio)], audio, atol=1e-6)


@pytest.mark.parametrize(
    ("n_frames", "starts"),
    [(3, [0]), (5, [0]), (6, [0, 4]), (9, [0, 4]), (10, [0, 4, 8])],  # pieces of 4 + 1 frames
)
def test_frames_are_regrouped_into_overlapping_pieces(n_frames, starts):
    frames = np.arange(n_frames)[np.newaxis]
    pieces = list(regroup_frames(np.split(frames, [2, 3], axis=1), 4, 1))
    assert [piece[0].tolist() for piece, _ in pieces] == [list(range(n_frames))[start : start + 5] for start in starts]
    assert [is_last for _, is_last in pieces] == [False] * (len(starts) - 1) + [True]


def test_spectrogram_of_a_long_recording_has_few_columns_and_keeps_onsets(tmp_path):
    audio = np.zeros(20 * RATE, np.float32)
    audio[10 * RATE] = 0.9
    soundfile.write(tmp_path / "in.flac", audio, RATE)
    level, seconds = spectrogram(tmp_path / "in.flac", 100)
    assert level.shape[0] == 256
    assert 90 <= level.shape[1] <= 110
    assert np.argmax(level.sum(axis=0)) * seconds == pytest.approx(10, abs=2 * seconds)
