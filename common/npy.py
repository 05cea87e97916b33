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
# Of feature files, and of all arrays of numbers.
_FEATURES = re.compile(
    rb"\{'descr': '(<f2|<f4|<f8)', 'fortran_order': (False), 'shape': \((\d{1,9}(?:, \d{1,9}){1,3})\), \} *\n"
)
_NUMBERS = re.compile(
    rb"\{'descr': '([<>|][biuf][1248])', 'fortran_order': (False|True), 'shape': "
    rb"\((\d{1,9},|\d{1,9}(?:, \d{1,9}){1,7}|)\), \} *\n"
)
_EXPECTED = "a floating-point array in C order (.npy)"


def read_array(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file: float16, float32 or float64, of 2 to 4 dimensions, in C order.

    Raises:
        ValueError: the file holds something else, or is no regular file; the text says what was expected and what was
            found.
        OSError: the file cannot be read.
    """
    with open_regular(path, _EXPECTED) as file:
        dtype, shape, _, _ = read_header(file, os.fstat(file.fileno()).st_size, _FEATURES)
        if dtype.itemsize * math.prod(shape) > MAX_BYTES:
            raise ValueError(f"expected up to {MAX_BYTES} bytes of samples, found {dtype} {shape}")
        content = np.fromfile(file, dtype, math.prod(shape))
    return content.reshape(shape)


def map_array(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file, mapped from disk and read-only; arrays and errors as of `read_array`."""
    with open_regular(path, _EXPECTED) as file:
        dtype, shape, _, start = read_header(file, os.fstat(file.fileno()).st_size, _FEATURES)
    if not math.prod(shape):  # nothing can be mapped from an empty file
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape)


def read_header(
    file: IO[bytes], size: int, pattern: re.Pattern[bytes] = _NUMBERS
) -> tuple[np.dtype, tuple[int, ...], str, int]:
    """Data type, shape, order ("C" or "F") and the place of the first sample of a .npy file of `size` bytes.

    Raises:
        ValueError: `pattern` does not match the header, or `size` is not what the header says.
    """
    start = file.read(len(_MAGIC) + 2)
    length = int.from_bytes(start[-2:], "little")
    if not start.startswith(_MAGIC) or len(start) < len(_MAGIC) + 2:
        raise ValueError(f"expected {_EXPECTED}, found a file of another kind")
    header = file.read(length)
    match = pattern.fullmatch(header)
    if match is None:
        raise ValueError(f"expected {_EXPECTED}, found the header {header[:100].decode('ascii', 'replace').strip()!r}")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(n) for n in match[3].rstrip(b",").split(b", ") if n)
    expected = len(start) + length + dtype.itemsize * math.prod(shape)
    if size != expected:
        raise ValueError(f"expected {expected} bytes of {dtype} {shape}, found {size}")
    return dtype, shape, "F" if match[2] == b"True" else "C", len(start) + length
