"""Stops the command that imports this module, with one line, if its Python is too old or lacks the packages.

Commands import it before all modules that would fail with a traceback. Other packages than NumPy are missed later,
where they are imported (`cli.run`).
"""

from __future__ import annotations

import os
import sys

from common.errors import find_fault

if fault := find_fault():
    print(f"{os.path.basename(sys.argv[0])}: error: {fault}", file=sys.stderr)
    raise SystemExit(2)
