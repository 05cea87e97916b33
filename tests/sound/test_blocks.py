"""Streams of blocks: resampling, lengths, integer samples and the true peak, against values computed by hand."""

import numpy as np
import pytest

from sound.blocks import (
    CountedBlocks,
    add_streams,
    join_blocks,
    resample,
    resample_blocks,
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


def test_blocks_are_joined_cut_filled_and_added():
    audio = np.arange(20, dtype=np.float32).reshape(10, 2)
    parts = np.split(audio, [4, 4, 9])
    assert [len(block) for block in join_blocks(parts, 5)] == [9, 1]
    for n_samples in (0, 7, 10, 15):
        blocks = list(trim_or_pad(parts, n_samples, 2))
        assert all(len(block) for block in blocks)
        found = np.concatenate([np.zeros((0, 2)), *blocks])
        np.testing.assert_array_equal(found, np.pad(audio, ((0, 10), (0, 0)))[:n_samples])
    np.testing.assert_array_equal(np.concatenate(list(add_streams(parts, np.split(audio, [3])))), 2 * audio)


def test_what_is_made_of_counted_blocks_is_cut_to_their_length():
    counted = CountedBlocks([np.ones(3), np.ones(0), np.ones(4)])
    made = ([*block, 9, 9] for block in counted)  # two samples more a block
    assert [len(block) for block in counted.trim(made)] == [3, 4]
    assert counted.n_samples == 7


def test_the_true_peak_lies_between_the_samples():
    time = np.arange(4000)
    quarter = np.sin(2 * np.pi * 0.25 * time + np.pi / 4).astype(np.float32)  # samples at 0.707 only
    other = 0.9 * np.sin(2 * np.pi * 0.2 * time).astype(np.float32)
    for channels, expected in (([quarter], 1), ([other, 0.5 * quarter], 0.9), ([0.01 * quarter], 0.01)):
        stream = np.stack(channels, axis=1) * np.hanning(4000).astype(np.float32)[:, np.newaxis]
        assert true_peak([stream]) == pytest.approx(expected, rel=0.01)
        assert true_peak(np.split(stream, [0, 1, 5, 30, 1999, 2001])) == pytest.approx(true_peak([stream]), rel=1e-6)
