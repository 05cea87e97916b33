"""Voices: what --voices means, the names of their folders, and what they cannot play."""

from __future__ import annotations

import argparse
import os

import numpy as np
import pytest
import soundfile
from made_notes import piece_of, write_recorded_notes

from synthesis.mixing import synthesize
from synthesis.notes import NoteBank
from synthesis.recorded import find_recorded_notes, recorded_instrument
from synthesis.voices import Voice, parse_voices, prepare_notes


def test_the_sources_of_an_instrument_are_read():
    assert parse_voices("keyboard_acoustic=FluidR3_GM.sf2:0,dir/b.SF2:127,nsynth:7,notes/grand") == [
        Voice("keyboard_acoustic", "soundfont", "FluidR3_GM.sf2", 0),
        Voice("keyboard_acoustic", "soundfont", "dir/b.SF2", 127),
        Voice("keyboard_acoustic", "nsynth", "", 7),
        Voice("keyboard_acoustic", "folder", "notes/grand", 0),
    ]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/usr/share/FluidR3_GM.sf2:0", "piano@FluidR3_GM-0"),
        ("GeneralUser-v1.47.sf2:12", "piano@GeneralUser-v1.47-12"),
        ("nsynth:7", "piano@nsynth-007"),
        ("notes/grand", "piano@grand"),
        ("notes/grand/", "piano@grand"),
        ("notes/../my piano (1)", "piano@my_piano_1"),
        ("node_modules/@audio-samples", "piano@audio-samples"),
    ],
)
def test_a_voice_is_named_after_its_source(source, name):
    (voice,) = parse_voices(f"piano={source}")
    assert voice.name == name


@pytest.mark.parametrize(
    "text", ["piano", "piano=", "=a.sf2:0", "pi-ano=a.sf2:0", "piano=a.sf2", "piano=a.sf2:128", "piano=a.sf2:x",
             "piano=a.sf3:0", "piano=nsynth:", "piano=nsynth:1000", "piano=a.sf2:0,,b"],
)  # fmt: skip
def test_what_is_no_voice_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_voices(text)


def test_prepared_notes_are_played_and_counted_by_where_they_came_from(tmp_path):
    write_recorded_notes(tmp_path / "notes", {"C4.wav": 60, "E4.wav": 64})
    instrument = recorded_instrument("piano", find_recorded_notes(tmp_path / "notes"), tmp_path / "prepared")
    for pitch in (60, 62):
        prepare_notes(instrument, pitch)
    info = soundfile.info(instrument.notes[62, 25])
    assert (info.samplerate, info.channels, info.frames) == (44100, 1, 4 * 44100)
    assert os.path.basename(instrument.notes[62, 25]) == "piano_000-062-025.wav"
    piece = piece_of((0, 1, 60, 127), (0, 1, 60, 100), (0, 1, 62, 127), (0, 1, 47, 127), (0, 1, 77, 100))
    audio, counts = synthesize(piece, NoteBank(instrument))
    assert counts == {"played": 5, "velocity": 1, "pitch": 1, "silent": 2}
    assert np.isfinite(audio).all()
