"""A short run of the fuzzer: a few cases of each kind, always the same ones."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_few_changed_files_of_each_kind_keep_what_is_promised():
    command = [sys.executable, ROOT / "tests/fuzz/fuzz.py", "--cases", "4", "--seconds", "900"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 failed") == 8
