"""How the predict commands find generators and styles: by file, by folder and by the name of an instrument."""

import numpy as np
import pytest
import soundfile
from made_conversions import RATE, make_sine, read_refusal, run, write_discriminator, write_tone

import predict_multitarget
from common import InputError
from common.files import write_array
from conversion import models
from conversion.models import Model, describe_generator, find_by_name, read_style, say_nearest
from data import PUBLISHED, compute_features


@pytest.fixture
def folder(tmp_path, write_generator, write_hum2guitar):
    """Models as they come with the project; a multitarget one with stored styles; a folder without a model."""
    for origin, target in (("keyboard", "guitar_acoustic"), ("keyboard", "string_acoustic"), ("flute", "koto"),
                           ("keyboard", "synth_lead_synthetic")):  # fmt: skip
        path = tmp_path / f"models/{origin}_2_{target}/generator.h5"
        write_generator(path, targets=[target], origin=origin, epoch=7, validation_mae=0.0456)
    write_generator(tmp_path / "models/keyboard_2_any/generator.h5", 2, targets=["guitar_acoustic", "harp"])
    for name, hz in (("guitar_acoustic", 300), ("harp", 1000), ("flute", 5000)):
        tone = sum(make_sine(hz * k, 3, level=0.3 / k) for k in range(1, 5))
        write_array(tmp_path / f"models/keyboard_2_any/styles/{name}.npy", compute_features(tone)[0].astype(np.float16))
    write_hum2guitar(tmp_path / "models/hum2guitar/generator.h5", targets=["guitar"])
    (tmp_path / "models/empty").mkdir()
    return tmp_path / "models"


def test_a_model_is_found_by_the_name_of_its_instrument(folder, monkeypatch):
    monkeypatch.setattr(models, "MODELS", folder)
    for name, found in (
        ("guitar_acoustic", "keyboard_2_guitar_acoustic"),
        ("Strings", "keyboard_2_string_acoustic"),
        ("synth lead", "keyboard_2_synth_lead_synthetic"),
        ("koto", "flute_2_koto"),
        ("hum2guitar", "hum2guitar"),
    ):
        model = find_by_name(name)
        assert (model.description.path.parent.name, model.style) == (found, None)
    for name in ("tuba", "s"):  # unknown, ambiguous
        with pytest.raises(InputError) as refusal:
            find_by_name(name)
        assert "synth_lead" in str(refusal.value)


def test_a_name_without_a_model_of_its_own_is_a_stored_style(folder, monkeypatch, capsys):
    monkeypatch.setattr(models, "MODELS", folder)
    model = find_by_name("Harps")
    assert (model.instrument, model.style) == ("harp", folder / "keyboard_2_any/styles/harp.npy")
    source = write_tone(folder.parent / "a.wav")
    for name in ("harp", "flute"):
        assert run("--to", name, source) == 0
    harp, flute = (soundfile.read(folder.parent / f"a.{name}.wav")[0] for name in ("harp", "flute"))
    assert np.abs(harp - flute).max() > 0.01
    assert run("--to") == 0
    assert "flute, guitar, harp" in capsys.readouterr().out
    write_array(folder / "keyboard_2_any/styles/harp.npy", np.zeros((3, 3), np.float16))
    read_refusal(capsys, "--to", "harp", source)


def test_models_are_listed_and_damaged_ones_reported(folder, capsys):
    (folder / "flute_2_koto/generator.h5").write_bytes(b"damaged")
    write_discriminator(folder / "keyboard_2_guitar_acoustic/discriminator.h5")
    (folder / "keyboard_2_guitar_acoustic/README.md").write_text("# Card\n\nIn one line: trained on 13 pianos.\n")
    assert run("--model", folder) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 5
    assert "flute_2_koto" in captured.err
    (guitar,) = (line for line in lines if "guitar_acoustic/generator.h5" in line)
    assert "trained on 13 pianos" in guitar
    assert "0.0456" in next(line for line in lines if "string_acoustic/generator.h5" in line)


def test_a_folder_stands_for_its_best_generator(tmp_path, write_generator, capsys):
    """The folder of a hum2guitar model also holds the generators of its stages."""
    for stage in ("1_global", "2_local", "."):
        write_generator(tmp_path / "m" / stage / "generator.h5", validation_mae=0.2)
    for mae, best in ((0.1, "generator_best.h5"), (0.3, "generator.h5"), (float("nan"), "generator.h5")):
        write_generator(tmp_path / "m/generator_best.h5", validation_mae=mae)
        assert describe_generator(tmp_path / "m").path == tmp_path / "m" / best
        assert describe_generator(tmp_path / "m/generator.h5").path.name == "generator.h5"
    (tmp_path / "m/generator.h5").rename(tmp_path / "m/other.h5")
    (tmp_path / "m/.other.1-abcd-123456.part.h5").touch()  # left by a command that was killed
    (tmp_path / "m/generator_best.h5").rename(tmp_path / "best.h5")
    assert describe_generator(tmp_path / "m").path.name == "other.h5"
    (tmp_path / "best.h5").rename(tmp_path / "m/best.h5")
    with pytest.raises(InputError):
        describe_generator(tmp_path / "m")


def test_files_that_cannot_convert_are_refused_in_one_line(tmp_path, folder, write_generator, capsys):
    ends = ["--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    (tmp_path / "text.h5").write_text("weights")
    write_generator(tmp_path / "three.h5", 3)
    write_discriminator(tmp_path / "discriminator.h5")
    for name in ("none.h5", "text.h5", "three.h5", "discriminator.h5", "models/empty"):
        assert name in read_refusal(capsys, "--model", tmp_path / name, *ends)
    assert "text.h5" in read_refusal(capsys, "--model", tmp_path / "text.h5")  # as a list of models
    assert "predict_multitarget.py" in read_refusal(capsys, "--model", folder / "keyboard_2_any", *ends)
    pair = ["--model", folder / "keyboard_2_guitar_acoustic", *ends, "--style", tmp_path / "in.wav"]
    assert "predict.py" in read_refusal(capsys, *pair, command=predict_multitarget)
    assert not (tmp_path / "out.wav").exists()


# --- style ------------------------------------------------------------------------------------------------------------


def pitch_of(style):
    """Number of the sine that a style slice holds."""
    return round(np.argmax(style.sum(axis=1)) * PUBLISHED.bin_hz / 500) - 1


def test_style_slice_is_the_loudest_by_default_or_the_one_asked_for(tmp_path):
    path, levels = tmp_path / "style.wav", (0.1, 0.5, 0.9, 0.2, 0, 0)  # the first frame of slice 4 still sounds
    slices = [make_sine(500 * (i + 1), 256 * 512 / RATE, level=level) for i, level in enumerate(levels)]
    soundfile.write(path, np.concatenate(slices), RATE, "FLOAT")
    assert pitch_of(read_style(path)) == 2
    assert [pitch_of(read_style(path, choice=n)) for n in range(4)] == [0, 1, 2, 3]
    drawn = {pitch_of(read_style(path, choice="random")) for _ in range(48)}
    assert drawn == {0, 1, 2, 3}  # never slice 5, which would give -1
    with pytest.raises(InputError):
        read_style(path, choice=5)
    soundfile.write(tmp_path / "short.wav", make_sine(1000, 0.5, 22050), 22050)
    style = read_style(tmp_path / "short.wav")
    assert style.shape == (256, 256)
    assert style[round(1000 / PUBLISHED.bin_hz)].min() > 0.7  # it is repeated: the tone is in every frame


def test_the_stored_style_of_which_the_network_makes_the_same_is_named(folder, capsys):
    description = describe_generator(folder / "keyboard_2_any")
    flute = Model(description, folder / "keyboard_2_any/styles/flute.npy").load_style()

    def network(x):
        return x[..., 1:].mean(axis=2, keepdims=True)  # of the style, only the mean spectrum counts

    say_nearest(flute[:, ::-1], description, network)
    assert "flute" in capsys.readouterr().out
    say_nearest(1 - flute, description, network)
    captured = capsys.readouterr()
    assert "Warning" in captured.err
    assert not captured.out
