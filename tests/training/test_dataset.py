"""Feature files to batches: what is paired, how it is split, and that a batch depends on nothing but its step."""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from conftest import PEAK_MEMORY, ROOT, needs_peak_memory
from made_pairs import samples_of

from common.errors import InputError
from common.files import write_json
from data import PUBLISHED, Representation
from training import dataset
from training.batches import Batches


def test_every_slice_is_paired_with_its_namesake(pairs):
    found = samples_of(pairs, pairs.samples)
    assert len(found) == len(set(found)) == 12 + 11
    assert ("bach_002.npy", "guitar") in found
    assert ("bach_002.npy", "flute") not in found
    assert pairs.piece_names == ("bach", "chopin_op_10", "satie")


def test_unpaired_files_are_reported(folder):
    assert dataset.find_pairs(folder, ["piano"], ["flute"]).unpaired == {
        "piano": (1, "bach_002.npy"),
        "flute": (1, "satie_005.npy"),
    }
    assert dataset.find_pairs(folder, ["piano"], ["guitar"]).unpaired == {}


def test_pieces_that_compute_features_was_stopped_at_are_left_out(tmp_path, noise_features):
    """It writes slice 0 last; others make sets of any slices, and have no features.json."""
    made = noise_features(tmp_path, {"a": {"x": 3, "x_1": 3, "z": 1}, "b": {"x": 3, "x_1": 3, "z": 1}})
    (made / "b" / "x_000.npy").unlink()
    assert len(dataset.find_pairs(made, ["a"], ["b"]).samples) == 6
    write_json(made / "features.json", PUBLISHED.to_dict())
    pairs = dataset.find_pairs(made, ["a"], ["b"])
    assert pairs.piece_names == ("x_1", "z")
    assert pairs.unfinished == {"b": (2, "x_001.npy")}
    assert pairs.unpaired == {"a": (3, "x_000.npy")}
    for name in ("x_1_000.npy", "z_000.npy"):
        (made / "b" / name).unlink()
    with pytest.raises(InputError, match=r"b: expected features.*unfinished pieces.*compute_features\.py again"):
        dataset.find_pairs(made, ["a"], ["b"])


def test_the_origins_name_may_stand_anywhere_in_the_path(tmp_path, noise_features):
    """Pairs are made by folder and name, not by replacing text in a path."""
    slices = {"piano": {"piano_concert": 1}, "guitar": {"piano_concert": 1}}
    made = noise_features(tmp_path / "piano" / "my_piano_set", slices)
    pairs = dataset.find_pairs(made, ["piano"], ["guitar"])
    inputs, target = Batches(pairs, pairs.samples, 1, seed=0).load(0)
    for found, instrument in ((inputs, "piano"), (target, "guitar")):
        level = np.load(made / instrument / "piano_concert_000.npy").astype(np.float32)
        np.testing.assert_array_equal(found[0], 2 * level - 1)


def test_names_with_underscores_and_digits(tmp_path, noise_features):
    pieces = {"no_9_001": 2, "no_9": 2, "k_331 (live) ü": 1}
    pairs = dataset.find_pairs(noise_features(tmp_path, {"a": pieces, "b": pieces}), ["a"], ["b"])
    assert pairs.piece_names == ("k_331 (live) ü", "no_9", "no_9_001")
    assert collections.Counter(np.array(pairs.piece_names)[pairs.pieces].tolist()) == pieces


def test_other_files_are_left_alone(tmp_path, noise_features):
    made = noise_features(tmp_path, {"a": {"x": 1}, "b": {"x": 1}})
    for name in (".hidden_000.npy", "x_000.npy.part", "notes.txt", "x.npy", "x_00.npy"):
        (made / "a" / name).touch()
        (made / "b" / name).touch()
    assert dataset.find_pairs(made, ["a"], ["b"]).names.tolist() == ["x_000.npy"]


def test_a_thousand_slices_stay_in_order(tmp_path):
    for instrument in ("a", "b"):
        (tmp_path / instrument).mkdir()
        for number in (1000, 2, 999, 10, 1001):
            (tmp_path / instrument / f"x_{number:03d}.npy").touch()
    names = dataset.find_pairs(tmp_path, ["a"], ["b"]).names.tolist()
    assert names == ["x_002.npy", "x_010.npy", "x_999.npy", "x_1000.npy", "x_1001.npy"]


@pytest.mark.parametrize(("origin", "targets", "words"), [
    ("harp", ["guitar"], ["--origin", "flute, guitar, piano", "'harp'"]),
    ("piano", ["guitar", "harp"], ["--target", "flute, guitar, piano", "'harp'"]),
])  # fmt: skip
def test_unknown_instrument_lists_what_is_there(folder, origin, targets, words):
    with pytest.raises(InputError) as caught:
        dataset.find_pairs(folder, [origin], targets)
    assert all(word in str(caught.value) for word in words)


def test_folders_without_pairs(tmp_path, noise_features):
    with pytest.raises(InputError, match=r"--dataset_path.*nothing"):
        dataset.find_pairs(tmp_path / "missing", ["a"], ["b"])
    with pytest.raises(InputError, match="no folders at all"):
        dataset.find_pairs(tmp_path, ["a"], ["b"])
    noise_features(tmp_path, {"a": {"x": 1}, "b": {"y": 1}})
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="with the same names, found none"):
        dataset.find_pairs(tmp_path, ["a"], ["b"])
    with pytest.raises(InputError, match=r"c: expected features named <piece>_<slice>\.npy"):
        dataset.find_pairs(tmp_path, ["a"], ["c"])


def test_description_of_the_features_is_read(tmp_path, noise_features):
    made = noise_features(tmp_path, {"a": {"x": 1}, "b": {"x": 1}})
    assert dataset.find_pairs(made, ["a"], ["b"]).representation == PUBLISHED
    other = Representation(n_fft=2048)
    write_json(made / "features.json", other.to_dict())
    assert dataset.find_pairs(made, ["a"], ["b"]).representation == other
    (made / "features.json").write_text("{")
    with pytest.raises(InputError, match=r"features\.json: expected a JSON"):
        dataset.find_pairs(made, ["a"], ["b"])


# --- split ------------------------------------------------------------------------------------------------------------


def test_split_holds_out_whole_pieces(tmp_path, noise_features):
    pieces = {f"p{i}": 1 + i % 3 for i in range(10)}
    pairs = dataset.find_pairs(noise_features(tmp_path, {"a": pieces, "b": pieces, "c": pieces}), ["a"], ["b", "c"])
    for seed in range(5):
        training, validation, said = dataset.split_by_piece(pairs, 0.3, seed)
        of_training, of_validation = set(pairs.pieces[training[:, 0]]), set(pairs.pieces[validation[:, 0]])
        assert of_training.isdisjoint(of_validation)
        assert of_training | of_validation == set(range(10))
        assert len(training) + len(validation) == len(pairs.samples)
        n_names = sum(pieces.values())
        assert abs(len(validation) / 2 - 0.3 * n_names) <= 1.5  # half of the longest piece
        assert f"{len(of_validation)} of 10 pieces" in said
        assert f"{len(validation) // 2} of {n_names} slices" in said


def test_split_depends_on_names_and_seed_alone(folder, pairs, monkeypatch):
    def split(seed):
        return [rows.tolist() for rows in dataset.split_by_piece(dataset.find_pairs(folder, ["piano"], ["guitar", "flute"]), 0.4, seed)[:2]]  # fmt: skip  # noqa: E501

    def backwards(path):
        class Entries(list):
            __enter__, __exit__ = lambda self: self, lambda *_: None

        with scan(path) as entries:
            return Entries(reversed(list(entries)))

    before, scan = [split(seed) for seed in range(8)], os.scandir
    assert len({str(rows) for rows in before}) > 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", backwards)
        assert [split(seed) for seed in range(8)] == before


def test_split_of_a_single_piece_takes_its_end(tmp_path, noise_features):
    made = noise_features(tmp_path, {"a": {"x": 10}, "b": {"x": 10}})
    pairs = dataset.find_pairs(made, ["a"], ["b"])
    training, validation, said = dataset.split_by_piece(pairs, 0.2, 0)
    assert training[:, 0].tolist() == list(range(8))
    assert validation[:, 0].tolist() == [8, 9]
    assert "single piece" in said
    assert "last 2 of 10" in said


def test_split_leaves_something_on_both_sides(tmp_path, noise_features):
    made = noise_features(tmp_path, {"a": {"x": 1, "y": 9}, "b": {"x": 1, "y": 9}})
    pairs = dataset.find_pairs(made, ["a"], ["b"])
    for share in (0.01, 0.9):
        for seed in range(4):
            training, validation, _ = dataset.split_by_piece(pairs, share, seed)
            assert min(len(training), len(validation)) >= 1


def test_no_validation(pairs, tmp_path, noise_features):
    training, validation, said = dataset.split_by_piece(pairs, 0.0, 0)
    assert (len(training), len(validation)) == (len(pairs.samples), 0)
    assert "nothing" in said
    single = dataset.find_pairs(noise_features(tmp_path, {"a": {"x": 1}, "b": {"x": 1}}), ["a"], ["b"])
    training, validation, said = dataset.split_by_piece(single, 0.5, 0)
    assert (len(training), len(validation)) == (1, 0)
    assert "single slice" in said


# --- voices -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voices(tmp_path_factory, noise_features):
    """Two pianos, one of which lacks a piece, and two other instruments."""
    pieces = {"bach": 2, "satie": 1}
    slices = {"piano@grand": pieces, "piano@upright": {"bach": 2}, "guitar": pieces, "flute@wood": pieces}
    return noise_features(tmp_path_factory.mktemp("voices"), slices)


def pair_names(pairs):
    """Every pair as (origin, target, name)."""
    return [(pairs.origins[o], pairs.targets[t], str(pairs.names[name])) for name, t, o in pairs.samples]


def test_every_voice_of_the_origin_is_paired_with_the_same_target(voices):
    pairs = dataset.find_pairs(voices, ["piano"], ["guitar"])
    assert pair_names(pairs) == [
        ("piano@grand", "guitar", "bach_000.npy"),
        ("piano@grand", "guitar", "bach_001.npy"),
        ("piano@grand", "guitar", "satie_000.npy"),
        ("piano@upright", "guitar", "bach_000.npy"),
        ("piano@upright", "guitar", "bach_001.npy"),
    ]
    assert pairs.unpaired == {}
    alone = dataset.find_pairs(voices, ["piano@upright"], ["flute"])
    assert (alone.origins, alone.targets) == (("piano@upright",), ("flute@wood",))
    assert alone.unpaired == {"flute@wood": (1, "satie_000.npy")}


def test_any_pairs_each_instrument_with_each_other_one(voices):
    pairs = dataset.find_pairs(voices, ["any"], ["any"], identity=False)
    found = {(origin, target) for origin, target, _ in pair_names(pairs)}
    folders = ["piano@grand", "piano@upright", "guitar", "flute@wood"]
    of = {folder: folder.split("@")[0] for folder in folders}
    assert found == {(a, b) for a in folders for b in folders if of[a] != of[b]}  # no piano to another piano
    with_itself = dataset.find_pairs(voices, ["any"], ["any"], identity=True)
    assert {(origin, target) for origin, target, _ in pair_names(with_itself)} == {
        (a, b) for a in folders for b in folders
    }


def test_an_unknown_voice_lists_what_is_there(voices):
    with pytest.raises(InputError, match=r"--origin: .*piano@grand, piano@upright\), found 'piano@toy'"):
        dataset.find_pairs(voices, ["piano@toy"], ["guitar"])


def test_variations_of_a_piece_are_held_out_together(tmp_path, noise_features):
    pieces = {f"{piece}{variation}": 1 for piece in ("a", "b", "c", "d") for variation in ("", "_v01", "_v02")}
    pairs = dataset.find_pairs(noise_features(tmp_path, {"piano": pieces, "guitar": pieces}), ["piano"], ["guitar"])
    assert pairs.piece_names == ("a", "b", "c", "d")
    training, held_out, _ = dataset.split_by_piece(pairs, 0.25, 0)
    assert {str(pairs.names[name])[0] for name in held_out[:, 0]}.isdisjoint(
        {str(pairs.names[name])[0] for name in training[:, 0]}
    )
    assert len(held_out) == 3


# Makes a million feature files of two instruments as links to one, finds them and loads the first batch.
A_MILLION = f"""
import os, sys
import numpy as np
from training import batches, dataset
folder, n_pieces, n_slices = sys.argv[1], 1250, 400
np.save(os.path.join(folder, "one.npy"), np.full((256, 256, 1), 0.25, np.float16))
for instrument in ("piano", "guitar"):
    os.mkdir(os.path.join(folder, instrument))
    descriptor = os.open(os.path.join(folder, instrument), os.O_RDONLY)
    for piece in range(n_pieces):
        for number in range(n_slices):
            os.symlink("../one.npy", f"piece{{piece:04d}}_{{number:03d}}.npy", dir_fd=descriptor)
before = {PEAK_MEMORY}
pairs = dataset.find_pairs(folder, ["piano"], ["guitar"])
training, held_out, _ = dataset.split_by_piece(pairs, 0.1, 0)
inputs, target = batches.Batches(pairs, training, 8, seed=0).load(0)
assert inputs.shape == target.shape == (8, 256, 256, 1) and (inputs == -0.5).all()
grown = ({PEAK_MEMORY} - before) / 1e3
print(len(pairs.samples), len(training), len(held_out), round(grown))
"""


@pytest.mark.slow
@needs_peak_memory
def test_a_million_feature_files_start_with_their_names_alone_in_memory(tmp_path):
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path  # ten times faster to make links in
    folder = tempfile.mkdtemp(dir=memory)
    try:
        command = [sys.executable, "-c", A_MILLION, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    n_samples, n_training, n_held_out, grown_mb = map(int, done.stdout.split())
    assert n_samples == n_training + n_held_out == 500_000
    assert n_held_out == 50_000
    assert grown_mb < 600  # a name takes some hundred bytes; one slice alone is 128 KiB


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_folder_that_is_a_link_to_itself_is_no_instrument(tmp_path, noise_features):
    folder = noise_features(tmp_path, {"piano": {"a": 2}, "guitar": {"a": 2}})
    (folder / "endless").symlink_to(folder / "endless")
    assert dataset.find_pairs(folder, ["any"], ["guitar"]).origins == ("guitar", "piano")
    with pytest.raises(InputError, match="found 'endless'"):
        dataset.find_pairs(folder, ["endless"], ["guitar"])


def test_recordings_in_place_of_features_name_the_command_that_is_missing(tmp_path):
    for instrument in ("piano", "guitar"):
        (tmp_path / "audios" / instrument).mkdir(parents=True)
        (tmp_path / "audios" / instrument / "a.wav").touch()
    command = f"compute_features.py --audios_path {tmp_path / 'audios'}"
    for folder in ("audios", "audios/piano"):
        with pytest.raises(InputError, match=re.escape(command)):
            dataset.find_pairs(tmp_path / folder, ["piano"], ["guitar"])
    with pytest.raises(InputError, match=re.escape(f"Try --dataset_path {tmp_path / 'audios'}")):
        dataset.find_pairs(tmp_path, ["piano"], ["guitar"])
