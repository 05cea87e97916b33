"""Voices: what --voices means, and folders of recorded notes: names, gaps, onsets and levels of made recordings."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import soundfile
from made_notes import made_note, measured_f0, write_recorded_notes

from common.errors import InputError
from synthesis.voices import (
    Voice,
    find_recorded_notes,
    parse_note_name,
    parse_voices,
    prepare_pitch,
)

RATE = 44100


def test_the_sources_of_an_instrument_are_read_and_named():
    sources = "FluidR3_GM.sf2:0,dir/b-v1.4.SF2:127,nsynth:7,notes/grand/,notes/../my piano (1),x/@audio-samples"
    assert parse_voices(f"piano={sources}") == [
        Voice("piano@FluidR3_GM-0", "piano", "soundfont", "FluidR3_GM.sf2", 0),
        Voice("piano@b-v1.4-127", "piano", "soundfont", "dir/b-v1.4.SF2", 127),
        Voice("piano@nsynth-007", "piano", "nsynth", "", 7),
        Voice("piano@grand", "piano", "folder", "notes/grand/", 0),
        Voice("piano@my_piano_1", "piano", "folder", "notes/../my piano (1)", 0),
        Voice("piano@audio-samples", "piano", "folder", "x/@audio-samples", 0),
    ]


@pytest.mark.parametrize(
    "text", ["piano", "piano=", "=a.sf2:0", "pi-ano=a.sf2:0", "piano=a.sf2", "piano=a.sf2:128", "piano=a.sf2:x",
             "piano=a.sf3:0", "piano=nsynth:", "piano=nsynth:1000", "piano=a.sf2:0,,b"],
)  # fmt: skip
def test_what_is_no_voice_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_voices(text)


# --- recorded notes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "expected"),
    [("A0", (21, None, None)), ("C4", (60, None, None)), ("C#4", (61, None, None)), ("Cs4", (61, None, None)),
     ("Db4", (61, None, None)), ("bb3", (58, None, None)), ("b3", (59, None, None)), ("D#6v12", (87, None, 12)),
     ("f#2 V3", (42, None, 3)), ("Piano.ff.Gb5", (78, None, None)), ("060", (60, None, None)),
     ("p108", (108, None, None)), ("060-100", (60, 100, None)), ("21_v7", (21, 7, None)),
     ("keyboard_acoustic_000-060-025", (60, 25, None)),
     *((stem, None) for stem in ("index", "H4", "C", "track1", "7", "200", "060-128", "060-000", "C12", "A4v0"))],
)  # fmt: skip
def test_pitch_velocity_and_layer_are_read_from_names(stem, expected):
    assert parse_note_name(stem) == expected


def test_layers_are_shares_of_the_loudest_one(tmp_path):
    write_recorded_notes(tmp_path / "soft", {"C4v1.wav": 60, "A4v1.wav": 69})
    write_recorded_notes(tmp_path / "loud", {"C4v4.wav": 60, "A4v2.wav": 69, "E4.wav": 64})
    (tmp_path / "README.txt").write_text("C4")
    write_recorded_notes(tmp_path, {"index.wav": 60})
    files = find_recorded_notes(tmp_path)
    assert sorted(files) == [(60, 32), (60, 127), (64, 127), (69, 32), (69, 64)]
    assert files[69, 64].endswith("loud/A4v2.wav")


def test_folders_that_are_no_voice_get_one_line(tmp_path):
    write_recorded_notes(tmp_path / "songs", {"song.wav": 60})
    write_recorded_notes(tmp_path / "twice", {"C#4.wav": 61, "Db4.wav": 61})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "C4.wav").write_text("no audio")
    for name in ("nowhere", "songs", "twice", "broken"):
        with pytest.raises(InputError):
            prepare_pitch(find_recorded_notes(tmp_path / name), 60)


@pytest.mark.parametrize("pitch", [48, 55, 60, 62, 63, 66, 72, 78])
def test_gaps_are_filled_in_tune(tmp_path, pitch):
    write_recorded_notes(tmp_path, {"C4.flac": 60, "F#4.flac": 66}, rate=48000)
    note = prepare_pitch(find_recorded_notes(tmp_path), pitch)[4]
    f0 = measured_f0(note[RATE // 10 : RATE // 2], RATE)
    assert 1200 * np.log2(f0 / (440 * 2 ** ((pitch - 69) / 12))) == pytest.approx(0, abs=1)  # cents


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("silence", [0, 0.0123, 0.15])
def test_onsets_line_up_whatever_the_format_and_the_silence_before(tmp_path, extension, silence):
    write_recorded_notes(tmp_path, {f"C5.{extension}": 72}, silence=silence)
    for note in prepare_pitch(find_recorded_notes(tmp_path), 72):
        # Of the made note, a tone that rises within 5 ms, half of the peak is reached 2 to 4 ms after its beginning.
        assert np.argmax(np.abs(note) > 0.5 * np.abs(note).max()) / RATE == pytest.approx(0.0055, abs=0.002)


def test_a_single_layer_follows_the_square_of_velocity(tmp_path):
    write_recorded_notes(tmp_path, {"C4.wav": 60})
    peaks = [np.abs(note).max() for note in prepare_pitch(find_recorded_notes(tmp_path), 60)]
    np.testing.assert_allclose(
        peaks, np.abs(made_note(60)).max() * (np.array([25, 50, 75, 100, 127]) / 127) ** 2, rtol=0.01
    )


def test_layers_keep_their_levels(tmp_path):
    time = np.arange(RATE) / RATE
    for velocity, level in ((25, 0.02), (50, 0.05), (75, 0.2), (100, 0.3), (127, 0.7)):
        soundfile.write(tmp_path / f"060-{velocity:03d}.wav", level * np.sin(2 * np.pi * 261.6 * time), RATE, "PCM_24")
    for pitch in (60, 61):
        peaks = [np.abs(note[4410:-4410]).max() for note in prepare_pitch(find_recorded_notes(tmp_path), pitch)]
        np.testing.assert_allclose(peaks, [0.02, 0.05, 0.2, 0.3, 0.7], rtol=0.01)


def test_a_note_is_let_go_after_three_seconds(tmp_path):
    time = np.arange(6 * RATE) / RATE
    soundfile.write(tmp_path / "C4.wav", 0.5 * np.sin(2 * np.pi * 262 * time), RATE)
    note = prepare_pitch(find_recorded_notes(tmp_path), 60)[4]
    level = [np.abs(note[round(t * RATE) :][:441]).max() for t in (1, 2.9, 3.1875, 3.375)]
    np.testing.assert_allclose(level, 0.5 * np.array([1, 1, np.exp(-1), np.exp(-2)]), rtol=0.06)
