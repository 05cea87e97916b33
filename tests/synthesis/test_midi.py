"""Reading MIDI files, against hand-computed times and pretty_midi."""

from __future__ import annotations

import os
import struct

import mido
import numpy as np
import pretty_midi
import pytest
from made_notes import write_midi

from common.errors import InputError
from synthesis.midi import find_midi, read_midi


def test_tempo_changes_are_honoured(tmp_path):
    # 120 beats a minute for 2 s, then 60: a second as written lasts two.
    extra = [(2, mido.MetaMessage("set_tempo", tempo=1_000_000))]
    path = write_midi(tmp_path / "a.mid", [(0, 1, 60, 80), (1.5, 2.5, 62, 90), (3, 3.25, 64, 100)], extra=extra)
    piece = read_midi(path)
    assert [note[2:] for note in piece.notes] == [(60, 80), (62, 90), (64, 100)]
    np.testing.assert_allclose([note[:2] for note in piece.notes], [(0, 1), (1.5, 3), (4, 4.5)], atol=1e-9)
    assert piece.seconds == pytest.approx(4.5)


def test_notes_equal_those_of_pretty_midi(tmp_path):
    rng = np.random.default_rng(3)
    midi = pretty_midi.PrettyMIDI(initial_tempo=97)
    for program, is_drum in ((0, False), (40, False), (0, True)):
        instrument = pretty_midi.Instrument(program, is_drum)
        for pitch in rng.permutation(np.arange(30, 90)):  # each pitch once: no two rules for overlaps
            start = rng.uniform(0, 20)
            end = start + rng.uniform(0.05, 3)
            instrument.notes.append(pretty_midi.Note(int(rng.integers(1, 128)), int(pitch), start, end))
        midi.instruments.append(instrument)
    midi.write(str(tmp_path / "a.mid"))
    expected = sorted(
        (note.start, note.end, note.pitch, note.velocity)
        for instrument in pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments
        for note in instrument.notes
        if not instrument.is_drum
    )
    piece = read_midi(tmp_path / "a.mid")
    assert len(piece.notes) == 120
    np.testing.assert_allclose(np.array(piece.notes), np.array(expected), atol=1e-9)
    assert piece.seconds == pytest.approx(max(end for _, end, *_ in expected))


def pedal(time: float, value: int):
    return (time, mido.Message("control_change", control=64, value=value))


def test_sustain_pedal_lengthens_notes(tmp_path):
    notes = [(0, 0.5, 60, 80), (1.0, 1.2, 60, 80), (1.0, 1.2, 64, 80), (2.5, 2.75, 67, 80), (3, 3.5, 69, 80)]
    extra = [pedal(0.25, 64), pedal(2, 63), pedal(2.6, 127)]
    path = write_midi(tmp_path / "a.mid", notes, extra=extra)
    plain = read_midi(path)
    assert [note.end for note in plain.notes] == [0.5, 1.2, 1.2, 2.75, 3.5]
    piece = read_midi(path, sustain_pedal=True)
    # The first is struck again at 1, both of the second chord ring until 2, the rest until the file ends.
    np.testing.assert_allclose([note.end for note in piece.notes], [1, 2, 2, 3.5, 3.5])
    assert [note.start for note in piece.notes] == [0, 1, 1, 2.5, 3]


def test_sustain_pedal_holds_only_its_channel(tmp_path):
    path = write_midi(tmp_path / "a.mid", [(0, 0.5, 60, 80)], channel=3, extra=[pedal(0.25, 127), pedal(2, 0)])
    assert read_midi(path, sustain_pedal=True).seconds == 0.5


def test_drums_alone_are_no_piece(tmp_path):
    path = write_midi(tmp_path / "drums.mid", [(0, 1, 40, 90)], channel=9)
    with pytest.raises(InputError, match=r"drums\.mid: expected notes"):
        read_midi(path)


def test_a_piece_that_ends_after_a_day_is_refused(tmp_path):
    short = write_midi(tmp_path / "short.mid", [(86390, 86399, 60, 80)])
    assert read_midi(short).seconds == pytest.approx(86399)
    with pytest.raises(
        InputError, match=r"long\.mid: expected a piece that ends within a day \(24 h\), found one of 24\.0 h"
    ):
        read_midi(write_midi(tmp_path / "long.mid", [(0, 86401, 60, 80)]))


@pytest.mark.parametrize(
    "content", [b"", b"MThd", b"RIFF....WAVE", b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\1\0\0\x90\x3c"]
)
def test_a_broken_midi_is_named(tmp_path, content):
    (tmp_path / "broken.mid").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.mid: expected a MIDI file"):
        read_midi(tmp_path / "broken.mid")


def test_timing_that_is_not_in_beats_is_refused(tmp_path):
    content = bytearray(write_midi(tmp_path / "a.mid", [(0, 1, 60, 80)]).read_bytes())
    content[12:14] = b"\xe7\x28"  # SMPTE: 25 frames a second, 40 ticks a frame
    (tmp_path / "a.mid").write_bytes(content)
    with pytest.raises(InputError, match="SMPTE"):
        read_midi(tmp_path / "a.mid")


def test_midi_is_found_in_subfolders(tmp_path):
    for name in ("b.mid", "sub/deep/a.MIDI", ".hidden.mid", "text.txt"):
        write_midi(tmp_path / name, [(0, 1, 60, 80)])
    assert find_midi(tmp_path) == [tmp_path / "b.mid", tmp_path / "sub/deep/a.MIDI"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"--midi_path: expected MIDI files \(\.mid \.midi\), found none"):
        find_midi(tmp_path / "empty", "--midi_path")


# --- files that are not trusted ---------------------------------------------------------------------------------------


def midi_of(track: bytes, announced: int = 6) -> bytes:
    header = b"MThd" + struct.pack(">LHHH", announced, 0, 1, 480)
    return header + b"MTrk" + struct.pack(">L", len(track)) + track


@pytest.mark.parametrize(
    "content",
    [
        midi_of(b"\0\x90\x40\x40", announced=2**32 - 1),
        midi_of(b"\xff" * 2**20),  # a time of 2**20 bytes: mido would read it, in a time that grows with its square
        midi_of(b"\x81" * 4000 + b"\0\x90\x40\x40\x01\x80\x40\0"),  # a time beyond floating point
        b"",
        bytes(2**23 + 1),
    ],
)
def test_numbers_that_ask_for_much_memory_or_time_are_refused(tmp_path, content):
    (tmp_path / "a.mid").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mid: expected"):
        read_midi(tmp_path / "a.mid")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_no_midi_file(tmp_path):
    os.mkfifo(tmp_path / "a.mid")
    with pytest.raises(InputError, match="a pipe"):
        read_midi(tmp_path / "a.mid")
