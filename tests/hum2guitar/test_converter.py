"""Hums to guitars: length, pitch, loudness, seams and memory, with networks whose answer is known."""

import dataclasses

import mir_eval
import numpy as np
import pytest

import model
import predict
from common import weights
from hum2guitar import converter, networks
from hum2guitar.converter import HumConverter, HumSettings
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.pitch import analyse
from hum2guitar.plucks import string_fall
from models.hums import synthesize_voice
from sound.blocks import resample
from sound.files import read_audio, write_audio

RATE = PUBLISHED.sample_rate
CEPSTRUM = HumSettings(f0="cepstrum", transpose=0)  # fast


def voice(*notes: float, seconds: float = 1.0) -> np.ndarray:
    return synthesize_voice(np.repeat(np.asarray(notes, float), round(seconds * RATE)))


def plain(level: np.ndarray) -> np.ndarray:
    """A network whose guitar is the harmonics themselves."""
    return level


def loud(level: np.ndarray) -> np.ndarray:
    """A network that knows nothing of loudness: its loudest place is always at -10 dB."""
    return np.where(level > -1, np.clip(level - level.max() + 0.8, -1, 1), -1).astype(np.float32)


def convert(audio: np.ndarray, network=plain, settings=CEPSTRUM, n_block=30000, **arguments) -> np.ndarray:
    converter = HumConverter(network, settings=settings, n_iterations=arguments.pop("n_iterations", 4), **arguments)
    blocks = [audio[start : start + n_block] for start in range(0, len(audio), n_block)]
    return np.concatenate([np.zeros(0, np.float32), *converter.convert(iter(blocks))])


def level_db(audio: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(audio)))


@pytest.mark.parametrize("n_samples", [0, 1, 511, 512, 513, 2047, 30001])
def test_the_length_is_kept(n_samples):
    found = convert(voice(220, seconds=1.5)[:n_samples])
    assert found.shape == (n_samples,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_how_the_sound_is_cut_into_blocks_makes_no_difference():
    audio = voice(150, 200, 0, 250, seconds=6)  # more than two of all chunks
    whole = convert(audio, n_block=10**6)
    assert len(whole) == len(audio)
    np.testing.assert_allclose(convert(audio, n_block=7777), whole, atol=1e-5)


def test_silence_stays_silent_and_rests_stay_rests():
    assert not convert(np.zeros(3 * RATE, np.float32)).any()
    found = convert(
        np.concatenate([voice(200), np.zeros(8 * RATE, np.float32)]), lambda level: np.full_like(level, 0.6)
    )
    assert np.abs(found[: RATE // 2]).max() > 0.01
    assert not found[2 * RATE :].any()  # whatever the network says


@pytest.mark.parametrize("halves", [False, True])
def test_the_guitar_plays_the_melody_that_was_hummed(halves):
    hummed = voice(147, 196, 165, 220, 262, seconds=0.8)
    found = convert(hummed, settings=HumSettings(transpose=0), n_iterations=8, halves=halves)
    expected, heard = analyse(hummed)[0], analyse(found)[0]
    times = np.arange(len(expected)) * PUBLISHED.hop_length / RATE
    scores = mir_eval.melody.evaluate(times, expected, times, heard)
    assert scores["Raw Pitch Accuracy"] > 0.93


@pytest.mark.parametrize(("hummed", "transpose", "heard"), [(80, None, 160), (1800, None, 900), (110, 7, 164.81)])
def test_the_pitch_is_moved_as_asked_or_by_octaves_into_the_guitars_range(hummed, transpose, heard):
    settings, representation = HumSettings(transpose=transpose), dataclasses.replace(PUBLISHED, f0_low=150.0)
    found = convert(voice(hummed, seconds=2), settings=settings, n_iterations=8, representation=representation)
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


def test_notes_without_a_rest_between_begin_as_steeply_as_the_first():
    found = convert(voice(220, 330, seconds=2), loud, plucks=True)
    envelope = np.sqrt(np.mean(np.square(found[: len(found) // 110 * 110].reshape(-1, 110)), axis=1))  # every 5 ms
    onset = np.argmax(np.diff(envelope[200:600])) + 200
    assert onset * 110 / RATE == pytest.approx(2, abs=0.05)
    assert envelope[onset + 2] > 2 * envelope[onset - 1] > 0.01  # the first note rings until the second one begins


def test_a_note_at_the_very_start_has_its_attack():
    found = convert(voice(200), loud, plucks=True)
    envelope = np.abs(found[: RATE // 5])
    assert envelope[: RATE // 50].max() > 0.7 * envelope.max()


def test_the_weights_say_whether_notes_are_plucked(tmp_path, write_hum2guitar):
    for augment in (False, True):
        path = write_hum2guitar(tmp_path / "generator.h5", augment=augment)
        made = converter.make_converter(weights.describe(path), HumSettings(), 0.25, plain)
        assert made.plucks == augment


def test_windows_leave_no_seam():
    found = convert(voice(220, seconds=10), settings=HumSettings(transpose=0), n_iterations=8)
    frames = found[RATE : 9 * RATE].reshape(-1, 1470)  # 15 periods of 1/15 s
    loudness = 10 * np.log10(np.mean(np.square(frames), axis=1))
    assert np.ptp(loudness) < 3
    assert np.abs(np.diff(loudness)).max() < 1.5


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "generator.h5"
    settings = {"system": "hum2guitar", "representation": PUBLISHED.to_dict(), "base_filters": 2, "f0": "pyin"}
    model.save(networks.build_local_enhancer(2, seed=1), path, settings)
    return path


def test_predict_converts_a_hum_of_any_rate_to_the_same_length(weights_file, tmp_path, capsys):
    hummed = resample(voice(130, 147, 165, 0, 131, seconds=0.5), RATE, 8000)
    source, output = tmp_path / "hum.wav", tmp_path / "made" / "guitar.wav"
    write_audio(source, hummed, 8000)
    arguments = ["--model", weights_file, "--input", source, "--output", output, "--gpu", "-1"]
    assert predict.main([str(argument) for argument in arguments]) == 0
    found = read_audio(output, None)
    assert len(found) == round(len(hummed) * RATE / 8000)  # at the network's rate, which holds its band
    assert np.isfinite(found).all()
    assert 0.7 < np.abs(found).max() < 0.892  # normalised
    assert str(output) in capsys.readouterr().out


def test_chords_and_notes_beyond_the_guitar_are_said_in_one_line_and_melodies_are_not(capsys):
    def said(audio, **settings):
        convert(audio, settings=HumSettings(**settings))
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
