"""Feature files to batches: what is paired, how it is split, and that a batch depends on nothing but its step."""

import collections
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from conftest import PEAK_MEMORY, ROOT, needs_peak_memory

from common.errors import InputError
from common.files import write_json
from data import PUBLISHED, Representation
from training import dataset
from training.batches import Batches, iterate_batches, read_slice, stream_batches


def samples_of(pairs, rows):
    """Rows of samples as (name, target) words."""
    return [(str(pairs.names[name]), pairs.targets[target]) for name, target in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, noise_features):
    """Two targets, three pieces; the second target has another slice of one of them and lacks one."""
    pieces = {"bach": 4, "chopin_op_10": 3, "satie": 5}
    slices = {"piano": pieces, "guitar": pieces, "flute": pieces | {"satie": 6}}
    written = noise_features(tmp_path_factory.mktemp("features"), slices)
    (written / "flute" / "bach_002.npy").unlink()
    return written


@pytest.fixture(scope="module")
def pairs(folder):
    return dataset.find_pairs(folder, "piano", ["guitar", "flute"])


def test_every_slice_is_paired_with_its_namesake(pairs):
    found = samples_of(pairs, pairs.samples)
    assert len(found) == len(set(found)) == 12 + 11
    assert ("bach_002.npy", "guitar") in found
    assert ("bach_002.npy", "flute") not in found
    assert pairs.piece_names == ("bach", "chopin_op_10", "satie")


def test_unpaired_files_are_reported(folder):
    assert dataset.find_pairs(folder, "piano", ["flute"]).unpaired == {
        "piano": (1, "bach_002.npy"),
        "flute": (1, "satie_005.npy"),
    }
    assert dataset.find_pairs(folder, "piano", ["guitar"]).unpaired == {}


def test_pieces_that_compute_features_was_stopped_at_are_left_out(tmp_path, noise_features):
    """It writes slice 0 last; others make sets of any slices, and have no features.json."""
    made = noise_features(tmp_path, {"a": {"x": 3, "x_1": 3, "z": 1}, "b": {"x": 3, "x_1": 3, "z": 1}})
    (made / "b" / "x_000.npy").unlink()
    assert len(dataset.find_pairs(made, "a", ["b"]).samples) == 6
    write_json(made / "features.json", PUBLISHED.to_dict())
    pairs = dataset.find_pairs(made, "a", ["b"])
    assert pairs.piece_names == ("x_1", "z")
    assert pairs.unfinished == {"b": (2, "x_001.npy")}
    assert pairs.unpaired == {"a": (3, "x_000.npy")}
    for name in ("x_1_000.npy", "z_000.npy"):
        (made / "b" / name).unlink()
    with pytest.raises(InputError, match=r"b: expected features.*unfinished pieces.*compute_features\.py again"):
        dataset.find_pairs(made, "a", ["b"])


def test_the_origins_name_may_stand_anywhere_in_the_path(tmp_path, noise_features):
    """Pairs are made by folder and name, not by replacing text in a path."""
    slices = {"piano": {"piano_concert": 1}, "guitar": {"piano_concert": 1}}
    made = noise_features(tmp_path / "piano" / "my_piano_set", slices)
    pairs = dataset.find_pairs(made, "piano", ["guitar"])
    inputs, target = Batches(pairs, pairs.samples, 1, seed=0).load(0)
    for found, instrument in ((inputs, "piano"), (target, "guitar")):
        level = np.load(made / instrument / "piano_concert_000.npy").astype(np.float32)
        np.testing.assert_array_equal(found[0], 2 * level - 1)


def test_names_with_underscores_and_digits(tmp_path, noise_features):
    pieces = {"no_9_001": 2, "no_9": 2, "k_331 (live) ü": 1}
    pairs = dataset.find_pairs(noise_features(tmp_path, {"a": pieces, "b": pieces}), "a", ["b"])
    assert pairs.piece_names == ("k_331 (live) ü", "no_9", "no_9_001")
    assert collections.Counter(np.array(pairs.piece_names)[pairs.pieces].tolist()) == pieces


def test_other_files_are_left_alone(tmp_path, noise_features):
    made = noise_features(tmp_path, {"a": {"x": 1}, "b": {"x": 1}})
    for name in (".hidden_000.npy", "x_000.npy.part", "notes.txt", "x.npy", "x_00.npy"):
        (made / "a" / name).touch()
        (made / "b" / name).touch()
    assert dataset.find_pairs(made, "a", ["b"]).names.tolist() == ["x_000.npy"]


def test_a_thousand_slices_stay_in_order(tmp_path):
    for instrument in ("a", "b"):
        (tmp_path / instrument).mkdir()
        for number in (1000, 2, 999, 10, 1001):
            (tmp_path / instrument / f"x_{number:03d}.npy").touch()
    names = dataset.find_pairs(tmp_path, "a", ["b"]).names.tolist()
    assert names == ["x_002.npy", "x_010.npy", "x_999.npy", "x_1000.npy", "x_1001.npy"]


@pytest.mark.parametrize(("origin", "targets", "words"), [
    ("harp", ["guitar"], ["--origin", "flute, guitar, piano", "'harp'"]),
    ("piano", ["guitar", "harp"], ["--target", "flute, guitar, piano", "'harp'"]),
])  # fmt: skip
def test_unknown_instrument_lists_what_is_there(folder, origin, targets, words):
    with pytest.raises(InputError) as caught:
        dataset.find_pairs(folder, origin, targets)
    assert all(word in str(caught.value) for word in words)


def test_folders_without_pairs(tmp_path, noise_features):
    with pytest.raises(InputError, match=r"--dataset_path.*nothing"):
        dataset.find_pairs(tmp_path / "missing", "a", ["b"])
    with pytest.raises(InputError, match="no folders at all"):
        dataset.find_pairs(tmp_path, "a", ["b"])
    noise_features(tmp_path, {"a": {"x": 1}, "b": {"y": 1}})
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="of the same name, found none"):
        dataset.find_pairs(tmp_path, "a", ["b"])
    with pytest.raises(InputError, match=r"c: expected features named <piece>_<slice>\.npy"):
        dataset.find_pairs(tmp_path, "a", ["c"])


def test_description_of_the_features_is_read(tmp_path, noise_features):
    made = noise_features(tmp_path, {"a": {"x": 1}, "b": {"x": 1}})
    assert dataset.find_pairs(made, "a", ["b"]).representation == PUBLISHED
    other = Representation(n_fft=2048)
    write_json(made / "features.json", other.to_dict())
    assert dataset.find_pairs(made, "a", ["b"]).representation == other
    (made / "features.json").write_text("{")
    with pytest.raises(InputError, match=r"features\.json: expected a JSON file"):
        dataset.find_pairs(made, "a", ["b"])


# --- split ------------------------------------------------------------------------------------------------------------


def test_split_holds_out_whole_pieces(tmp_path, noise_features):
    pieces = {f"p{i}": 1 + i % 3 for i in range(10)}
    pairs = dataset.find_pairs(noise_features(tmp_path, {"a": pieces, "b": pieces, "c": pieces}), "a", ["b", "c"])
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
        return [rows.tolist() for rows in dataset.split_by_piece(dataset.find_pairs(folder, "piano", ["guitar", "flute"]), 0.4, seed)[:2]]  # fmt: skip  # noqa: E501

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
    pairs = dataset.find_pairs(made, "a", ["b"])
    training, validation, said = dataset.split_by_piece(pairs, 0.2, 0)
    assert training[:, 0].tolist() == list(range(8))
    assert validation[:, 0].tolist() == [8, 9]
    assert "single piece" in said
    assert "last 2 of 10" in said


def test_split_leaves_something_on_both_sides(tmp_path, noise_features):
    made = noise_features(tmp_path, {"a": {"x": 1, "y": 9}, "b": {"x": 1, "y": 9}})
    pairs = dataset.find_pairs(made, "a", ["b"])
    for share in (0.01, 0.9):
        for seed in range(4):
            training, validation, _ = dataset.split_by_piece(pairs, share, seed)
            assert min(len(training), len(validation)) >= 1


def test_no_validation(pairs, tmp_path, noise_features):
    training, validation, said = dataset.split_by_piece(pairs, 0.0, 0)
    assert (len(training), len(validation)) == (len(pairs.samples), 0)
    assert "nothing" in said
    single = dataset.find_pairs(noise_features(tmp_path, {"a": {"x": 1}, "b": {"x": 1}}), "a", ["b"])
    training, validation, said = dataset.split_by_piece(single, 0.5, 0)
    assert (len(training), len(validation)) == (1, 0)
    assert "single slice" in said


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_any_precision_are_read(tmp_path, noise_features, dtype):
    """float16 is ours, float64 the original program's."""
    path = noise_features(tmp_path, {"a": {"x": 1}}, dtype) / "a" / "x_000.npy"
    found = read_slice(path, (256, 256, 1))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 2 * np.load(path).astype(np.float64) - 1, atol=1e-6)
    assert found.min() < -0.99
    assert found.max() > 0.99


def damaged_files():
    good = np.zeros((256, 256, 1), np.float16)
    yield "no array", lambda path: path.write_text("nothing of the kind")
    yield "empty", lambda path: path.touch()
    yield "truncated", lambda path: (np.save(path, good), path.write_bytes(path.read_bytes()[:-10]))
    yield "damaged header", lambda path: (np.save(path, good), path.write_bytes(path.read_bytes().replace(b"{", b"(")))
    yield "objects", lambda path: np.save(path, np.array([{}], object))
    yield "archive", lambda path: (np.savez(path.with_suffix(".npz"), good), path.with_suffix(".npz").rename(path))
    yield "shape", lambda path: np.save(path, good[:, :200])
    yield "NaN", lambda path: np.save(path, good + np.nan)
    yield "infinite", lambda path: np.save(path, good + np.inf)
    yield "decibels", lambda path: np.save(path, good - 80)
    yield "words", lambda path: np.save(path, np.full(good.shape, "x"))
    yield "a folder", lambda path: path.mkdir()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "write"), damaged_files(), ids=[kind for kind, _ in damaged_files()])
def test_damaged_slice_is_named(tmp_path, kind, write):
    path = tmp_path / "x_000.npy"
    write(path)
    with pytest.raises(InputError, match=r"x_000\.npy: expected"):
        read_slice(path, (256, 256, 1))


def test_wrong_shape_says_both(tmp_path):
    np.save(tmp_path / "x_000.npy", np.zeros((256, 128, 1)))
    with pytest.raises(InputError, match=r"\(256, 256, 1\), found \(256, 128, 1\)"):
        read_slice(tmp_path / "x_000.npy", (256, 256, 1))


# --- batches ----------------------------------------------------------------------------------------------------------


def batches_of(pairs, batch_size=4, seed=3, **options):
    return Batches(pairs, pairs.samples, batch_size, seed, **options)


@pytest.mark.parametrize("style", [False, True])
def test_an_epoch_visits_every_slice_and_target_once(pairs, style):
    batches = batches_of(pairs, style=style)
    assert batches.steps_per_epoch == 6  # 23 in batches of 4
    for epoch in range(3):
        rows, _ = batches.order(epoch)
        assert sorted(rows) == list(range(23))


def test_batches_hold_what_the_order_says(folder, pairs):
    batches = batches_of(pairs, style=True)
    rows, styles = batches.order(1)
    inputs, target = batches.load(6 + 5)  # the last of the second epoch
    assert inputs.shape == (3, 256, 256, 2)
    assert target.shape == (3, 256, 256, 1)
    assert inputs.dtype == target.dtype == np.float32

    def level(instrument, name):
        return 2 * np.load(folder / instrument / str(name)).astype(np.float32)[..., 0] - 1

    for i, (row, style) in enumerate(zip(rows[20:], styles[20:], strict=True)):
        name, instrument = samples_of(pairs, pairs.samples[row : row + 1])[0]
        np.testing.assert_array_equal(inputs[i, ..., 0], level("piano", name))
        np.testing.assert_array_equal(target[i, ..., 0], level(instrument, name))
        np.testing.assert_array_equal(inputs[i, ..., 1], level(instrument, pairs.names[style]))


def test_style_is_never_the_answer(pairs):
    batches = batches_of(pairs, style=True)
    drawn = collections.defaultdict(set)
    for epoch in range(60):
        for row, style in zip(*batches.order(epoch), strict=True):
            drawn[tuple(pairs.samples[row])].add(int(style))
    for (name, target), styles in drawn.items():
        of_target = set(pairs.samples[pairs.samples[:, 1] == target, 0].tolist())
        assert styles == of_target - {name}  # all the others, in the long run


def test_a_single_slice_takes_its_style_from_elsewhere(pairs):
    """Of the one slice that is held out of a target, the style is a training slice, not the answer."""
    batches = Batches(pairs, pairs.samples[:1], 1, 0, style=True, shuffle=False)
    rows, styles = batches.order(0)
    assert rows.tolist() == [0]
    assert styles[0] != pairs.samples[0, 0]
    assert styles[0] in pairs.samples[pairs.samples[:, 1] == pairs.samples[0, 1], 0]


def test_validation_is_the_same_every_time(pairs):
    batches = batches_of(pairs, style=True, shuffle=False)
    first, again = batches.order(0), batches.order(7)
    assert first[0].tolist() == list(range(23))
    assert first[1].tolist() == again[1].tolist() == batches_of(pairs, style=True, shuffle=False).order(2)[1].tolist()


def test_order_depends_on_seed_and_epoch_alone(pairs):
    batches = batches_of(pairs, style=True)
    third = [part.tolist() for part in batches.order(3)]
    fresh = batches_of(pairs, style=True)
    assert [part.tolist() for part in fresh.order(3)] == third  # without having been through the epochs before
    assert fresh.order(2)[0].tolist() != third[0]
    assert batches_of(pairs, style=True, seed=4).order(3)[0].tolist() != third[0]
    assert batches_of(pairs, batch_size=5, style=True).order(3)[0].tolist() == third[0]


def test_batch_size_above_the_data(pairs):
    with pytest.raises(InputError, match=r"--batch_size: expected at most the 23 slices.*found 24"):
        batches_of(pairs, batch_size=24)
    assert batches_of(pairs, batch_size=24, shuffle=False).steps_per_epoch == 1  # validation may be small


def test_remainder_may_be_dropped(pairs):
    batches = batches_of(pairs, drop_remainder=True)
    assert batches.steps_per_epoch == 5
    assert [len(batches.load(step)[0]) for step in (4, 5)] == [4, 4]


def test_stream_gives_what_load_gives(pairs):
    batches = batches_of(pairs, style=True)
    for step, (inputs, target) in enumerate(iterate_batches(stream_batches(batches, 4, 9), batches), 4):
        expected = batches_of(pairs, style=True).load(step)
        np.testing.assert_array_equal(inputs.numpy(), expected[0])
        np.testing.assert_array_equal(target.numpy(), expected[1])
    assert step == 8


def test_stream_names_the_damaged_file(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "guitar" / "satie_003.npy").write_bytes(b"damaged")
    pairs = dataset.find_pairs(tmp_path / "copy", "piano", ["guitar"])
    batches = batches_of(pairs)
    with pytest.raises(InputError, match=r"guitar.satie_003\.npy: expected a feature slice"):
        list(iterate_batches(stream_batches(batches, 0, batches.steps_per_epoch), batches))


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
pairs = dataset.find_pairs(folder, "piano", ["guitar"])
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
