"""A short run of the fuzzer: a few cases of each kind, always the same ones."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

FUZZER = ROOT / "tests" / "fuzz" / "fuzz.py"


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize(
    ("kinds", "n_cases"),
    [(("midi", "json", "npy", "state", "h5"), 8), (("wav", "flac", "mp3", "onnx", "soundfont"), 2)],
)
def test_a_few_changed_files_of_each_kind_keep_what_is_promised(kinds, n_cases):
    """All kinds in one process, because most of the time goes into starting it."""
    command = [sys.executable, FUZZER, "--child", "--kinds", *kinds, "--cases", str(n_cases), "--seconds", "600"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [line["fault"] for line in lines if line.get("fault")] == []
    assert sum("outcome" in line for line in lines) == n_cases * len(kinds)
