"""SoundFonts: which programs, and the notes that are rendered."""

from __future__ import annotations

import numpy as np
import pretty_midi
import pytest
from made_notes import measured_f0

from common.errors import InputError
from synthesis import soundfonts
from synthesis.soundfonts import PROGRAMS, default_soundfont, read_soundfont, render_pitch, soundfont_instrument

RATE = 44100
SOUNDFONT = default_soundfont()


def test_every_family_and_source_has_a_program_of_its_kind():
    kinds = {"flute": "Pipe", "keyboard": "Piano", "mallet": "Chromatic Percussion", "string": "Ensemble"}
    kinds |= {"synth_lead": "Synth Lead", "vocal": "Ensemble"}
    for name, program in PROGRAMS.items():
        family = name.rsplit("_", 1)[0]
        assert pretty_midi.program_to_instrument_class(program) == kinds.get(family, family.capitalize())
    assert len(PROGRAMS) == len(set(PROGRAMS.values())) == 33
    assert read_soundfont(SOUNDFONT)[0] == set(range(128))


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def test_the_programs_of_a_soundfont_are_read(tmp_path):
    def header(program, bank):
        return b"name".ljust(20, b"\0") + program.to_bytes(2, "little") + bank.to_bytes(2, "little") + b"\0" * 14

    lists = chunk(b"LIST", b"INFO" + chunk(b"isng", b"odd")) + chunk(b"LIST", b"sdta" + chunk(b"smpl", b"\0" * 6))
    phdr = chunk(b"phdr", header(24, 0) + header(0, 0) + header(5, 128) + header(0, 0))
    (tmp_path / "a.sf2").write_bytes(chunk(b"RIFF", b"sfbk" + lists + chunk(b"LIST", b"pdta" + phdr)))
    assert read_soundfont(tmp_path / "a.sf2")[0] == {0, 24}
    assert soundfont_instrument("own", tmp_path / "a.sf2", 24, tmp_path).can_play(60)
    with pytest.raises(InputError):
        soundfont_instrument("own", tmp_path / "a.sf2", 5, tmp_path)


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVEfmt ", b"RIFF\0\0\0\0sfbkLIST\xff\0\0\0pdtaphdr\x26\0\0\0"])
def test_what_is_no_soundfont_is_told(tmp_path, content):
    (tmp_path / "a.sf2").write_bytes(content)
    for read in (read_soundfont, lambda path: render_pitch(path, 0, 60)):
        with pytest.raises(InputError):
            read(tmp_path / "a.sf2")


def test_the_death_of_the_renderer_is_one_line(monkeypatch):
    monkeypatch.setattr(soundfonts, "MAX_BYTES", -4 * SOUNDFONT.stat().st_size + 2**20)  # not enough to start
    with pytest.raises(InputError):
        render_pitch(SOUNDFONT, 25, 60)


@pytest.mark.parametrize(("program", "pitch"), [(25, 60), (25, 48), (48, 72)])
def test_notes_begin_at_one_time_and_have_no_dc(program, pitch):
    """The guitar's samples are offset by up to 17 % of their RMS, and its attacks begin at 3 to 8 ms."""
    for note in render_pitch(SOUNDFONT, program, pitch):
        assert np.argmax(np.abs(note) > 0.0316228 * np.abs(note).max()) / RATE == pytest.approx(0.003, abs=1e-3)
        window = note[2205:22050]
        assert abs(window.mean()) < 0.01 * window.std()


def test_rendered_notes_have_the_pitch_the_velocity_and_the_shape():
    notes = render_pitch(SOUNDFONT, 48, 57)  # string ensemble: sustains, then releases
    assert measured_f0(notes[4][RATE : 2 * RATE], RATE) == pytest.approx(220, rel=0.01)
    rms = np.array([np.sqrt(np.mean(note[: 3 * RATE] ** 2)) for note in notes])
    assert len(rms) == 5
    assert (np.diff(rms) > 0).all()
    for note, level in zip(notes, rms, strict=True):
        assert np.abs(note[: RATE // 10]).max() == pytest.approx(level, rel=2)  # it starts at once
    held, released = (np.abs(notes[4][round(t * RATE) :][: RATE // 10]).max() for t in (2.9, 3.9))
    assert released < held / 10
    for note, again in zip(notes, render_pitch(SOUNDFONT, 48, 57), strict=True):
        np.testing.assert_array_equal(note, again)
