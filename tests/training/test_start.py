"""The start of the train commands: what is missing or taken is named in one line, before anything is trained."""

import os

import pytest

import train
import train_generator
import train_hum2guitar
import train_multitarget
from common.errors import InputError
from training import checkpoints, start

PAIR = ["--dataset_path", "features", "--origin", "piano", "--target", "guitar"]
COMMANDS = {
    "train": (train, PAIR),
    "train_multitarget": (train_multitarget, PAIR),
    "train_generator": (train_generator, PAIR),
    "train_hum2guitar": (train_hum2guitar, ["--guitar_dir", "guitars"]),
}


@pytest.fixture(params=COMMANDS)
def refused(request, tmp_path, monkeypatch, capsys):
    """Run each train command on data that do not exist; its one line of error."""
    monkeypatch.chdir(tmp_path)
    module, argv = COMMANDS[request.param]

    def run(*flags):
        assert module.main([*argv, *flags]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
        return said

    return run


def test_tensorboard_that_is_not_installed(refused, monkeypatch):
    find_spec = start.importlib.util.find_spec
    monkeypatch.setattr(
        start.importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboard" else find_spec(name, *rest)
    )
    assert "--tensorboard: expected the package tensorboard" in refused("--tensorboard")


def test_multiworker_without_a_cluster(refused, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert "--distribute multiworker: expected the environment variable TF_CONFIG" in refused(
        "--distribute", "multiworker"
    )


def test_models_folder_that_is_a_file(refused):
    assert "--models_path: expected a folder to write in, found a file" in refused("--models_path", __file__)


def test_folder_of_another_run_is_refused_and_left_alone(tmp_path):
    folder = tmp_path / "a_2_b"
    checkpoints.save(folder, 1, [], {})
    with checkpoints.locked(folder):
        with pytest.raises(InputError, match=rf"pid {os.getpid()}\b"), start.claim_folder(folder, fresh=True):
            pytest.fail("two runs have claimed the folder")
        assert len(checkpoints.states(folder)) == 1
    with start.claim_folder(folder, fresh=True):
        assert (folder / ".pid").read_text() == f"{os.getpid()}\n"
        assert checkpoints.states(folder) == []
    assert len(checkpoints.states(tmp_path / "a_2_b.old1")) == 1
