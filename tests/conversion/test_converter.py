"""Slices through a network and its channels, against an independent offline pipeline and hand-made networks."""

import itertools

import librosa
import numpy as np
import pytest
import soundfile
from made_conversions import RATE, decibels, load_network, make_converter, make_music, make_sine

from common import weights
from conversion.converter import Pix2PixConverter, Settings, apply_phase, griffin_lim, load_converter
from conversion.recordings import convert_audio, convert_file
from data import PUBLISHED, amplitude_to_db, db_to_amplitude, forward_transform, from_network, to_network, unit
from sound.blocks import istft_blocks


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
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", made, settings)
    converted, rate = soundfile.read(tmp_path / "out.wav")
    expected = published_offline(audio, network)
    assert (rate, converted.shape) == (RATE, audio.shape)
    assert decibels(expected - audio, audio) > -20  # the network does something
    assert decibels(converted - expected / np.abs(expected).max(), converted) < -80
    # Blocks of odd sizes give the same as one block.
    cuts = np.sort(np.random.default_rng(0).integers(0, len(audio), 40))
    streamed = np.concatenate(list(made.convert(np.split(audio[:, np.newaxis], cuts))))
    np.testing.assert_allclose(streamed[:, 0], convert_audio(audio, made), atol=1e-6)


def test_weights_of_overlapping_slices_sum_to_one():
    """A network that changes nothing gives back the input for any number of frames, also where slices overlap."""
    rng = np.random.default_rng(0)
    for overlap, n_frames in itertools.product((0.0, 0.1, 0.25, 0.5), (1, 256, 257, 1001)):
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


# --- channels ---------------------------------------------------------------------------------------------------------


def test_one_prediction_for_all_channels_keeps_their_places():
    """Two tones, each louder in one channel: a network that lowers everything by 6 dB lowers each channel by 6 dB."""
    left, right = make_sine(500, 2), make_sine(1500, 2)
    audio = np.stack([left + 0.1 * right, 0.3 * left - right])
    lower = make_converter(lambda x: to_network(amplitude_to_db(10 ** (-6 / 20) * db_to_amplitude(from_network(x)))))
    inner = slice(1000, -1000)  # a tone that starts at once has sound above the band there
    converted = convert_audio(audio, lower)
    np.testing.assert_allclose(converted[:, inner], audio[:, inner] * 10 ** (-6 / 20), atol=2e-3)


# --- what the model says ----------------------------------------------------------------------------------------------


def test_the_style_reaches_the_network_as_second_channel():
    style = np.random.default_rng(0).uniform(0, 1, (256, 256)).astype(np.float32)
    seen = []
    convert_audio(make_music(5), make_converter(lambda slices: seen.append(slices) or slices[..., :1], style))
    for item in np.concatenate(seen):
        np.testing.assert_allclose(item[..., 1], 2 * style - 1, atol=1e-6)


def test_a_model_may_ask_for_recordings_at_full_scale(tmp_path, write_generator):
    """Then a quiet recording gives the output of a loud one, quieter by the same factor."""
    loud = make_music(2)
    for recommended, chosen, is_normalized in ((None, "auto", False), ("peak", "auto", True), ("peak", "keep", False)):
        write_generator(tmp_path / "g.h5", **({"input_level": recommended} if recommended else {}))
        made = load_converter(weights.describe(tmp_path / "g.h5"), Settings(input_level=chosen))
        error = np.abs(10 * convert_audio(loud / 10, made) - convert_audio(loud, made)).max()
        assert (error < 1e-3 * np.abs(loud).max()) == is_normalized


# --- phase ------------------------------------------------------------------------------------------------------------


def test_griffin_lim_brings_the_audio_closer_to_the_magnitude():
    """The phase is that of one piece of music, the magnitude that of another."""
    other = make_music(4, 2)
    (wanted, _), (_, phase) = forward_transform(other), forward_transform(make_music(4, 1))
    chunk = (wanted / PUBLISHED.magnitude_scale, phase[: PUBLISHED.n_bins])
    results = {}
    for kind, iterations in (("input", 0), ("griffinlim", 0), ("griffinlim", 4), ("griffinlim", 24)):
        spectra = (output for output, _ in apply_phase([chunk], kind, PUBLISHED, iterations))
        audio = np.concatenate(list(istft_blocks(spectra, PUBLISHED)))[: len(other)]
        results[kind, iterations] = np.linalg.norm(forward_transform(audio)[0] - wanted)  # in proportion to convergence
    assert results["griffinlim", 0] == pytest.approx(results["input", 0], rel=1e-6)
    assert results["griffinlim", 24] < results["griffinlim", 4] < 0.9 * results["input", 0]


def test_refining_in_chunks_is_about_as_good_as_refining_the_whole():
    """Each chunk is refined together with frames of its neighbours, so the seams are as consistent as the rest."""
    spectrum = np.random.default_rng(0).normal(size=(256, 400, 2)).astype(np.float32).view(np.complex64)[..., 0]
    target = np.abs(spectrum[:, ::-1]).copy()
    whole = target * griffin_lim(target, unit(spectrum), spectrum[:, :0], 16, PUBLISHED)
    pieces = zip(np.split(target, 4, axis=1), np.split(spectrum, 4, axis=1), strict=True)
    streamed = list(apply_phase(pieces, "griffinlim", PUBLISHED))
    chunked = np.concatenate([s for s, _ in streamed], axis=1)
    np.testing.assert_array_equal(np.concatenate([s for _, s in streamed], axis=1), spectrum)
    np.testing.assert_allclose(np.abs(chunked), target, rtol=1e-4, atol=1e-5)

    def error(refined):
        audio = np.concatenate(list(istft_blocks([refined], PUBLISHED)))
        found = librosa.stft(audio, n_fft=1024, hop_length=512, window=np.hanning(1024))[:256, :400]
        return np.linalg.norm(np.abs(found) - target) / np.linalg.norm(target)

    assert error(chunked) < 1.02 * error(whole) < 0.9 * error(target * unit(spectrum))
