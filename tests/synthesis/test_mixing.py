"""Reading MIDI, finding notes and mixing them, against hand-computed times, pitches and samples."""

from __future__ import annotations

import mido
import numpy as np
import pretty_midi
import pytest
import soundfile
from made_notes import made_note, measured_f0, write_midi, write_notes

from common.audio import read_audio
from common.errors import InputError
from synthesis.midi import Note, Piece, find_midi, read_midi
from synthesis.mixing import Playing, synthesize, write_piece
from synthesis.notes import (
    PROGRAMS,
    SAMPLE_RATE,
    Instrument,
    NoteBank,
    choose_programs,
    default_soundfont,
    find_notes,
    has_pitch,
    render_notes,
    render_pitch,
    soundfont_instruments,
    soundfont_programs,
)

RATE = SAMPLE_RATE


def piece_of(*notes) -> Piece:
    notes = tuple(Note(*note) for note in notes)
    return Piece(notes, max(note.end for note in notes))


@pytest.fixture(scope="module")
def bank_folder(tmp_path_factory):
    """Every pitch from 48 to 72 in three velocities."""
    folder = tmp_path_factory.mktemp("notes")
    write_notes(folder, "keyboard_acoustic", range(48, 73, 4), (25, 100, 127))
    return folder


@pytest.fixture
def bank(bank_folder):
    return NoteBank(find_notes(bank_folder, ["keyboard_acoustic"])[0])


# --- MIDI -------------------------------------------------------------------------------------------------------------


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


# --- notes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "audio", "nsynth-train/audio"])
def test_notes_are_found_in_the_folder_and_in_the_download(tmp_path, place):
    write_notes(tmp_path / place, "synth_lead_synthetic", [60], [100, 127], preset=7)
    (instrument,) = find_notes(tmp_path, ["synth_lead_synthetic"], preset=7)
    assert set(instrument.notes) == {(60, 100), (60, 127)}
    np.testing.assert_allclose(NoteBank(instrument).note(60, 127)[0], made_note(60, 127), atol=2**-15)


def test_what_is_not_in_the_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="--nsynth_path: expected a folder"):
        find_notes(tmp_path / "none", ["guitar_acoustic"])
    with pytest.raises(InputError, match=r"--nsynth_path: expected notes such as guitar_acoustic_000-060-100\.wav"):
        find_notes(tmp_path, ["guitar_acoustic"])
    write_notes(tmp_path, "bass_electronic", [60], [100], preset=2)
    with pytest.raises(InputError, match=r"--instruments: .*\(bass_electronic\), found guitar_acoustic"):
        find_notes(tmp_path, ["guitar_acoustic"])
    with pytest.raises(InputError, match=r"--preset: .*\(2\), found 0"):
        find_notes(tmp_path, ["bass_electronic"])


def test_velocity_is_rounded_to_the_nearest_of_nsynth(bank):
    for velocity, expected in ((1, 25), (37, 25), (88, 100), (113, 100), (114, 127), (127, 127)):
        note, how = bank.note(60, velocity)
        assert how == ""
        np.testing.assert_allclose(note, made_note(60, expected), atol=2**-15)


def test_a_missing_velocity_is_taken_from_the_nearest_one(bank):
    note, how = bank.note(60, 80)  # 75 is not there; 100 is nearer than 25
    assert how == "velocity"
    np.testing.assert_allclose(note, made_note(60, 100), atol=2**-15)


@pytest.mark.parametrize(("pitch", "source"), [(61, 60), (59, 60), (74, 72), (40, 48), (36, 48)])
def test_a_missing_pitch_is_resampled_from_the_nearest_one(bank, pitch, source):
    note, how = bank.note(pitch, 100)
    assert how == "pitch"
    assert measured_f0(note[1600:8000], RATE) == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=1e-3)
    assert len(note) == pytest.approx(64000 * 2 ** ((source - pitch) / 12), abs=2)


def test_beyond_an_octave_there_is_silence_and_it_is_counted(bank):
    assert bank.note(35, 100)[1] == bank.note(85, 100)[1] == "silent"
    audio, counts = synthesize(piece_of((0, 1, 35, 100), (0, 1, 60, 80), (0, 1, 60, 100), (0, 1, 61, 100)), bank)
    assert counts == {"played": 4, "silent": 1, "velocity": 1, "pitch": 1}
    assert audio.any()
    audio, counts = synthesize(piece_of((0, 1, 20, 100)), bank)
    assert not audio.any()
    assert len(audio) == 44100
    assert counts == {"played": 1, "silent": 1}


def test_a_note_is_the_same_to_the_bit_however_often_it_was_played(bank):
    before = bank.note(60, 100)[0].copy()
    piece = piece_of((0, 0.3, 60, 100), (0.2, 1, 60, 100), (0.7, 1.1, 60, 100))
    first, _ = synthesize(piece, bank)
    second, _ = synthesize(piece, bank)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(bank.note(60, 100)[0], before)
    with pytest.raises(ValueError, match="read-only"):
        bank.note(60, 100)[0][0] = 1
    # Far enough apart, the later one sounds exactly like the first.
    audio, _ = synthesize(piece_of((0, 0.2, 60, 100), (2, 2.2, 60, 100), (4, 5, 60, 25)), bank, sample_rate=RATE)
    np.testing.assert_array_equal(audio[: 2 * RATE], audio[2 * RATE : 4 * RATE])


# --- mixing -----------------------------------------------------------------------------------------------------------


def test_a_note_is_cut_and_released_by_the_published_formula(bank):
    # 0.25 s times 4 is 1 s; what follows in the piece is far below in level and later.
    piece = piece_of((0.5, 0.75, 60, 100), (2.9, 3, 48, 25))
    audio, _ = synthesize(piece, bank, sample_rate=RATE)
    note = read_audio(bank._instrument.notes[60, 100], RATE).astype(np.float64)
    expected = np.zeros(3 * RATE)
    expected[8000:24000] = note[:16000]
    expected[8000 + 14400 : 24000] *= np.exp(-np.arange(1600) / 3000)
    expected[:46400] *= 32000 / 32768 / np.abs(expected).max()
    np.testing.assert_allclose(audio[:46400], expected[:46400], atol=1e-6)
    assert np.abs(audio).max() == pytest.approx(32000 / 32768, abs=1e-6)


def test_notes_add_up(bank):
    together, _ = synthesize(piece_of((0, 1, 60, 127), (0.5, 1, 64, 25)), bank, sample_rate=RATE)
    first, second = bank.note(60, 127)[0], bank.note(64, 25)[0]
    expected = first[:16000].astype(np.float64)
    expected[8000:] += second[:8000]
    np.testing.assert_allclose(together, expected * (32000 / 32768 / np.abs(expected).max()), atol=1e-6)


def test_duration_rate_and_playback_speed(bank):
    def sounding(piece, **playing):
        audio, _ = synthesize(piece, bank, Playing(**playing), sample_rate=RATE)
        return len(audio) / RATE, np.flatnonzero(np.abs(audio[: int(0.9 * len(audio))]) > 1e-4)[[0, -1]] / RATE

    piece = piece_of((0.5, 0.75, 60, 100), (7.9, 8, 60, 25))
    for playing, length, start, end in (
        ({"duration_rate": 1}, 8, 0.5, 0.75),
        ({}, 8, 0.5, 1.5),
        ({"playback_speed": 2}, 4, 0.25, 0.75),
        ({"playback_speed": 0.5, "duration_rate": 1}, 16, 1, 1.5),
        ({"duration_rate": 100}, 8, 0.5, 4.5),  # no longer than the recorded note
    ):
        measured, sound = sounding(piece, **playing)
        assert measured == length
        np.testing.assert_allclose(sound, (start, end), atol=0.005)


def test_what_rings_past_the_end_is_cut_there(bank):
    audio, _ = synthesize(piece_of((0, 0.5, 60, 100), (0.25, 0.5, 64, 100)), bank, sample_rate=RATE)
    assert len(audio) == RATE // 2
    assert np.abs(audio[-100:]).max() > 0.1


def test_transposing_an_octave_doubles_the_pitch(bank):
    piece = piece_of((0, 2, 56, 100))
    pitches = []
    for transpose in (0, 12, -8):
        audio, _ = synthesize(piece, bank, Playing(transpose=transpose))
        pitches.append(measured_f0(audio[4410:44100], 44100))
    assert pitches[0] == pytest.approx(440 * 2 ** (-13 / 12), rel=1e-3)
    assert pitches[1] / pitches[0] == pytest.approx(2, rel=1e-3)
    assert pitches[2] / pitches[0] == pytest.approx(2 ** (-8 / 12), rel=1e-3)


def test_a_speed_that_makes_a_piece_longer_than_a_day_is_refused(bank):
    with pytest.raises(InputError, match=r"--playback_speed: .*within a day \(24 h\)"):
        synthesize(piece_of((0, 60, 60, 100)), bank, Playing(playback_speed=1e-4))


@pytest.mark.parametrize("block", [1000, 4096, 70000])
def test_blocks_leave_no_seam(bank, tmp_path, monkeypatch, block):
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 5, 40))
    piece = piece_of(*((s, s + rng.uniform(0.01, 1), int(rng.integers(48, 73)), 100) for s in starts))
    whole, counts = synthesize(piece, bank)
    monkeypatch.setattr("synthesis.mixing.BLOCK", block)
    in_blocks, counts_in_blocks = synthesize(piece, bank)
    # What rings on is added before what begins, so that sums of floats may differ in their last bits.
    np.testing.assert_allclose(in_blocks, whole, atol=1e-6)
    assert counts_in_blocks == counts
    # A long piece takes the way over the disk.
    monkeypatch.setattr("synthesis.mixing.WHOLE_SECONDS", 1)
    assert write_piece(tmp_path / "a" / "long.wav", piece, bank, Playing()) == counts
    written = read_audio(tmp_path / "a" / "long.wav")
    np.testing.assert_allclose(written, whole, atol=2 * 2**-15)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["long.wav"]


# --- SoundFont --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def soundfont():
    return default_soundfont()


def test_every_family_and_source_has_a_program_of_its_kind(soundfont):
    kinds = {
        "bass": "Bass", "brass": "Brass", "flute": "Pipe", "guitar": "Guitar", "keyboard": "Piano", "organ": "Organ",
        "mallet": "Chromatic Percussion", "reed": "Reed", "string": "Ensemble", "synth_lead": "Synth Lead",
        "vocal": "Ensemble",
    }  # fmt: skip
    assert set(PROGRAMS) == {
        f"{family}_{source}" for family in kinds for source in ("acoustic", "electronic", "synthetic")
    }
    for name, program in PROGRAMS.items():
        assert pretty_midi.program_to_instrument_class(program) == kinds[name.rsplit("_", 1)[0]]
    assert len(set(PROGRAMS.values())) == 33
    assert soundfont_programs(soundfont) == set(range(128))


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def test_the_programs_of_a_soundfont_are_read(tmp_path):
    def header(program, bank):
        return b"name".ljust(20, b"\0") + program.to_bytes(2, "little") + bank.to_bytes(2, "little") + b"\0" * 14

    lists = chunk(b"LIST", b"INFO" + chunk(b"isng", b"odd")) + chunk(b"LIST", b"sdta" + chunk(b"smpl", b"\0" * 6))
    phdr = chunk(b"phdr", header(24, 0) + header(0, 0) + header(5, 128) + header(0, 0))
    (tmp_path / "a.sf2").write_bytes(chunk(b"RIFF", b"sfbk" + lists + chunk(b"LIST", b"pdta" + phdr)))
    assert soundfont_programs(tmp_path / "a.sf2") == {0, 24}
    with pytest.raises(InputError, match=r"--program: expected guitar_acoustic=25 .*a\.sf2, found 0, 24"):
        choose_programs(tmp_path / "a.sf2", ["guitar_acoustic"], {})
    assert choose_programs(tmp_path / "a.sf2", ["own"], {"own": 24}) == {"own": 24}
    with pytest.raises(InputError, match=r"--instruments: expected NSynth's names .*, found own"):
        choose_programs(tmp_path / "a.sf2", ["own"], {})


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVEfmt ", b"RIFF\0\0\0\0sfbkLIST\xff\0\0\0INFO"])
def test_what_is_no_soundfont_is_told(tmp_path, content):
    (tmp_path / "a.sf2").write_bytes(content)
    with pytest.raises(InputError, match=r"--soundfont: expected a SoundFont 2 file.*a\.sf2"):
        soundfont_programs(tmp_path / "a.sf2")
    with pytest.raises(InputError, match=r"a\.sf2: expected a SoundFont that midirenderer reads"):
        render_pitch(tmp_path / "a.sf2", 0, 60)


def test_rendered_notes_have_the_pitch_the_velocity_and_the_shape(soundfont):
    notes = render_pitch(soundfont, 48, 57)  # string ensemble: sustains, then releases
    assert notes.shape == (5, 64000)
    assert measured_f0(notes[4, 16000:32000], RATE) == pytest.approx(220, rel=0.01)
    rms = np.sqrt(np.mean(notes[:, :48000] ** 2, axis=1))
    assert (np.diff(rms) > 0).all()
    assert np.abs(notes[:, :1600]).max(axis=1) == pytest.approx(rms, rel=2)  # it starts at once
    held, released = np.abs(notes[4, 46000:48000]).max(), np.abs(notes[4, 62000:]).max()
    assert released < held / 10
    np.testing.assert_array_equal(notes, render_pitch(soundfont, 48, 57))


def test_rendered_notes_are_written_in_nsynth_layout(soundfont, tmp_path):
    (instrument,) = soundfont_instruments(soundfont, {"organ_electronic": 16}, tmp_path, preset=3)
    assert isinstance(instrument, Instrument)
    assert not has_pitch(instrument, 60)
    render_notes(instrument, 60)
    assert has_pitch(instrument, 60)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"organ_electronic_003-060-{velocity:03d}.wav" for velocity in (25, 50, 75, 100, 127)]
    info = soundfile.info(tmp_path / names[0])
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16000, 1, "PCM_16", 64000)


def test_onsets_of_two_instruments_are_those_of_the_piece(soundfont, tmp_path):
    starts = [0.1, 0.6, 1.1, 1.35, 2.0, 2.9, 3.3, 3.5]
    piece = piece_of(*((start, start + 0.2, pitch, 100) for start, pitch in zip(starts, [60, 64] * 4, strict=True)))
    programs = {"keyboard_acoustic": 0, "guitar_acoustic": 25}
    strengths, lengths = [], []
    for instrument in soundfont_instruments(soundfont, programs, tmp_path):
        for pitch in (60, 64):
            render_notes(instrument, pitch)
        audio, _ = synthesize(piece, NoteBank(instrument), Playing(duration_rate=1))
        lengths.append(len(audio))
        energy = np.log1p(1e4 * np.mean(audio[: len(audio) // 512 * 512].reshape(-1, 512) ** 2, axis=1))
        strengths.append(np.maximum(np.diff(energy), 0))
    assert lengths[0] == lengths[1] == round(3.7 * 44100)
    correlation = np.correlate(strengths[0], strengths[1], "full")
    assert abs(np.argmax(correlation) - (len(strengths[0]) - 1)) <= 1
    for strength in strengths:  # the steepest rise within 0.1 s of each note's start is at that start
        for start in starts:
            around = range(max(0, int((start - 0.1) * 44100 / 512)), int((start + 0.1) * 44100 / 512))
            steepest = max(around, key=strength.__getitem__)
            assert (steepest + 1) * 512 / 44100 == pytest.approx(start, abs=2 * 512 / 44100)
