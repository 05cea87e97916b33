"""The STFT of a stream against librosa's of the whole, pieces counted by hand, and long recordings in few columns."""

import librosa
import numpy as np
import pytest
import soundfile
from made_conversions import RATE

from data import PUBLISHED
from sound.streaming import istft_blocks, regroup_frames, spectrogram, stft_blocks


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
