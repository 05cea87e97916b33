"""How a recording is converted."""

from __future__ import annotations

import dataclasses

from hum2guitar import converter

HIGH_BANDS = ("zero", "keep")
LEVELS = ("normalize", "match", "none")
STEREO = ("per_channel", "mid_side", "mono")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recording is converted; the defaults are those of the predict commands.

    Attributes:
        overlap: share of a slice that it has in common with the next, 0 (as published) to 0.5.
        phase: "input", "griffinlim" or "hybrid".
        griffinlim_iterations: of the latter two.
        high_band: above the network's band "zero" (as published), or "keep" the input's own sound.
        level: "normalize" to peak 1 (as published), "match" the input's RMS, or "none".
        stereo: convert "per_channel", mid and side ("mid_side"), or the mean of the channels ("mono").
        sample_rate: of the output in Hz; None for the input's own.
        subtype: "16", "24", "float" or None for the format's usual one.
        hum: of a hum2guitar network: how the hum is heard. Of the others it uses overlap, Griffin-Lim's iterations
            (it has no use for the input's phase), level, stereo, sample rate and subtype.
    """

    overlap: float = 0.25
    phase: str = "input"
    griffinlim_iterations: int = 16
    high_band: str = "zero"
    level: str = "normalize"
    stereo: str = "per_channel"
    sample_rate: int | None = None
    subtype: str | None = None
    hum: converter.HumSettings = dataclasses.field(default_factory=converter.HumSettings)
