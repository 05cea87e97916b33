"""Which recordings are compared, on made folders and data sets; the check of pairs on recordings whose lag, tuning,
transposition, length and level are known."""

import dataclasses
import pathlib

import numpy as np
import pytest
from made_sounds import tone, write
from made_weights import write_generator

from common import InputError, weights
from evaluation import pairing
from sound.files import read_audio
from training import dataset


def test_folders_are_paired_by_name_whatever_the_extension(tmp_path):
    for name in ("a/1.wav", "a/2.wav", "a/sub/3.wav", "b/1.flac", "b/sub/3.wav", "b/4.wav"):
        write(tmp_path / name)
    pairs, left_out = pairing.find_pairs(tmp_path / "a", tmp_path / "b")
    assert [(str(p), p.origin.name, p.target.name) for p in pairs] == [
        ("1", "1.wav", "1.flac"), ("sub_3", "3.wav", "3.wav"),
    ]  # fmt: skip
    assert sorted(name[-5:] for name, _ in left_out) == ["2.wav", "4.wav"]
    single = tmp_path / "a" / "1.wav", tmp_path / "b" / "4.wav"
    assert pairing.find_pairs(*single) == ([pairing.Pair("1", *single)], [])
    with pytest.raises(InputError):  # the recordings would be overwritten
        pairing.check_folder(tmp_path, tmp_path)
    write(tmp_path / "c" / "5.wav")
    for origin, target in (("none", "b"), (single[0], "none"), (single[0], "b"), ("a", "c")):
        with pytest.raises(InputError):
            pairing.find_pairs(tmp_path / origin, tmp_path / target)


def model(tmp_path, seed=0, split=0.3, origins=("piano",), targets=("guitar",), **settings):
    """Name and description of a model whose training has held out a share of its pieces."""
    settings |= {"origins": list(origins), "voices": list(targets), "validation_split": split, "seed": seed}
    description = weights.describe(write_generator(tmp_path / "model" / "generator.h5"))
    return f"seed {seed}", dataclasses.replace(description, settings=settings)


def make_dataset(tmp_path, pieces, instruments=("piano", "guitar")):
    for instrument in instruments:
        (tmp_path / "features" / instrument).mkdir(parents=True)
        for piece in pieces:
            np.save(tmp_path / "features" / instrument / f"{piece}_000.npy", np.zeros((256, 256, 1), np.float16))
            write(tmp_path / "audios" / instrument / f"{piece}.wav", tone(60, 0.02))
    return tmp_path / "features", tmp_path / "audios", "piano", "guitar"


def names_of(paths, *described, **holdout):
    return {pair.piece for pair in pairing.find_validation_pairs(*paths, dict(described), **holdout)[0]}


def test_validation_pairs_are_whole_held_out_pieces_with_their_recordings(tmp_path):
    paths = make_dataset(tmp_path, [f"piece {i}" for i in range(10)])
    held_out = {seed: names_of(paths, model(tmp_path, seed, 0.5)) for seed in range(3)}
    assert [len(names) for names in held_out.values()] == [5, 5, 5]
    assert len({tuple(sorted(names)) for names in held_out.values()}) > 1
    # Several models: what all of them have held out, which is also what training leaves out.
    assert names_of(paths, model(tmp_path, 0, 0.5), model(tmp_path, 1, 0.5)) == held_out[0] & held_out[1]
    found = dataset.find_pairs(paths[0], ["piano"], ["guitar"])
    trained, _, _ = dataset.split_by_piece(found, 0.5, 0)
    assert held_out[0].isdisjoint(str(found.names[n])[:-8] for n, _, _ in trained)
    assert names_of(paths) == {f"piece {i}" for i in range(10)}  # no model has been trained on any

    first, *rest = sorted(held_out[0])
    (tmp_path / "audios" / "guitar" / f"{first}.wav").unlink()
    pairs, left_out, _ = pairing.find_validation_pairs(*paths, dict([model(tmp_path, 0, 0.5)]))
    assert [p.piece for p in pairs] == rest
    assert [name for name, _ in left_out] == [first]


def test_other_pieces_are_held_out_by_a_file_or_because_a_model_knows_other_data(tmp_path):
    """A shipped model beside one's own on a small data set: the pieces are those that one's own has held out."""
    paths = make_dataset(tmp_path, list("abcdefg"))
    own, shipped = model(tmp_path, 0, 0.1), model(tmp_path, 1, 0.1, origins=["piano@FluidR3-0"])
    assert names_of(paths, shipped) == set("abcdefg")
    assert names_of(paths, own, shipped) == names_of(paths, own)
    file = tmp_path / "holdout.txt"
    file.write_text("a\n\nc\n")
    assert names_of(paths, own, holdout=file) == {"a", "c"}
    file.write_text("a\nx\n")
    with pytest.raises(InputError):
        names_of(paths, holdout=file)
    with pytest.raises(InputError):  # no piece is held out by both
        names_of(paths, *(model(tmp_path, seed, 0.1) for seed in (0, 1)))


def test_a_multitarget_models_pieces_are_those_that_its_own_training_has_held_out(tmp_path):
    """It draws them from the pieces of all its targets, of which one may lack some."""
    features, audios, *_ = make_dataset(tmp_path, [f"piece {i}" for i in range(10)], ("piano", "guitar", "flute"))
    for i in (2, 5):
        (features / "flute" / f"piece {i}_000.npy").unlink()
    for seed in range(2):
        pairs = dataset.find_pairs(features, ["piano"], ("guitar", "flute"))
        _, held_out, _ = dataset.split_by_piece(pairs, 0.3, seed)
        expected = {str(pairs.names[n])[:-8] for n, t, _ in held_out if t == 1}
        of_both = model(tmp_path, seed, targets=("guitar", "flute"))
        assert names_of((features, audios, "piano", "flute"), of_both) == expected


def test_instruments_are_those_given_or_those_that_the_model_says(tmp_path):
    _, description = model(tmp_path)
    several, of_any = {"origin": "a", "targets": ["b", "c"]}, {"origin": "any", "voices": ["b@1"]}
    (tmp_path / "b@1").mkdir()

    def choose(settings, *given):
        return pairing.choose_instruments(tmp_path, [dataclasses.replace(description, settings=settings)], *given)

    for settings, given, expected in (
        ({"origin": "a", "targets": ["b"]}, (None, None), ("a", "b")),
        (several, (None, "c"), ("a", "c")),
        ({**several, "voices": ["b@1", "b@2"]}, (None, None), ("a", "b")),
        (of_any, ("a@1", None), ("a@1", "b@1")),
        ({"origin": "a", "voices": ["b@FluidR3"]}, (None, None), ("a", "b")),  # a shipped model beside other data
    ):
        assert choose(settings, *given) == expected
    for settings in (several, of_any):
        with pytest.raises(InputError):
            choose(settings, None, None)


PIANOS = ("piano@grand", "piano@upright")


def test_a_folder_stands_for_all_voices_of_its_instrument(tmp_path):
    for folder, names in {"piano@grand": "12", "piano@upright": "23", "pianola": "1", "guitar": "124"}.items():
        for name in names:
            write(tmp_path / folder / f"{name}.wav", tone(60, 0.1))
    pairs, left_out = pairing.find_pairs(tmp_path / "piano", tmp_path / "guitar")
    assert [(str(p), p.voice, p.origin.parent.name, p.target.stem) for p in pairs] == [
        (f"{voice}/{piece}", voice, voice, piece)
        for voice, piece in (("piano@grand", "1"), ("piano@grand", "2"), ("piano@upright", "2"))
    ]
    assert sorted(pathlib.Path(name).name for name, _ in left_out) == ["3.wav", "4.wav"]
    write(tmp_path / "guitar@steel" / "1.wav", tone(60, 0.1))
    pairs, _ = pairing.find_pairs(tmp_path / "piano", tmp_path / "guitar")
    assert [p.voice for p in pairs] == [
        "piano@grand to guitar", "piano@grand to guitar", "piano@grand to guitar@steel", "piano@upright to guitar",
    ]  # fmt: skip


def test_validation_pairs_of_an_instrument_are_those_of_all_its_voices(tmp_path):
    pieces = [f"piece {i}" for i in range(8)] + ["piece 0_v01", "piece 1_v01"]  # two in another key as well
    features, audios, *_ = make_dataset(tmp_path, pieces, (*PIANOS, "guitar"))
    described = dict([model(tmp_path, split=0.5)])
    pairs, left_out, _ = pairing.find_validation_pairs(features, audios, "piano", "guitar", described)
    assert not left_out
    of_voice = {voice: [p.piece for p in pairs if p.voice == voice] for voice in PIANOS}
    assert of_voice[PIANOS[0]] == of_voice[PIANOS[1]]
    scores = {piece.removesuffix("_v01") for piece in of_voice[PIANOS[0]]}
    assert of_voice[PIANOS[0]] == sorted(piece for piece in pieces if piece.removesuffix("_v01") in scores)
    # One voice is a row of its own; its pieces are those that the model of both voices has not been trained on.
    pairs, _, _ = pairing.find_validation_pairs(features, audios, "piano@upright", "guitar", described)
    assert [(p.voice, p.piece) for p in pairs] == [("", piece) for piece in of_voice[PIANOS[1]]]


RATE = pairing.SAMPLE_RATE
STARTS = (0.2, 0.9, 1.3, 2.1, 2.5, 3.3)


def scale(cents=0.0, bright=1.0, decay=4.0, starts=STARTS, pitches=(60, 64, 67, 72, 65, 69)):
    """Four seconds of a broken chord; `bright` changes the timbre."""
    audio = np.zeros(4 * RATE)
    time = np.arange(int(0.6 * RATE)) / RATE
    for start, pitch in zip(starts, pitches, strict=True):
        f0 = 440 * 2 ** ((pitch - 69 + cents / 100) / 12)
        note = sum(np.sin(2 * np.pi * m * f0 * time) / m**bright for m in range(1, 9))
        audio[int(start * RATE) :][: len(note)] += 0.1 * note * np.exp(-decay * time) * np.clip(8 - time / 0.075, 0, 1)
    return audio.astype(np.float32)


REFERENCE = scale()


@pytest.mark.parametrize(
    ("audio", "lag", "cents", "problem"),
    [
        (scale(bright=0.3), 0, 0, ""),  # another timbre of the same notes
        (np.pad(REFERENCE, (RATE // 4, 0))[: 4 * RATE], 0.25, 0, "250 ms late"),
        (np.pad(REFERENCE, (0, RATE // 8))[RATE // 8 :], -0.125, 0, "125 ms early"),
        (np.pad(REFERENCE, (0, RATE)), 0, 0, "1.00 s longer"),
        (scale(cents=-35), 0, -35, "cents low"),
        (scale(cents=-300), 0, 0, "by -3 semitones"),
    ],
    ids=["timbre", "late", "early", "longer", "low", "3 lower"],
)
def test_what_differs_is_measured(audio, lag, cents, problem):
    check = pairing.check_pair(REFERENCE, audio)
    assert len(check.problems) == bool(problem)
    assert problem in ", ".join(check.problems.values())
    assert check.cents == pytest.approx(cents, abs=6)
    assert "semitones" in problem or check.lag == pytest.approx(lag, abs=0.01)


def test_another_performance_or_silence_is_called_that_and_nothing_else():
    for other, said in (
        (scale(starts=0.2 + 0.33 * np.arange(6)), "not the same performance"),
        (np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32), "not the same performance"),
        (REFERENCE * np.float32(1e-6), "silent"),
        (0 * REFERENCE, "silent"),
    ):
        check = pairing.check_pair(REFERENCE, other)
        assert list(check.problems.values()) == [said]
        assert np.isnan([check.lag, check.cents]).all()


def test_a_soft_attack_is_still_a_pair():
    swell, time = scale(bright=0.5, decay=0.5), np.arange(len(REFERENCE)) / RATE
    for start in STARTS:
        inside = (time >= start) & (time < start + 0.15)
        swell[inside] *= ((time[inside] - start) / 0.15).astype(np.float32)
    check = pairing.check_pair(REFERENCE, swell)
    assert check.problems == {}
    assert 0.01 < check.lag < 0.1


def test_a_check_reports_what_is_wrong_and_writes_copies_without_lag(tmp_path, capsys):
    """The late guitar loses what it is late; what is no pair is not written."""
    audios, folder = tmp_path / "audios", tmp_path / "aligned"
    for piece in ("good", "late", "other", "alone"):
        write(audios / "piano" / f"{piece}.wav", REFERENCE, RATE)
    write(audios / "guitar" / "good.flac", scale(bright=0.3), RATE)
    write(audios / "guitar" / "late.wav", np.pad(REFERENCE, (RATE // 5, 0)), RATE)
    write(audios / "guitar" / "other.wav", scale(starts=0.2 + 0.33 * np.arange(6)), RATE)
    assert pairing.check_folder(audios) == 1
    output = capsys.readouterr()
    _, good, late, other, *_, total = output.out.splitlines()
    assert good.endswith("ok")
    assert late.endswith("200 ms early, 0.20 s shorter")  # the piano, beside the guitar
    assert other.endswith("not the same performance")
    assert total.startswith("1 of 3 recordings")
    assert "alone" in output.err

    assert pairing.check_folder(audios, folder) == 1
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.wav")) == [
        "guitar/good.wav", "guitar/late.wav", "piano/good.wav", "piano/late.wav",
    ]  # fmt: skip
    piano, guitar = (read_audio(folder / name / "late.wav", RATE) for name in ("piano", "guitar"))
    assert len(piano) == len(guitar) == pytest.approx(4 * RATE, abs=0.01 * RATE)
    assert pairing.find_lag(piano, guitar)[0] == pytest.approx(0, abs=0.003)
    assert pairing.check_folder(folder) == 0

    for instrument in ("guitar", "piano"):
        (folder / instrument / "broken.wav").write_text("no audio")
    assert pairing.check_folder(folder) == 1
