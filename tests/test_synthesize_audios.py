"""The command that plays MIDI pieces: what it writes, what it leaves out, what it refuses."""

import contextlib
import json
import os
import pathlib

import mido
import numpy as np
import pytest
import soundfile
from made_notes import measured_f0, write_midi, write_notes, write_recorded_notes

import synthesize_audios
from synthesis.voices import default_soundfont

SOUNDFONT = default_soundfont()
TWO = ("guitar_acoustic", "keyboard_acoustic")


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """Two instruments: the guitar's pitches 62 and 64 and its velocities 50 and 75 are missing."""
    folder = tmp_path_factory.mktemp("nsynth")
    write_notes(folder, "keyboard_acoustic", [60, 62, 64])
    write_notes(folder, "guitar_acoustic", [60], [25, 100, 127])
    return folder


@pytest.fixture
def midis(tmp_path):
    folder = tmp_path / "midi"
    write_midi(folder / "one.mid", [(0, 0.5, 60, 100), (0.5, 1, 62, 70), (0.75, 1.5, 64, 127)])
    write_midi(folder / "bach" / "two.MIDI", [(0.1, 0.6, 62, 30), (0.2, 0.8, 64, 100)])
    return folder


@pytest.fixture
def run(tmp_path, midis, notes, capsys):
    """Run the command on two instruments; gives exit status, stdout, stderr."""

    def run(*flags, audios="audios", midi=midis, source=("--nsynth_path", notes), instruments=TWO, jobs=1):
        argv = ["--midi_path", midi] if midi else []
        argv += ["--audios_path", tmp_path / audios, *source, "--jobs", jobs, *flags]
        argv += ["--instruments", *instruments] if instruments else []
        return synthesize_audios.main([str(arg) for arg in argv]), *capsys.readouterr()

    return run


def written(folder: pathlib.Path) -> dict[str, bytes]:
    """The files below `folder`; what a killed process was just writing lies there under a hidden name."""
    paths = (path for path in sorted(folder.rglob("*.wav")) if not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_every_instrument_gets_every_piece_at_the_same_length(run, tmp_path):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert sorted(written(tmp_path / "audios")) == [
        f"{instrument}/{piece}.wav" for instrument in TWO for piece in ("bach_two", "one")
    ]
    # The last notes ring four times as long as they are written: 0.75 + 4 x 0.75 and 0.2 + 4 x 0.6.
    for piece, seconds in (("one", 3.75), ("bach_two", 2.6)):
        for instrument in TWO:
            info = soundfile.info(tmp_path / "audios" / instrument / f"{piece}.wav")
            assert (info.samplerate, info.channels, info.subtype) == (44100, 1, "PCM_16")
            assert info.frames == round(seconds * 44100)
            samples, _ = soundfile.read(tmp_path / "audios" / instrument / f"{piece}.wav", dtype="int16")
            assert np.abs(samples.astype(int)).max() == 32000
    lines = out.splitlines()
    # In all five notes: 64 and 62 from 60 are four, of which none counts as another velocity too.
    assert lines[0].endswith("guitar_acoustic: 2 recordings written, 0 already there; 5 notes, 4 from another pitch")
    assert lines[1].endswith("keyboard_acoustic: 2 recordings written, 0 already there; 5 notes, all as asked for")
    assert lines[2] == "2 pieces: 5 notes read, 0 drum notes and 0 notes of no length left out"
    assert not list((tmp_path / "audios").rglob(".*"))


def test_a_second_run_makes_what_is_missing_or_of_a_piece_that_was_replaced(run, tmp_path, midis):
    run()
    run("--variations", 2, instruments=["guitar_acoustic"])
    before = written(tmp_path / "audios")
    (tmp_path / "audios/guitar_acoustic/one.wav").unlink()
    _, out, _ = run()
    assert "guitar_acoustic: 1 recording written, 1 already there" in out
    assert "keyboard_acoustic: 0 recordings written, 2 already there" in out
    assert written(tmp_path / "audios") == before
    # Another piece of the same size and date.
    old = os.stat(midis / "one.mid")
    write_midi(midis / "one.mid", [(0, 0.5, 60, 100), (0.5, 1, 62, 70), (0.75, 1.5, 60, 127)])
    os.utime(midis / "one.mid", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert os.stat(midis / "one.mid").st_size == old.st_size
    _, out, _ = run(instruments=["guitar_acoustic"])
    assert "guitar_acoustic: 1 recording written, 1 already there" in out
    # The keyboard's recording of the old piece is not left beside it; a variation is made again when it is asked for.
    assert before.keys() - written(tmp_path / "audios").keys() == {"keyboard_acoustic/one.wav"}
    run("--variations", 2)
    after = written(tmp_path / "audios")
    assert {name for name in before if after[name] != before[name]} == {
        "guitar_acoustic/one.wav", "guitar_acoustic/one_v01.wav", "keyboard_acoustic/one.wav",
    }  # fmt: skip
    (midis / "one.mid").unlink()
    (midis / "one.mid").symlink_to("nothing")  # a piece that cannot be read keeps its recordings
    assert run()[0] == 0
    assert written(tmp_path / "audios") == after


def test_other_parameters_are_refused_or_remove_all_recordings_of_the_old_ones(run, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/broken.mid").write_bytes(b"no")
    assert run("--transpose", 1, midi=tmp_path / "bad")[0] == 1  # writes nothing, so that other parameters may follow
    run()
    own = tmp_path / "audios" / "my_piano" / "take.wav"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    before = written(tmp_path / "audios")
    status, out, err = run("--transpose", 1, "--duration_rate", 2)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "duration_rate 4 (now 2.0), transpose 0 (now 1)" in err
    assert "--overwrite" in err
    assert run("--overwrite", instruments=["guitar_acoustic"])[0] == 0  # the same parameters
    assert written(tmp_path / "audios") == before
    assert run("--transpose", 1, "--overwrite", instruments=["guitar_acoustic"])[0] == 0
    assert sorted(written(tmp_path / "audios")) == [
        "guitar_acoustic/bach_two.wav", "guitar_acoustic/one.wav", "my_piano/take.wav",
    ]  # fmt: skip
    assert run("--transpose", 1)[0] == 0
    found = written(tmp_path / "audios")
    run("--transpose", 1, audios="whole")
    assert {**written(tmp_path / "whole"), "my_piano/take.wav": b"mine"} == found


def test_what_is_left_out_is_counted_and_the_rest_goes_on(run, tmp_path, midis):
    (midis / "broken.mid").write_bytes(b"MThd")
    write_midi(midis / "long.mid", [(3590, 3591, 60, 80)])  # rings beyond an hour
    write_midi(midis / "drums.rmi", [(0, 1, 40, 80)], channel=9)
    write_midi(midis / "bach_two.mid", [(0, 0.3, 60, 80)])  # the name that bach/two.MIDI gets
    cut = write_midi(midis / "cut.mid", [(0, 0.3, 60, 80), (0.5, 0.5, 62, 80), (1, 2, 64, 80)])
    cut.write_bytes(cut.read_bytes()[:-9])  # without the end of the last note
    status, out, err = run("--playback_speed", 0.997)
    assert status == 1
    pieces = ("bach_two", "cut", "one")
    assert sorted(written(tmp_path / "audios")) == [f"{i}/{piece}.wav" for i in TWO for piece in pieces]
    assert out.splitlines()[2] == "3 pieces: 7 notes read, 0 drum notes and 1 note of no length left out"
    lines = err.splitlines()
    assert "cut.mid: skipped " in lines[0]
    assert lines[1] == "4 left out:"
    assert len(lines) == 6
    assert all(any(name in line for line in lines) for name in ("broken.mid", "long.mid", "drums.rmi", "bach_two.mid"))
    assert run("--playback_speed", 0.997, "--max_minutes", 61)[0] == 1
    assert (tmp_path / "audios/guitar_acoustic/long.wav").exists()


def test_each_piece_takes_one_of_several_note_lengths_and_the_pedal_only_if_asked_for(run, tmp_path):
    pedal = [(time, mido.Message("control_change", control=64, value=value)) for time, value in ((0.1, 127), (1, 0))]
    for number in range(8):
        write_midi(tmp_path / f"m/{number}.mid", [(0, 0.5, 60, 100)], extra=pedal)
    for flags, seconds in (((), {0.5, 2.0}), (["--sustain_pedal"], {1.0, 4.0})):
        audios = f"audios{len(flags)}"
        run("--duration_rate", 1, 4, *flags, midi=tmp_path / "m", audios=audios, instruments=["keyboard_acoustic"])
        assert {soundfile.info(path).duration for path in (tmp_path / audios).rglob("*.wav")} == seconds
        parameters = json.loads((tmp_path / audios / "synthesis.json").read_text())
        assert (parameters["duration_rate"], parameters["seed"]) == ([1, 4], 0)


@pytest.mark.parametrize(
    ("instruments", "status"),
    [({"../victim": {}}, 0), ({"FOLDER/victim": {}}, 0), ({"*": {}}, 0), ({"link": {}}, 2), (3, 2)],
)
def test_what_synthesis_json_says_deletes_nothing_elsewhere(run, tmp_path, instruments, status):
    for folder in ("victim", "audios/own"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "take.wav").write_bytes(b"mine")
    (tmp_path / "audios/link").symlink_to(tmp_path / "victim")
    content = json.dumps({"instruments": instruments, "transpose": 5}).replace("FOLDER", str(tmp_path))
    (tmp_path / "audios/synthesis.json").write_text(content)
    found, _, err = run("--overwrite")
    assert (found, err.count("\n")) == (status, status // 2)
    assert (tmp_path / "victim/take.wav").exists()
    assert (tmp_path / "audios/own/take.wav").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--midi_path nowhere", "--midi_path"),
        ("--midi_path MIDI --nsynth_path nowhere", "--nsynth_path"),
        ("--midi_path MIDI --voices piano=none.sf2:0", "none.sf2"),
        ("--midi_path MIDI --instruments kazoo_acoustic", "--instruments"),
        ("--midi_path MIDI --instruments ../guitar_acoustic", "--instruments"),
        ("--nsynth_path NOTES", "--midi_path or --etudes"),
        ("--midi_path MIDI --voices pi-ano=SF2:0", "--voices"),
        ("--midi_path MIDI --voices piano=a.sf2", "--voices"),
        ("--midi_path MIDI --voices piano=nowhere", "--voices"),
        ("--midi_path MIDI --voices piano=nsynth:0", "--voices"),
        ("--midi_path MIDI --nsynth_path NOTES --voices keyboard_acoustic=nsynth:3", "--nsynth_path"),
        ("--midi_path MIDI --voices piano=SF2:0,SF2:0", "--voices"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(tmp_path, midis, notes, capsys, flags, named):
    words = flags.replace("MIDI", str(midis)).replace("NOTES", str(notes)).replace("SF2", str(SOUNDFONT)).split()
    with contextlib.suppress(SystemExit):
        assert synthesize_audios.main([*words, "--audios_path", str(tmp_path / "audios"), "--jobs", "1"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert named in err
    assert not (tmp_path / "audios").exists()


# --- voices -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two folders of recorded notes, one at 48 kHz, one that begins 30 ms late and has few pitches."""
    folder = tmp_path_factory.mktemp("recorded")
    write_recorded_notes(folder / "grand", {"C4v1.flac": 60, "C4v2.flac": 60, "F#4v2.flac": 66}, rate=48000)
    write_recorded_notes(folder / "upright", {"060.ogg": 60}, silence=0.03)
    return folder


def test_every_voice_of_an_instrument_plays_every_piece(run, tmp_path, recorded):
    voices = f"keyboard_acoustic={SOUNDFONT}:0,nsynth:0,{recorded}/grand"
    assert run("--voices", voices, instruments=["string_acoustic"])[0] == 2  # not among NSynth's notes
    status, out, err = run("--voices", voices, instruments=["guitar_acoustic"])
    assert status == 0
    assert "keyboard_acoustic@grand: 57 of 88 pitches stay silent" in err
    # Of 60 there are two layers, 64 and 127, and 100 is wanted; 62 and 64 are shifted from 60 and 66.
    counted = "1 from another velocity, 4 from another pitch"
    assert f"keyboard_acoustic@grand: 2 recordings written, 0 already there; 5 notes, {counted}" in out
    names = ["guitar_acoustic", *(f"keyboard_acoustic@{voice}" for voice in ("TimGM6mb-0", "grand", "nsynth-000"))]
    found = written(tmp_path / "audios")
    assert sorted(found) == sorted(f"{name}/{piece}.wav" for name in names for piece in ("bach_two", "one"))
    # A voice sounds as the same notes without --voices.
    run(audios="nsynth", instruments=["keyboard_acoustic"])
    run(audios="rendered", instruments=["keyboard_acoustic"], source=())
    for folder, voice in (("nsynth", "nsynth-000"), ("rendered", "TimGM6mb-0")):
        plain = written(tmp_path / folder)["keyboard_acoustic/one.wav"]
        assert found[f"keyboard_acoustic@{voice}/one.wav"] == plain


def test_a_voice_that_cannot_play_a_piece_does_not_keep_others_from_it(run, tmp_path, recorded):
    write_midi(tmp_path / "m/high.mid", [(0, 1, 96, 100)])
    voices = f"keyboard_acoustic={recorded}/grand,{SOUNDFONT}:0"
    status, _, err = run("--voices", voices, midi=tmp_path / "m", instruments=())
    assert status == 1
    assert "high.mid" in err
    assert "keyboard_acoustic@grand can play" in err
    assert list(written(tmp_path / "audios")) == ["keyboard_acoustic@TimGM6mb-0/high.wav"]


def test_a_voice_whose_notes_changed_is_refused_unless_overwritten(run, tmp_path):
    write_recorded_notes(tmp_path / "own", {"C4.wav": 60})
    flags = ("--voices", f"keyboard_acoustic={tmp_path}/own")
    run(*flags, instruments=["guitar_acoustic"])
    write_recorded_notes(tmp_path / "own", {"C4.wav": 60}, rate=22050)
    status, _, err = run(*flags, instruments=["guitar_acoustic"])
    assert status == 2
    assert "keyboard_acoustic@own" in err.splitlines()[-1]
    before = written(tmp_path / "audios")
    assert run(*flags, "--overwrite", instruments=())[0] == 0
    after = written(tmp_path / "audios")
    assert after.keys() == before.keys()
    assert {name.split("/")[0] for name in before if after[name] != before[name]} == {"keyboard_acoustic@own"}


# --- etudes and variations --------------------------------------------------------------------------------------------


def test_two_processes_write_what_one_writes(run, tmp_path, recorded):
    flags = ("--variations", 3, "--voices", f"guitar_acoustic={recorded}/upright")
    for jobs, audios in ((1, "one"), (2, "two")):
        assert run(*flags, audios=audios, instruments=["keyboard_acoustic"], jobs=jobs)[0] == 0
    found = written(tmp_path / "one")
    names = [f"{piece}{variation}.wav" for piece in ("bach_two", "one") for variation in ("", "_v01", "_v02")]
    assert sorted(found) == [f"{i}/{name}" for i in ("guitar_acoustic@upright", "keyboard_acoustic") for name in names]
    assert len(set(found.values())) == len(found)
    assert found == written(tmp_path / "two")


def test_variations_line_up_between_voices(run, tmp_path, recorded):
    write_midi(tmp_path / "m/a.mid", [(start, start + 0.15, 63, 80) for start in (0, 0.5, 0.9, 1.6)])
    voices = f"keyboard_acoustic={recorded}/grand,{recorded}/upright,nsynth:0"
    flags = ("--voices", voices, "--variations", 4, "--duration_rate", 1)
    assert run(*flags, midi=tmp_path / "m", instruments=())[0] == 0
    semitones, lengths = [], set()
    for name in ("a", "a_v01", "a_v02", "a_v03"):
        played = [soundfile.read(path)[0] for path in sorted((tmp_path / "audios").glob(f"*/{name}.wav"))]
        energy = [np.add.reduceat(audio**2, np.arange(0, len(audio), 441)) for audio in played]  # of 10 ms each
        loud = [each > 0.05 * each.max() for each in energy]
        onsets = np.array([np.flatnonzero(each[1:] & ~each[:-1]) for each in loud])  # but the first, at once
        assert onsets.shape == (3, 3)
        assert np.ptp(onsets, axis=0).max() <= 2
        pitches = [12 * np.log2(measured_f0(audio[441:4410], 44100)) for audio in played]
        assert np.ptp(pitches) < 0.2
        semitones.append(pitches[0] - (semitones[0] if semitones else 0))
        lengths.add(tuple({len(audio) for audio in played}))
    assert {len(each) for each in lengths} == {1}
    assert len(lengths) == 4
    np.testing.assert_allclose(semitones[1:], np.round(semitones[1:]), atol=0.1)
    assert -5 <= min(np.round(semitones[1:])) < max(np.round(semitones[1:])) <= 6


def test_etudes_need_no_midi_and_are_played_beside_it(run, tmp_path, midis, recorded):
    flags = ("--etudes", 1, "--etudes_texture", "melody", "--voices", f"guitar_acoustic={recorded}/upright")
    assert run(*flags, midi=None, instruments=(), source=())[0] == 0
    (etude,) = (tmp_path / "audios/guitar_acoustic@upright").iterdir()
    assert etude.name == "etude_000.wav"
    assert 58 < soundfile.info(etude).duration <= 60 + 4
    _, out, _ = run(*flags, instruments=(), source=())
    assert "2 recordings written, 1 already there" in out
    write_midi(midis / "etude_000.mid", [(0, 1, 60, 100)])
    status, _, err = run(*flags, instruments=(), source=())
    assert status == 2
    assert "etude_000.mid" in err.splitlines()[-1]
