"""How the predict commands find generators: by file, by folder and by the name of an instrument."""

import pathlib

import numpy as np
import pytest
import soundfile
from made_conversions import RATE, make_music, read_refusal, run, write_tone

import predict_multitarget
from common import weights
from common.errors import InputError
from conversion import models as models_module
from conversion.converter import Settings, load_converter
from conversion.files import convert_audio, convert_file
from conversion.models import describe_generator, find_by_name, short_name


def test_without_input_it_lists_the_models(models, capsys):
    assert run("--model", models) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # the discriminator is left out
    assert lines[0].startswith(str(models / "keyboard_2_any/generator.h5"))
    for word in ("keyboard_acoustic to guitar_acoustic, string", "epoch 7", "0.0456", "predict_multitarget.py"):
        assert word in lines[0]
    assert lines[1].endswith("(predict.py)")
    assert "published" in lines[2]


def test_damaged_models_are_reported_and_the_rest_is_listed(tmp_path, write_generator, capsys):
    write_generator(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:3000])
    write_generator(tmp_path / "c.h5", 3)
    write_generator(tmp_path / "d.h5")
    assert run("--model", tmp_path) == 1
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.out.splitlines()] == [
        str(tmp_path / "a.h5"),
        str(tmp_path / "d.h5"),
    ]
    assert "b.h5" in captured.err
    assert "c.h5: expected 1 or 2 input channels, found 3" in captured.err


def test_a_folder_with_one_generator_stands_for_it(tmp_path, models, capsys):
    source = write_tone(tmp_path / "in.wav")
    assert run("--model", models / "keyboard_2_guitar", "--input", source, "--output", tmp_path / "out.wav") == 0
    message = read_refusal(capsys, "--model", models, "--input", source, "--output", tmp_path / "other.wav")
    assert "expected one generator, found several" in message


def test_the_generator_directly_in_a_folder_is_preferred_to_those_below(tmp_path, write_generator, capsys):
    """The folder of a hum2guitar model also holds the generators of its stages."""
    for stage in ("1_global", "2_local", "."):
        write_generator(tmp_path / "m" / stage / "generator.h5", origin=stage, targets=["guitar"])
    write_generator(tmp_path / "m/generator_best.h5")
    assert describe_generator(tmp_path / "m").path == tmp_path / "m/generator.h5"
    (tmp_path / "m/generator.h5").unlink()
    assert "found several" in read_refusal(capsys, "--model", tmp_path / "m", "--input", write_tone(tmp_path / "a.wav"))


def test_weights_for_the_other_command_are_refused_with_its_name(tmp_path, pair, anything, models, capsys):
    ends = ["--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    assert "use predict_multitarget.py" in read_refusal(capsys, "--model", anything, *ends)
    style = ["--style", tmp_path / "in.wav"]
    assert "use predict.py" in read_refusal(capsys, "--model", pair, *ends, *style, command=predict_multitarget)
    discriminator = models / "keyboard_2_guitar/discriminator.h5"
    assert "found those of a discriminator" in read_refusal(capsys, "--model", discriminator, *ends)
    assert not (tmp_path / "out.wav").exists()


def test_bad_weights_are_named(tmp_path, pair, write_generator, capsys):
    ends = ["--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    (tmp_path / "text.h5").write_text("weights")
    (tmp_path / "cut.h5").write_bytes(pathlib.Path(pair).read_bytes()[:-50_000])
    write_generator(tmp_path / "three.h5", 3)
    weights.write(tmp_path / "other.h5", {"dense": {"dense/kernel:0": np.zeros((4, 4))}}, {})
    for name, expected in (
        ("none.h5", "found nothing"), ("text.h5", "another kind of file"), ("cut.h5", "truncated or damaged"),
        ("three.h5", "1 or 2 input channels, found 3"), ("other.h5", "network of this project"),
    ):  # fmt: skip
        message = read_refusal(capsys, "--model", tmp_path / name, *ends)
        assert name in message
        assert expected in message
    assert "another kind of file" in read_refusal(capsys, "--model", tmp_path / "in.wav")
    (tmp_path / "empty").mkdir()
    assert "none in" in read_refusal(capsys, "--model", tmp_path / "empty")
    assert not (tmp_path / "out.wav").exists()


# --- best weights and names -------------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_best_weights(tmp_path, write_generator, capsys):
    for name, epoch, mae in (("generator.h5", 9, 0.2), ("generator_best.h5", 4, 0.1)):
        write_generator(tmp_path / "m" / name, epoch=epoch, validation_mae=mae, copy_mae=0.135, origin="piano",
                        targets=["guitar"])  # fmt: skip
    assert describe_generator(tmp_path / "m").path.name == "generator_best.h5"
    assert describe_generator(tmp_path / "m/generator.h5").path.name == "generator.h5"
    source = write_tone(tmp_path / "in.wav")
    assert run("--model", tmp_path / "m", "--input", source, "--output", tmp_path / "out.wav") == 0
    line = capsys.readouterr().out.splitlines()[0]
    for word in ("generator_best.h5", "epoch 4", "0.1000", "0.1350"):
        assert word in line


@pytest.mark.parametrize("best", [0.3, float("nan")])
def test_best_weights_that_are_not_better_are_not_taken(tmp_path, write_generator, best):
    write_generator(tmp_path / "m/generator.h5", validation_mae=0.2)
    write_generator(tmp_path / "m/generator_best.h5", validation_mae=best)
    assert describe_generator(tmp_path / "m").path.name == "generator.h5"


def test_short_names(tmp_path, write_generator, write_hum2guitar):
    names = {
        "guitar_acoustic": "guitar",
        "synth_lead_synthetic": "synth_lead",
        "koto": "koto",
        "_acoustic": "converted",
    }
    for target, name in names.items():
        write_generator(tmp_path / "g.h5", targets=[target])
        assert short_name(weights.describe(tmp_path / "g.h5")) == name
    write_generator(tmp_path / "g.h5")
    assert short_name(weights.describe(tmp_path / "g.h5")) == "converted"
    write_generator(tmp_path / "g.h5", 2, targets=["a", "b"])
    assert short_name(weights.describe(tmp_path / "g.h5")) == "any"
    write_hum2guitar(tmp_path / "h.h5", targets=["guitar"], system="hum2guitar")
    assert short_name(weights.describe(tmp_path / "h.h5")) == "hum2guitar"


def test_a_model_is_found_by_the_name_of_its_instrument(tmp_path, write_generator, write_hum2guitar):
    for origin, target in (
        ("keyboard", "guitar_acoustic"),
        ("keyboard", "string_acoustic"),
        ("flute", "string_acoustic"),
    ):
        write_generator(tmp_path / f"{origin}_2_{target}/generator.h5", targets=[target], origin=origin)
    write_generator(tmp_path / "keyboard_2_any/generator.h5", 2, targets=["guitar_acoustic", "string"])
    write_hum2guitar(tmp_path / "hum2guitar/generator.h5", targets=["guitar"])  # no candidate for "guitar"
    (tmp_path / "notes.txt").write_text("no model")
    assert find_by_name("hum2guitar", tmp_path).system == "hum2guitar"
    for name in ("guitar", "guitar_acoustic", "keyboard_2_guitar_acoustic"):
        assert find_by_name(name, tmp_path).path.parent.name == "keyboard_2_guitar_acoustic"
    assert find_by_name("flute_2_string_acoustic", tmp_path).settings["origin"] == "flute"
    with pytest.raises(InputError, match="several for string: flute_2_string_acoustic, keyboard_2_string_acoustic"):
        find_by_name("string", tmp_path)
    with pytest.raises(InputError, match=r"\(guitar, hum2guitar, string\), found 'harp'"):
        find_by_name("harp", tmp_path)
    with pytest.raises(InputError, match="no models"):
        find_by_name("harp", tmp_path / "none")


def test_to_converts_and_puts_the_output_beside_the_input(tmp_path, write_generator, monkeypatch, capsys):
    write_generator(tmp_path / "models/piano_2_guitar/generator.h5", targets=["guitar_acoustic"])
    monkeypatch.setattr(models_module, "MODELS", tmp_path / "models")
    monkeypatch.setattr(find_by_name, "__defaults__", (tmp_path / "models",))
    for name in ("a.flac", "b.mp3.wav"):
        write_tone(tmp_path / "takes" / name)
    assert run("--to", "guitar", "--input", tmp_path / "takes/a.flac") == 0
    assert (tmp_path / "takes/a.guitar.wav").exists()
    assert run("--to", "guitar_acoustic", "--input", tmp_path / "takes") == 0
    assert sorted(path.name for path in (tmp_path / "takes.guitar").iterdir()) == [
        "a.flac", "a.guitar.wav", "b.mp3.wav",
    ]  # fmt: skip
    capsys.readouterr()
    assert run("--to") == 0
    assert "piano_2_guitar" in capsys.readouterr().out
    assert "found both" in read_refusal(capsys, "--to", "guitar", "--model", "m.h5", "--input", tmp_path / "takes")
    assert "found neither" in read_refusal(capsys, "--input", tmp_path / "takes")
    pattern = str(tmp_path / "takes/*.flac")
    assert "--output" in read_refusal(capsys, "--to", "guitar", "--input", pattern)


# --- recommended phase ------------------------------------------------------------------------------------------------


def test_the_phase_that_a_model_recommends_is_used(tmp_path, write_generator):
    source, outputs = write_tone(tmp_path / "in.wav", seconds=2), {}
    for name, settings in (("plain", {}), ("recommended", {"phase": "griffinlim"})):
        write_generator(tmp_path / f"{name}.h5", **settings)
        for flags in ([], ["--phase", "input"], ["--phase", "griffinlim"]):
            output = tmp_path / f"{name}{''.join(flags)}.wav"
            assert run("--model", tmp_path / f"{name}.h5", "--input", source, "--output", output, *flags) == 0
            outputs[name, flags[-1] if flags else "auto"] = output.read_bytes()
    assert outputs["plain", "auto"] == outputs["plain", "input"] != outputs["plain", "griffinlim"]
    assert outputs["recommended", "auto"] == outputs["plain", "griffinlim"]
    assert outputs["recommended", "input"] == outputs["plain", "input"]


def test_a_model_may_ask_for_recordings_at_full_scale(tmp_path, write_generator):
    """Then a quiet recording gives the output of a loud one, quieter by the same factor."""
    models = {}
    for name, settings in (("keep", {}), ("peak", {"input_level": "peak"})):
        write_generator(tmp_path / f"{name}.h5", **settings)
        models[name] = load_converter(weights.describe(tmp_path / f"{name}.h5"))
    loud = make_music(2)
    quiet = np.stack([loud / 10, loud / 100])
    for name, model in models.items():
        of_loud, of_quiet = convert_audio(loud, model), convert_audio(quiet, model)
        error = np.abs(10 * of_quiet[0] - of_loud).max() / np.abs(of_loud).max()
        assert (error < 1e-3) == (name == "peak")
        soundfile.write(tmp_path / "in.wav", quiet.T, RATE, "FLOAT")
        settings = Settings(level="none", subtype="float")
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda model=model: model, settings)
        np.testing.assert_allclose(soundfile.read(tmp_path / "out.wav")[0].T, of_quiet, atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("phase", "minimum"), ("input_level", "loud")])
def test_an_unknown_recommendation_is_refused(tmp_path, write_generator, capsys, name, value):
    write_generator(tmp_path / "g.h5", **{name: value})
    ends = ["--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    assert f"found '{value}'" in read_refusal(capsys, "--model", tmp_path / "g.h5", *ends)
