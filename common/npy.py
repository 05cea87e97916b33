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

import numpy as np

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(<f2|<f4|<f8)', 'fortran_order': False, 'shape': \((\d{1,9}(?:, \d{1,9}){1,3})\), \} *\n"
)
_EXPECTED = "a floating-point array in C order (.npy)"


def read_array(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file: float16, float32 or float64, of 2 to 4 dimensions, in C order.

    Raises:
        ValueError: the file holds something else; the text says what was expected and what was found.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        dtype, shape, _ = _read_header(file)
        content = np.fromfile(file, dtype, math.prod(shape))
    return content.reshape(shape)


def map_array(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file, mapped from disk and read-only; arrays and errors as of `read_array`."""
    with open(path, "rb") as file:
        dtype, shape, start = _read_header(file)
    if not math.prod(shape):  # nothing can be mapped from an empty file
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape)


def _read_header(file) -> tuple[np.dtype, tuple[int, ...], int]:
    """Data type, shape and the place of the first sample of an open .npy file, checked against the file's size."""
    start = file.read(len(_MAGIC) + 2)
    length = int.from_bytes(start[-2:], "little")
    if not start.startswith(_MAGIC) or len(start) < len(_MAGIC) + 2:
        raise ValueError(f"expected {_EXPECTED}, found a file of another kind")
    header = file.read(length)
    match = _HEADER.fullmatch(header)
    if match is None:
        raise ValueError(f"expected {_EXPECTED}, found the header {header[:100].decode('ascii', 'replace').strip()!r}")
    dtype, shape = np.dtype(match[1].decode()), tuple(int(n) for n in match[2].split(b", "))
    expected = len(start) + length + dtype.itemsize * math.prod(shape)
    size = os.fstat(file.fileno()).st_size
    if size != expected:
        raise ValueError(f"expected {expected} bytes of {dtype} {shape}, found {size}")
    return dtype, shape, len(start) + length
