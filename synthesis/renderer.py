"""Renders a MIDI file (stdin) with the SoundFont that is named to a wav file (stdout), in a process of its own.

The renderer panics on some damaged SoundFonts, and a stranger's SoundFont may ask for any memory. Only this process
ends then, and `synthesis.soundfonts` reports it in one line. It imports nothing of the project, so that it starts fast.
"""

from __future__ import annotations

import contextlib
import os
import sys


def main() -> int:
    """Render what stdin holds; the exit status."""
    packages, path, max_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path.append(packages)
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows, or a lower limit is set
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import midirenderer

    with open(path, "rb") as file:
        soundfont = file.read()
    try:
        rendered = midirenderer.render_wave_from(soundfont, sys.stdin.buffer.read())
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(rendered)
    sys.stdout.buffer.flush()
    os._exit(0)  # without the time that giving memory back takes


if __name__ == "__main__":
    raise SystemExit(main())
