"""Feature files (.npy) read without evaluating their headers as Python.

NumPy parses the header of every .npy file with ``ast.literal_eval``. In Python 3.11 that is not safe in several threads
at once: after some 100 000 files it can raise ``SystemError: AST constructor recursion depth mismatch`` (CPython issue
106905). A feature file has one of few possible headers, so a regular expression reads it here.

The format is that of ``numpy.lib.format``, version 1.0: the magic string, two bytes of version, the length of the
header as a little-endian 16-bit number, the header, then the samples in C order.
"""

from __future__ import annotations

import math
import os
import re
from typing import IO

import numpy as np

from common.files import open_regular

MAX_BYTES = 2**28  # of an array that is read whole
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(<f2|<f4|<f8)', 'fortran_order': False, 'shape': \((\d{1,9}(?:, \d{1,9}){1,3})\), \} *\n"
)
_EXPECTED = "a floating-point array in C order (.npy)"


def read_array(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file: float16, float32 or float64, of 2 to 4 dimensions, in C order.

    Raises:
        ValueError: the file holds something else, or is no regular file; the text says what.
        OSError: the file cannot be read.
    """
    with open_regular(path, _EXPECTED) as file:
        dtype, shape = _read_header(file)
        if dtype.itemsize * math.prod(shape) > MAX_BYTES:
            raise ValueError(f"expected up to {MAX_BYTES} bytes of samples, found {dtype} {shape}")
        return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)


def map_array(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file, mapped from disk and read-only; arrays and errors as of `read_array`."""
    with open_regular(path, _EXPECTED) as file:
        dtype, shape = _read_header(file)
        # Nothing can be mapped from an empty file.
        return np.memmap(file, dtype, "r", file.tell(), shape) if math.prod(shape) else np.zeros(shape, dtype)


def _read_header(file: IO[bytes]) -> tuple[np.dtype, tuple[int, ...]]:
    """Data type and shape of the array whose samples are the rest of the file."""
    start = file.read(len(_MAGIC) + 2)
    match = _HEADER.fullmatch(file.read(int.from_bytes(start[-2:], "little"))) if start.startswith(_MAGIC) else None
    if match is None:
        raise ValueError(f"expected {_EXPECTED}, found another file")
    dtype, shape = np.dtype(match[1].decode()), tuple(int(n) for n in match[2].split(b", "))
    n_bytes = os.fstat(file.fileno()).st_size - file.tell()
    if n_bytes != dtype.itemsize * math.prod(shape):
        raise ValueError(f"expected {dtype} {shape}, found {n_bytes} bytes of samples")
    return dtype, shape
