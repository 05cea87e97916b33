"""Hums to guitars: length, pitch, loudness, attacks and seams, with networks whose answer is known."""

import dataclasses
import pathlib

import mir_eval
import numpy as np
import pytest

import predict
from common import weights
from hum2guitar.converter import HumConverter
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.melody import analyse, string_fall
from models.results import synthesize_voice
from sound.blocks import resample
from sound.files import read_audio, write_audio

RATE = PUBLISHED.sample_rate


def voice(*notes: float, seconds: float = 1.0) -> np.ndarray:
    return synthesize_voice(np.repeat(np.asarray(notes, float), round(seconds * RATE)))


def plain(level: np.ndarray) -> np.ndarray:
    """A network whose guitar is the harmonics themselves."""
    return level


def loud(level: np.ndarray) -> np.ndarray:
    """A network that knows nothing of loudness: its loudest place is always at -10 dB."""
    return np.where(level > -1, np.clip(level - level.max() + 0.8, -1, 1), -1).astype(np.float32)


def describe(network=weights.LOCAL_ENHANCER, representation=PUBLISHED, **settings) -> weights.Description:
    settings["representation"] = representation.to_dict()
    return weights.Description(pathlib.Path("generator.h5"), network, 1, 2, settings)


def convert(audio: np.ndarray, network=plain, n_block=30000, plucks=False, representation=PUBLISHED, **settings):
    """Mono or ``(n, n_channels)``. With the cepstrum and few iterations, which are fast, unless `settings` differ."""
    description = describe(representation=representation, augment=plucks)
    converter = HumConverter(description, network, **{"f0": "cepstrum", "transpose": 0, "n_iterations": 4, **settings})
    samples = audio.reshape(len(audio), -1 if audio.size else 1)
    blocks = [samples[start : start + n_block] for start in range(0, len(audio), n_block)]
    return np.concatenate([samples[:0], *converter.convert(iter(blocks))]).reshape(audio.shape)


def level_db(audio: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(audio)))


@pytest.mark.parametrize("n_samples", [0, 1, 511, 512, 2047, 30001])
def test_the_length_is_kept(n_samples):
    found = convert(voice(220, seconds=1.5)[:n_samples])
    assert found.shape == (n_samples,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_how_the_sound_is_cut_into_blocks_and_spread_over_channels_makes_no_difference():
    audio = voice(150, 200, 0, 250, seconds=6)  # more than two of all chunks
    whole = convert(audio, n_block=10**6)
    np.testing.assert_allclose(convert(audio, n_block=7777), whole, atol=1e-5)
    stereo = convert(np.stack([1.5 * audio, 0.5 * audio], axis=1))
    np.testing.assert_allclose(stereo, np.stack([whole, whole], axis=1), atol=1e-5)


def test_silence_stays_silent_and_rests_stay_rests():
    assert not convert(np.zeros(3 * RATE, np.float32)).any()
    hummed = np.concatenate([voice(200), np.zeros(8 * RATE, np.float32)])
    found = convert(hummed, lambda level: np.full_like(level, 0.6))
    assert np.abs(found[: RATE // 2]).max() > 0.01
    assert not found[2 * RATE :].any()  # whatever the network says


@pytest.mark.parametrize("network", [weights.LOCAL_ENHANCER, weights.GLOBAL_GENERATOR])
def test_the_guitar_plays_the_melody_that_was_hummed(network):
    description = describe(network, f0="pyin")  # of an earlier version
    hummed = voice(147, 196, 165, 220, 262, seconds=0.8)
    made = HumConverter(description, plain, transpose=0).convert([hummed[:, np.newaxis]])
    found = np.concatenate(list(made))[:, 0]
    expected, heard = analyse(hummed)[0], analyse(found)[0]
    times = np.arange(len(expected)) * PUBLISHED.hop_length / RATE
    assert mir_eval.melody.evaluate(times, expected, times, heard)["Raw Pitch Accuracy"] > 0.93


@pytest.mark.parametrize(("hummed", "transpose", "heard"), [(80, None, 160), (1800, None, 900), (110, 7, 164.81)])
def test_the_pitch_is_moved_as_asked_or_by_octaves_into_the_guitars_range(hummed, transpose, heard):
    low = dataclasses.replace(PUBLISHED, f0_low=150.0)
    found = convert(voice(hummed, seconds=2), f0="swiftf0", transpose=transpose, n_iterations=8, representation=low)
    f0 = analyse(found)[0]
    assert np.median(f0[f0 > 0]) == pytest.approx(heard, rel=0.01)


def test_loudness_follows_the_hum_even_where_the_network_has_no_sense_of_it():
    audio = voice(200, seconds=20)
    audio[10 * RATE :] *= 0.1
    found = convert(audio, loud)
    first, last = found[2 * RATE : 8 * RATE], found[12 * RATE : 18 * RATE]
    assert level_db(first) - level_db(last) == pytest.approx(20, abs=1)
    assert level_db(first) == pytest.approx(level_db(audio[2 * RATE : 8 * RATE]), abs=3)


def test_a_held_note_is_plucked_once_for_a_network_that_was_trained_so():
    """Notes last longer than a window. The network knows nothing of loudness: it comes from the melody."""
    held = voice(220, 330, seconds=6)
    for plucks in (False, True):
        seconds = np.split(convert(held, loud, plucks=plucks), 12)
        for start, f0 in ((1, 220), (7, 330)):
            fall = level_db(seconds[start]) - level_db(seconds[start + 3])
            string = [level_db(10 ** (string_fall(f0, np.linspace(t, t + 1, 100)) / -20)) for t in (1, 4)]
            assert fall == pytest.approx(string[0] - string[1] if plucks else 0, abs=2)


def test_every_note_has_its_attack_at_the_very_start_and_without_a_rest_before_it():
    found = convert(voice(220, 330, seconds=2), loud, plucks=True)
    assert np.abs(found[: RATE // 50]).max() > 0.7 * np.abs(found[: RATE // 5]).max()
    envelope = np.sqrt(np.mean(np.square(found[: len(found) // 110 * 110].reshape(-1, 110)), axis=1))  # every 5 ms
    onset = np.argmax(np.diff(envelope[200:600])) + 200
    assert onset * 110 / RATE == pytest.approx(2, abs=0.05)
    assert envelope[onset + 2] > 2 * envelope[onset - 1] > 0.01  # the first note rings until the second one begins


def test_windows_leave_no_seam():
    found = convert(voice(220, seconds=10), f0="swiftf0", n_iterations=8)
    frames = found[RATE : 9 * RATE].reshape(-1, 1470)  # 15 periods of 1/15 s
    loudness = 10 * np.log10(np.mean(np.square(frames), axis=1))
    assert np.ptp(loudness) < 3
    assert np.abs(np.diff(loudness)).max() < 1.5


def test_predict_converts_a_hum_of_any_rate_to_the_same_length(tmp_path, write_hum2guitar):
    for augment in (False, True):
        path = write_hum2guitar(tmp_path / "generator.h5", augment=augment)
        assert HumConverter(weights.describe(path), plain).plucks == augment
    hummed = resample(voice(130, 147, 165, 0, 131, seconds=0.5), RATE, 8000)
    source, output = tmp_path / "hum.wav", tmp_path / "made" / "guitar.wav"
    write_audio(source, hummed, 8000)
    arguments = ["--model", path, "--input", source, "--output", output, "--gpu", "-1"]
    assert predict.main([str(argument) for argument in arguments]) == 0
    found = read_audio(output, None)
    assert len(found) == round(len(hummed) * RATE / 8000)  # at the network's rate, which holds its band
    assert np.isfinite(found).all()
    assert 0.7 < np.abs(found).max() < 0.892  # normalised


def test_chords_and_notes_beyond_the_guitar_are_said_in_one_line_and_melodies_are_not(capsys):
    def said(audio, transpose=None):
        convert(audio, f0="swiftf0", transpose=transpose)
        return capsys.readouterr().err.splitlines()

    melody, chord = voice(147, 196, 165), voice(131) + voice(156) + voice(207)
    assert said(melody) == []
    assert [line.startswith("moved down by 1 octave,") for line in said(voice(1800))] == [True]
    for audio in (np.concatenate([chord, melody[:RATE]]), np.random.default_rng(0).normal(0, 0.1, RATE)):
        (line,) = said(audio.astype(np.float32))
        assert int(line.split("%")[0]) > 40
    (line,) = said(melody, transpose=-24)
    assert line.startswith("100% of the melody lies outside")
    (line,) = said(1e-5 * melody)
    assert "silent" in line
