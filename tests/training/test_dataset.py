"""Feature files to batches: what is paired, how it is split, and that a batch depends on nothing but its step."""

import collections
import shutil

import numpy as np
import pytest

from common import InputError
from common.files import write_json
from data import Representation
from training import dataset
from training.dataset import Batches, iterate_batches, read_level


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
    return dataset.find_pairs(folder, ["piano"], ["guitar", "flute"])


def pair_names(pairs):
    """Every pair as (origin, target, name)."""
    return [(pairs.origins[o], pairs.targets[t], str(pairs.names[name])) for name, t, o in pairs.samples]


def test_every_slice_is_paired_with_its_namesake_and_the_rest_reported(folder, pairs):
    found = pair_names(pairs)
    assert len(found) == len(set(found)) == 12 + 11
    assert ("piano", "guitar", "bach_002.npy") in found
    assert ("piano", "flute", "bach_002.npy") not in found
    assert pairs.piece_names == ("bach", "chopin_op_10", "satie")
    flute, piano = dataset.find_pairs(folder, ["piano"], ["flute"]).left_out
    assert flute == "1 slice of flute without a counterpart in a finished piece, such as satie_005.npy"
    assert "1 slice of piano" in piano
    assert dataset.find_pairs(folder, ["piano"], ["guitar"]).left_out == ()


def test_pieces_that_compute_features_was_stopped_at_are_left_out(tmp_path, noise_features):
    """It writes slice 0 last; others make sets of any slices, and have no features.json."""
    made = noise_features(tmp_path, {"a": {"x": 3, "x_1": 3, "z": 1}, "b": {"x": 3, "x_1": 3, "z": 1}})
    (made / "b" / "x_000.npy").unlink()
    assert len(dataset.find_pairs(made, ["a"], ["b"]).samples) == 6
    other = Representation(n_fft=2048)
    write_json(made / "features.json", other.to_dict())
    pairs = dataset.find_pairs(made, ["a"], ["b"])
    assert pairs.representation == other
    assert pairs.piece_names == ("x_1", "z")
    assert "2 slices of b" in pairs.left_out[1]
    for name in ("x_1_000.npy", "z_000.npy"):
        (made / "b" / name).unlink()
    with pytest.raises(InputError):
        dataset.find_pairs(made, ["a"], ["b"])


def test_names(tmp_path, noise_features):
    """Pieces may hold underscores and digits; slices stay in order beyond 999; other files are left alone."""
    pieces = {"no_9_001": 2, "no_9": 2, "k_331 (live) ü": 1}
    made = noise_features(tmp_path / "a" / "set_of_a", {"a": pieces, "b": pieces})
    for name in (".hidden_000.npy", "x_000.npy.part", "notes.txt", "x.npy", "x_00.npy"):
        (made / "a" / name).touch()
        (made / "b" / name).touch()
    for number in (1000, 999):
        for instrument in ("a", "b"):
            shutil.copy(made / instrument / "no_9_001.npy", made / instrument / f"no_9_{number}.npy")
    pairs = dataset.find_pairs(made, ["a"], ["b"])
    assert pairs.piece_names == ("k_331 (live) ü", "no_9", "no_9_001")
    assert collections.Counter(np.array(pairs.piece_names)[pairs.pieces].tolist()) == pieces | {"no_9": 4}
    assert [name for name in pairs.names.tolist() if name.startswith("no_9_")][:4] == [
        "no_9_000.npy", "no_9_001.npy", "no_9_999.npy", "no_9_1000.npy",
    ]  # fmt: skip
    inputs, target = Batches(pairs, pairs.samples[:1], 1, seed=0).load(0)
    for found, instrument in ((inputs, "a"), (target, "b")):
        level = np.load(made / instrument / str(pairs.names[0])).astype(np.float32)
        np.testing.assert_array_equal(found[0], 2 * level - 1)


def test_what_cannot_be_paired_names_flag_or_folder(tmp_path, noise_features):
    made = noise_features(tmp_path / "set", {"a": {"x": 1}, "b": {"y": 1}})
    (made / "c").mkdir()
    for target, named in (("b", str(made)), ("c", str(made / "c"))):  # b has other names, c none
        with pytest.raises(InputError) as caught:
            dataset.find_pairs(made, ["a"], [target])
        assert named in str(caught.value)


# --- voices -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voices(tmp_path_factory, noise_features):
    """Two pianos, one of which lacks a piece, and two other instruments."""
    pieces = {"bach": 2, "satie": 1}
    slices = {"piano@grand": pieces, "piano@upright": {"bach": 2}, "guitar": pieces, "flute@wood": pieces}
    return noise_features(tmp_path_factory.mktemp("voices"), slices)


def test_every_voice_is_paired_with_the_same_target_and_any_with_each_other_instrument(voices):
    pairs = dataset.find_pairs(voices, ["piano"], ["guitar"])
    names = {"piano@grand": ["bach_000", "bach_001", "satie_000"], "piano@upright": ["bach_000", "bach_001"]}
    expected = [(voice, "guitar", f"{name}.npy") for voice, of_voice in names.items() for name in of_voice]
    assert pair_names(pairs) == expected
    alone = dataset.find_pairs(voices, ["piano@upright"], ["flute"])
    assert (alone.origins, alone.targets) == (("piano@upright",), ("flute@wood",))
    folders = ["piano@grand", "piano@upright", "guitar", "flute@wood"]
    for with_itself in (False, True):
        pairs = dataset.find_pairs(voices, ["any"], ["any"], with_itself)
        assert {(origin, target) for origin, target, _ in pair_names(pairs)} == {
            (a, b) for a in folders for b in folders if with_itself or a.split("@")[0] != b.split("@")[0]
        }


# --- split ------------------------------------------------------------------------------------------------------------


def test_split_holds_out_whole_pieces_with_their_variations(tmp_path, noise_features):
    pieces = {f"p{i}{variation}": 1 + i % 3 for i in range(10) for variation in ("", "_v01")}
    pairs = dataset.find_pairs(noise_features(tmp_path, {"a": pieces, "b": pieces, "c": pieces}), ["a"], ["b", "c"])
    n_names = sum(pieces.values())
    for seed in range(5):
        again = [rows.tolist() for rows in dataset.split_by_piece(pairs, 0.3, seed)[:2]]
        assert again != [rows.tolist() for rows in dataset.split_by_piece(pairs, 0.3, seed + 5)[:2]]
        training, validation, said = dataset.split_by_piece(pairs, 0.3, seed)
        of_training, of_validation = set(pairs.pieces[training[:, 0]]), set(pairs.pieces[validation[:, 0]])
        assert again == [training.tolist(), validation.tolist()]
        assert of_training.isdisjoint(of_validation)
        assert of_training | of_validation == set(range(10))
        assert len(training) + len(validation) == len(pairs.samples)
        assert abs(len(validation) / 2 - 0.3 * n_names) <= 3  # half of the longest piece
        assert f"{len(validation) // 2} of {n_names} slices" in said


def test_a_file_names_the_pieces_to_hold_out(pairs, tmp_path):
    path = tmp_path / "holdout.txt"
    path.write_text("satie\n\n bach \n", encoding="utf-8")
    training, validation, _ = dataset.split_by_piece(pairs, 0.1, 0, path)
    assert set(pairs.pieces[training[:, 0]]) == {1}
    assert set(pairs.pieces[validation[:, 0]]) == {0, 2}
    path.write_text("satie\nchopin\n", encoding="utf-8")
    with pytest.raises(InputError):
        dataset.split_by_piece(pairs, 0.1, 0, path)


def test_split_of_few_pieces():
    """Of one piece the end is held out; of two, something stays on both sides; of one slice, nothing is held out."""
    held_out, _ = dataset.hold_out(np.zeros(10, int), 0.2, 0)
    assert np.flatnonzero(held_out).tolist() == [8, 9]
    for share in (0.01, 0.9):
        for seed in range(4):
            held_out, _ = dataset.hold_out(np.array([0] + 9 * [1]), share, seed)
            assert 0 < held_out.sum() < 10
    assert not dataset.hold_out(np.zeros(1, int), 0.5, 0)[0].any()
    assert not dataset.hold_out(np.arange(5), 0.0, 0)[0].any()


# --- files ------------------------------------------------------------------------------------------------------------


def test_features_of_any_precision_are_read_and_a_damaged_slice_is_named(tmp_path):
    """float16 is ours, float64 the original program's."""
    path, good = tmp_path / "x_000.npy", np.random.default_rng(0).random((256, 256, 1))
    for dtype in (np.float16, np.float32, np.float64):
        np.save(path, good.astype(dtype))
        found = read_level(path, (256, 256, 1))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, good.astype(dtype), atol=1e-7)
    for content in (good[:, :200], good + np.nan, good - 80, good + 1e300):  # shape, NaN, decibels, beyond float32
        np.save(path, content)
        with pytest.raises(InputError) as caught:
            read_level(path, (256, 256, 1))
        assert str(path) in str(caught.value)


# --- batches ----------------------------------------------------------------------------------------------------------


def batches_of(pairs, batch_size=4, seed=3, **options):
    return Batches(pairs, pairs.samples, batch_size, seed, **options)


def test_batches_hold_what_the_order_says(folder, pairs):
    """Every slice with every target once in an epoch, and another slice of the target as style."""
    batches = batches_of(pairs, style=True)
    assert batches.steps_per_epoch == 6  # 23 in batches of 4
    rows, draws = batches.order(1)
    assert sorted(rows) == list(range(23))
    inputs, target = batches.load(6 + 5)  # the last of the second epoch
    assert (inputs.shape, target.shape) == ((3, 256, 256, 2), (3, 256, 256, 1))
    assert inputs.dtype == target.dtype == np.float32

    def level(instrument, name):
        return 2 * np.load(folder / instrument / str(name)).astype(np.float32)[..., 0] - 1

    names = pair_names(pairs)
    for i, (row, draw) in enumerate(zip(rows[20:], draws[20:], strict=True)):
        origin, instrument, name = names[row]
        np.testing.assert_array_equal(inputs[i, ..., 0], level(origin, name))
        np.testing.assert_array_equal(target[i, ..., 0], level(instrument, name))
        np.testing.assert_array_equal(inputs[i, ..., 1], level(instrument, pairs.names[batches.draw_style(row, draw)]))


def test_style_is_never_the_answer(pairs):
    batches = batches_of(pairs, style=True)
    drawn = collections.defaultdict(set)
    for epoch in range(60):
        for row, draw in zip(*batches.order(epoch), strict=True):
            drawn[tuple(pairs.samples[row])].add(int(batches.draw_style(row, draw)))
    for (name, target, _), styles in drawn.items():
        of_target = set(pairs.samples[pairs.samples[:, 1] == target, 0].tolist())
        assert styles == of_target - {name}  # all the others, in the long run
    single = Batches(pairs, pairs.samples[:1], 1, 0, style=True, shuffle=False)
    assert single.draw_style(0, 0.5) != pairs.samples[0, 0]  # of the one slice that is held out, it is a training slice


def test_order_depends_on_seed_and_epoch_alone(pairs):
    batches = batches_of(pairs, style=True)
    third = [part.tolist() for part in batches.order(3)]
    fresh = batches_of(pairs, style=True)
    assert [part.tolist() for part in fresh.order(3)] == third  # without having been through the epochs before
    assert fresh.order(2)[0].tolist() != third[0]
    assert batches_of(pairs, style=True, seed=4).order(3)[0].tolist() != third[0]
    assert batches_of(pairs, batch_size=5, style=True).order(3)[0].tolist() == third[0]
    fixed = batches_of(pairs, style=True, shuffle=False)  # validation
    assert fixed.order(0)[0].tolist() == list(range(23))
    assert fixed.order(0)[1].tolist() == fixed.order(7)[1].tolist()


def test_stream_gives_what_load_gives_and_names_a_damaged_file(folder, pairs, tmp_path):
    batches = batches_of(pairs, style=True)
    for step, (inputs, target) in enumerate(iterate_batches(batches, 4, 9), 4):
        expected = batches_of(pairs, style=True).load(step)
        np.testing.assert_array_equal(inputs, expected[0])
        np.testing.assert_array_equal(target, expected[1])
    assert step == 8
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "guitar" / "satie_003.npy").write_bytes(b"damaged")
    batches = batches_of(dataset.find_pairs(tmp_path / "copy", ["piano"], ["guitar"]))
    with pytest.raises(InputError) as caught:
        list(iterate_batches(batches, 0, batches.steps_per_epoch))
    assert "satie_003.npy" in str(caught.value)


def test_augmentation_changes_the_origin_alone_and_depends_on_seed_epoch_and_sample(pairs):
    """So a resumed run, another batch size and another order of loading see the same."""
    plain = batches_of(pairs, batch_size=23, style=True)
    augmented = batches_of(pairs, batch_size=23, style=True, augment=True)
    origins = []
    for epoch in (0, 1):
        (inputs, target), (expected, truth) = augmented.load(epoch), plain.load(epoch)
        np.testing.assert_array_equal(target, truth)
        np.testing.assert_array_equal(inputs[..., 1], expected[..., 1])  # the style
        assert (np.abs(inputs[..., 0] - expected[..., 0]).max(axis=(1, 2)) > 1e-3).all()
        origins.append(inputs[np.argsort(plain.order(epoch)[0]), ..., 0])
    assert (origins[0] != origins[1]).any(axis=(1, 2)).all()
    fresh = batches_of(pairs, batch_size=1, style=True, augment=True)
    for i in (22, 3):
        np.testing.assert_array_equal(fresh.load(23 + i)[0][0], inputs[i])
