"""Stops the command that imports this module, with one line, if its Python is too old or lacks the packages.

Commands import it before all modules that would fail with a traceback. NumPy stands for the packages: whoever lacks it
has not installed them, or has not activated their environment. Others are missed where they are imported (`cli.run`).
"""

from __future__ import annotations

import importlib.util
import os
import sys

from common.errors import describe_missing

fault = "" if importlib.util.find_spec("numpy") else describe_missing("numpy")
if sys.version_info < (3, 10):  # noqa: UP036
    fault = f"needs Python 3.10 to 3.13, {sys.executable} is {sys.version.split()[0]}"
if fault:
    print(f"{os.path.basename(sys.argv[0])}: error: {fault}", file=sys.stderr)
    raise SystemExit(2)
