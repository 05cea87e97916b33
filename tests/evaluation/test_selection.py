"""Which recordings are compared, on made folders and data sets."""

import dataclasses
import pathlib

import numpy as np
import pytest
from made_sounds import tone, write
from made_weights import write_model

from common.errors import InputError
from evaluation import comparison, selection
from training import dataset


def test_two_recordings_are_one_pair(tmp_path):
    origin, target = write(tmp_path / "o.wav"), write(tmp_path / "t.wav")
    assert selection.find_pairs(origin, str(target)) == ([selection.Pair("o", origin, target)], [])


def test_folders_are_paired_by_name_whatever_the_extension(tmp_path):
    for name in ("a/1.wav", "a/2.wav", "a/sub/3.wav", "b/1.flac", "b/sub/3.wav", "b/4.wav"):
        write(tmp_path / name)
    pairs, left_out = selection.find_pairs(tmp_path / "a", tmp_path / "b")
    assert [(p.name, p.origin.name, p.target.name) for p in pairs] == [
        ("1", "1.wav", "1.flac"), ("sub_3", "3.wav", "3.wav"),
    ]  # fmt: skip
    assert sorted(name[-5:] for name, _ in left_out) == ["2.wav", "4.wav"]
    assert all("no counterpart" in reason for _, reason in left_out)


def test_what_cannot_be_paired_is_refused(tmp_path):
    file = write(tmp_path / "a" / "1.wav")
    write(tmp_path / "b" / "2.wav")
    for origin, target, text in (
        (tmp_path / "none", file, "--origin_audio: expected a recording or a folder"),
        (file, tmp_path / "none", "--target_audio: expected a recording or a folder"),
        (file, tmp_path / "b", "two recordings or two folders"),
        (tmp_path / "a", tmp_path / "b", "with the same names"),
    ):
        with pytest.raises(InputError, match=text):
            selection.find_pairs(origin, target)


def split(share, seed, targets=("guitar",)):
    return selection.Split(("piano",), targets, share, seed)


def _dataset(tmp_path, pieces, instruments=("piano", "guitar")):
    for instrument in instruments:
        (tmp_path / "features" / instrument).mkdir(parents=True)
        for piece in pieces:
            np.save(tmp_path / "features" / instrument / f"{piece}_000.npy", np.zeros((256, 256, 1), np.float16))
            write(tmp_path / "audios" / instrument / f"{piece}.wav", tone(60, 0.02))
    return tmp_path / "features", tmp_path / "audios", "piano", "guitar"


def test_validation_pairs_are_whole_held_out_pieces_with_their_recordings(tmp_path):
    paths = _dataset(tmp_path, [f"piece {i}" for i in range(10)])
    held_out = {}
    for seed in range(3):
        pairs, left_out, remarks = selection.find_validation_pairs(*paths, [split(0.3, seed)])
        held_out[seed] = tuple(p.name for p in pairs)
        assert len(pairs) == 3
        assert not left_out
        assert remarks[0].startswith("3 of 10 pieces")
        for p in pairs:
            assert (p.origin.parent.name, p.target.parent.name) == ("piano", "guitar")
            assert p.origin.stem == p.target.stem == p.name
    assert len(set(held_out.values())) > 1
    (tmp_path / "audios" / "guitar" / f"{held_out[0][0]}.wav").unlink()
    pairs, left_out, _ = selection.find_validation_pairs(*paths, [split(0.3, 0)])
    assert tuple(p.name for p in pairs) == held_out[0][1:]
    assert left_out[0][0] == held_out[0][0]
    assert "guitar" in left_out[0][1]


def test_a_data_set_without_a_held_out_piece_is_refused(tmp_path):
    def find(name, pieces, *shares):
        splits = [split(share, seed) for seed, share in enumerate(shares)]
        return selection.find_validation_pairs(*_dataset(tmp_path / name, pieces), splits)

    with pytest.raises(InputError, match="--validation_split"):
        find("two", ["a", "b"], 0.0)
    with pytest.raises(InputError, match="several pieces"):
        find("one", ["a"], 0.5)
    with pytest.raises(InputError, match="all models have held out"):  # one of ten each
        find("ten", list("abcdefghij"), 0.1, 0.1)


def test_a_multitarget_models_pieces_are_those_that_its_own_training_has_held_out(tmp_path):
    """It draws them from the pieces of all its targets, of which one may lack some."""
    features, audios, *_ = _dataset(tmp_path, [f"piece {i}" for i in range(10)], ("piano", "guitar", "flute"))
    for i in (2, 5):
        (features / "flute" / f"piece {i}_000.npy").unlink()
    targets, differs = ("guitar", "flute"), False
    for seed in range(4):
        pairs = dataset.find_pairs(features, ["piano"], targets)
        training, held_out, _ = dataset.split_by_piece(pairs, 0.3, seed)
        trained, expected = ({str(pairs.names[n])[:-8] for n, t, _ in rows if t == 1} for rows in (training, held_out))
        splits = [split(0.3, seed, targets)]
        pairs, _, _ = selection.find_validation_pairs(features, audios, "piano", "flute", splits)
        assert {pair.name for pair in pairs} == expected
        alone = [split(0.3, seed, ("flute",))]
        pairs, _, _ = selection.find_validation_pairs(features, audios, "piano", "flute", alone)
        differs |= bool({pair.name for pair in pairs} & trained)
    assert differs


def test_pieces_are_those_that_all_models_have_held_out(tmp_path):
    paths = _dataset(tmp_path, [f"piece {i}" for i in range(10)])
    splits = [split(0.5, seed) for seed in (0, 1)]
    one, two = ({p.name for p in selection.find_validation_pairs(*paths, [each])[0]} for each in splits)
    pairs, _, remarks = selection.find_validation_pairs(*paths, splits)
    assert {p.name for p in pairs} == one & two != one
    assert remarks[-1].endswith(f"{len(one & two)} pieces")


def test_splits_are_those_given_or_those_recorded_with_the_models(tmp_path):
    silent = comparison.describe_models([write_model(tmp_path / "silent" / "g.h5")])
    settings = {"origin": "a", "targets": ["b", "c"], "validation_split": 0.25, "seed": 7}
    recorded = [("recorded", dataclasses.replace(silent[0][1], settings=settings))]

    def read(described, *flags):
        return selection.read_splits(described, "a", "b", *flags)

    assert read(recorded) == ([selection.Split(("a",), ("b", "c"), 0.25, 7)], [])
    assert read(recorded, 0.5, 3) == ([selection.Split(("a",), ("b", "c"), 0.5, 3)], [])
    assert read([], None, 3) == ([selection.Split(("a",), ("b",), 0.1, 3)], [])
    splits, (remark,) = read([*recorded, *silent])
    assert splits == [selection.Split(("a",), ("b", "c"), 0.25, 7), selection.Split(("a",), ("b",), 0.1, 0)]
    assert "silent" in remark
    assert "--validation_split 0.1 --seed 0" in remark
    assert read(silent, 0.1, 0)[1] == []  # then the user has said it
    voices = {"origins": ["a@1", "a@2"], "targets": ["b", "b"], "voices": ["b@1", "b@2"], "identity": False}
    recorded = [("recorded", dataclasses.replace(silent[0][1], settings={**settings, **voices}))]
    assert read(recorded)[0] == [selection.Split(("a@1", "a@2"), ("b@1", "b@2"), 0.25, 7, identity=False)]


def test_instruments_are_those_given_or_those_that_the_model_says(tmp_path):
    one = comparison.describe_models([write_model(tmp_path / "1" / "g.h5", origin="a", targets=["b"])])
    several = comparison.describe_models([write_model(tmp_path / "2" / "g.h5", origin="a", targets=["b", "c"])])
    assert selection.choose_instruments(one, None, None) == ("a", "b")
    assert selection.choose_instruments(one, "x", "y") == ("x", "y")
    assert selection.choose_instruments(several, None, "c") == ("a", "c")
    voices = {"origins": ["a@1", "a@2"], "targets": ["b", "b"]}
    two = comparison.describe_models(
        [write_model(tmp_path / "3" / "g.h5", origin="a", voices=["b@1", "b@2"], **voices)]
    )
    assert selection.choose_instruments(two, None, None) == ("a", "b")
    of_one = comparison.describe_models([write_model(tmp_path / "4" / "g.h5", origin="any", voices=["b@1"], **voices)])
    assert selection.choose_instruments(of_one, "a@1", None) == ("a@1", "b@1")
    for described, flag in ((several, "--target"), ([], "--origin"), (of_one, "--origin")):
        with pytest.raises(InputError, match=flag):
            selection.choose_instruments(described, None, None)


# --- voices -----------------------------------------------------------------------------------------------------------

PIANOS = ("piano@grand", "piano@upright")


def test_a_folder_stands_for_all_voices_of_its_instrument(tmp_path):
    for folder, names in {"piano@grand": "12", "piano@upright": "23", "pianola": "1", "guitar": "124"}.items():
        for name in names:
            write(tmp_path / folder / f"{name}.wav", tone(60, 0.1))
    pairs, left_out = selection.find_pairs(tmp_path / "piano", tmp_path / "guitar")
    assert [(p.name, p.voice, p.piece, p.target.stem) for p in pairs] == [
        ("piano@grand/1", "piano@grand", "1", "1"),
        ("piano@grand/2", "piano@grand", "2", "2"),
        ("piano@upright/2", "piano@upright", "2", "2"),
    ]
    assert [p.origin.parent.name for p in pairs] == ["piano@grand", "piano@grand", "piano@upright"]
    assert sorted(pathlib.Path(name).name for name, _ in left_out) == ["3.wav", "4.wav"]
    single, _ = selection.find_pairs(tmp_path / "piano@upright", tmp_path / "guitar")
    assert [(p.name, p.voice) for p in single] == [("2", "")]
    write(tmp_path / "guitar@steel" / "1.wav", tone(60, 0.1))
    pairs, _ = selection.find_pairs(tmp_path / "piano", tmp_path / "guitar")
    assert [p.voice for p in pairs] == [
        "piano@grand to guitar", "piano@grand to guitar", "piano@grand to guitar@steel", "piano@upright to guitar",
    ]  # fmt: skip


def test_validation_pairs_of_an_instrument_are_those_of_all_its_voices(tmp_path):
    pieces = [f"piece {i}" for i in range(8)] + ["piece 0_v01", "piece 1_v01"]  # two in another key as well
    features, audios, *_ = _dataset(tmp_path, pieces, (*PIANOS, "guitar"))
    splits = [split(0.5, 0)]
    pairs, left_out, _ = selection.find_validation_pairs(features, audios, "piano", "guitar", splits)
    assert not left_out
    of_voice = {voice: [p.piece for p in pairs if p.voice == voice] for voice in PIANOS}
    assert of_voice[PIANOS[0]] == of_voice[PIANOS[1]]
    scores = {piece.removesuffix("_v01") for piece in of_voice[PIANOS[0]]}
    assert 2 <= len(scores) <= 6
    assert of_voice[PIANOS[0]] == sorted(piece for piece in pieces if piece.removesuffix("_v01") in scores)
    assert all(p.origin.parent.name == p.voice and p.target.parent.name == "guitar" for p in pairs)
    # One voice is a row of its own; its pieces are those that the model of both voices has not been trained on.
    pairs, _, _ = selection.find_validation_pairs(features, audios, "piano@upright", "guitar", splits)
    assert [(p.voice, p.piece) for p in pairs] == [("", piece) for piece in of_voice[PIANOS[1]]]


def test_a_model_of_voices_that_the_data_set_lacks_is_evaluated_with_a_remark(tmp_path):
    paths = _dataset(tmp_path, [f"piece {i}" for i in range(8)])
    own, _, (line,) = selection.find_validation_pairs(*paths, [split(0.5, 0)])
    others = [selection.Split(("piano@grand", "piano"), ("guitar",), 0.5, 0)]
    pairs, _, remarks = selection.find_validation_pairs(*paths, others)
    assert pairs == own
    assert "piano@grand" in remarks[0]
    assert remarks[1] == line
