"""Slices through a network and the style slice, against an independent offline pipeline and hand-made networks."""

import itertools

import librosa
import numpy as np
import pytest
import soundfile
from made_conversions import RATE, decibels, make_converter, make_music, make_sine

from common.errors import InputError
from conversion.converter import Pix2PixConverter, Settings
from conversion.files import convert_audio, convert_file
from conversion.models import read_style
from conversion.network import load_network
from conversion.phase import PHASES
from data import PUBLISHED, amplitude_to_db, forward_transform


def published_offline(audio, network):
    """The published pipeline with librosa: the whole file at once, slice by slice."""
    window = np.hanning(1024)
    spectrum = librosa.stft(audio, n_fft=1024, hop_length=512, window=window)
    magnitude = 2 * np.abs(spectrum[:256]) / window.sum()
    level = np.log1p(magnitude * 2**16) / np.log1p(2**16)
    n_frames = level.shape[1]
    level = np.pad(level, ((0, 0), (0, -n_frames % 256)))
    outputs = []
    for start in range(0, level.shape[1], 256):
        output = network(2 * level[np.newaxis, :, start : start + 256, np.newaxis] - 1)
        outputs.append((np.asarray(output)[0, :, :, 0] + 1) / 2)
    predicted = np.expm1(np.concatenate(outputs, axis=1)[:, :n_frames] * np.log1p(2**16)) / 2**16
    converted = np.zeros_like(spectrum)
    converted[:256] = predicted * window.sum() / 2 * np.exp(1j * np.angle(spectrum[:256]))
    return librosa.istft(converted, hop_length=512, window=window, length=len(audio))


def test_without_overlap_it_is_the_published_pipeline(tmp_path, write_generator):
    network = load_network(write_generator(tmp_path / "generator.h5"))
    # Several batches; the last slice and the last batch are not full. Only 100 samples follow the last frame's centre:
    # with nearly 512, the offline pipeline would divide by an almost zero part of its window.
    audio = make_music(14)[: 1200 * 512 + 100]
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")
    settings = Settings(overlap=0, level="peak", subtype="float")
    made = Pix2PixConverter(network, settings=settings)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: made, settings)
    converted, rate = soundfile.read(tmp_path / "out.wav")
    expected = published_offline(audio, network)
    assert (rate, converted.shape) == (RATE, audio.shape)
    assert decibels(expected - audio, audio) > -20  # the network does something
    assert decibels(converted - expected / np.abs(expected).max(), converted) < -80
    # Blocks of odd sizes give the same as one block.
    cuts = np.sort(np.random.default_rng(0).integers(0, len(audio), 40))
    streamed = np.concatenate(list(made.convert(np.split(audio, cuts))))
    np.testing.assert_allclose(streamed, convert_audio(audio, made), atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("phase", PHASES)
def test_a_network_that_changes_nothing_gives_back_the_band(overlap, phase):
    audio = make_music(5)
    converted = convert_audio(audio, make_converter(overlap=overlap, phase=phase, griffinlim_iterations=3))
    assert decibels(converted - audio, audio) < -45  # the noise above 11 kHz is gone


@pytest.mark.parametrize("overlap", [0.25, 0.1, 0.5])
def test_weights_of_overlapping_slices_sum_to_one(overlap):
    """A network that changes nothing gives back the input for any number of frames, also where slices overlap."""
    rng = np.random.default_rng(0)
    for n_frames in (1, 255, 256, 257, 400, 1000, 1001, 2100):
        noise = rng.normal(0, 0.1, (n_frames - 1) * 512 + 300).astype(np.float32)
        converted = convert_audio(noise, make_converter(overlap=overlap, high_band="keep"))
        np.testing.assert_allclose(converted, noise, atol=1e-5)


def test_slices_are_blended_in_the_log_level():
    """A network that raises one slice and lowers the next: in between, a sine has the weighted mean of the levels."""
    calls = itertools.count()

    def alternating(slices):
        return np.stack([s + np.float32(-0.1 if next(calls) % 2 else 0.1) for s in slices])

    audio = make_sine(20 * PUBLISHED.bin_hz, 447 * 512 / RATE)  # 448 frames: two slices of 256, which share 64
    converted = convert_audio(audio, make_converter(alternating, overlap=0.25))
    levels = [amplitude_to_db(forward_transform(sound)[0][20]) for sound in (audio, converted)]
    difference = (levels[1] - levels[0])[3:-3]  # the sine starts and ends at once
    weight = np.sin(np.pi / 2 * (np.arange(64) + 0.5) / 64) ** 2
    expected = np.concatenate([np.full(192, 0.05), 0.05 - 0.1 * weight, np.full(192, -0.05)])[3:-3]
    np.testing.assert_allclose(difference, expected, atol=2e-3)  # the mean of amplitudes would differ by 0.013


def test_the_default_overlap_leaves_no_seams():
    """Noise has no onsets, so seams come only from a network that changes the level from slice to slice."""

    def seams(overlap, period=256, offset=0):
        """The mean jump of level at the borders of slices, divided by that elsewhere."""
        calls = itertools.count()

        def alternating(slices):
            return np.stack([s + np.float32(0.15 if next(calls) % 2 else -0.15) for s in slices])

        converted = convert_audio(noise, make_converter(alternating, overlap=overlap))
        jumps = np.abs(np.diff(amplitude_to_db(forward_transform(converted)[0]), axis=1)).mean(axis=0)
        at_border = (np.arange(1, len(jumps) + 1) - offset) % period == 0
        return jumps[at_border].mean() / jumps[~at_border].mean()

    noise = np.random.default_rng(3).normal(0, 0.1, 40 * RATE).astype(np.float32)
    assert seams(0) > 1.3  # without overlap the seams are there
    for offset in (0, 32, 64):
        assert seams(0.25, period=192, offset=offset) <= 1.05


# --- style ------------------------------------------------------------------------------------------------------------


def style_file(path, levels, rate=RATE, seconds=PUBLISHED.slice_seconds):
    """One slice of a sine for each level; the slices' pitches are 500, 1000, 1500 ... Hz."""
    n = round(seconds * rate)
    audio = np.concatenate([make_sine(500 * (i + 1), seconds, rate, level)[:n] for i, level in enumerate(levels)])
    soundfile.write(path, audio, rate, "FLOAT")
    return path


def pitch_of(style):
    """Number of the sine that a style slice holds."""
    return round(np.argmax(style.sum(axis=1)) * PUBLISHED.bin_hz / 500) - 1


def test_style_slice_is_the_loudest_by_default_or_the_one_asked_for(tmp_path):
    path = style_file(tmp_path / "style.wav", [0.1, 0.5, 0.9, 0.2, 0, 0])  # the first frame of slice 4 still sounds
    style = read_style(path)
    assert style.shape == (256, 256)
    assert pitch_of(style) == 2
    np.testing.assert_array_equal(style, read_style(path))
    assert [pitch_of(read_style(path, choice=n)) for n in range(4)] == [0, 1, 2, 3]
    drawn = {pitch_of(read_style(path, choice="random", seed=seed)) for seed in range(24)}
    assert drawn == {0, 1, 2, 3}  # never slice 5, which would give -1
    first = read_style(path, choice="random", seed=7)
    np.testing.assert_array_equal(first, read_style(path, choice="random", seed=7))
    with pytest.raises(InputError, match=r"expected 0 to 5 in .*found 6"):
        read_style(path, choice=6)
    with pytest.raises(InputError, match="found silence in slice 5"):
        read_style(path, choice=5)


def test_a_short_style_is_repeated_and_a_half_silent_one_not_preferred(tmp_path):
    soundfile.write(tmp_path / "short.wav", make_sine(1000, 0.5, 22050), 22050)
    style = read_style(tmp_path / "short.wav")
    row = style[round(1000 / PUBLISHED.bin_hz)]
    assert style.shape == (256, 256)
    assert row.min() > 0.7  # the tone is in every frame
    audio = np.concatenate([make_sine(500, 1.2, RATE, 0.9), np.zeros(round(1.8 * RATE)), make_sine(1000, 4, RATE, 0.3)])
    soundfile.write(tmp_path / "style.wav", audio, RATE, "FLOAT")
    assert pitch_of(read_style(tmp_path / "style.wav")) == 1


def test_silent_and_empty_styles_are_refused(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    with pytest.raises(InputError, match="silence"):
        read_style(tmp_path / "silent.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(InputError, match="without samples"):
        read_style(tmp_path / "empty.wav")


def test_the_style_reaches_the_network_as_second_channel():
    style = np.random.default_rng(0).uniform(0, 1, (256, 256)).astype(np.float32)
    seen = []

    def network(slices):
        seen.append(slices)
        return slices[..., :1]

    convert_audio(make_music(5), make_converter(network, style))
    assert all(batch.shape[-1] == 2 for batch in seen)
    for item in np.concatenate(seen):
        np.testing.assert_allclose(item[..., 1], 2 * style - 1, atol=1e-6)
