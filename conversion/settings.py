"""How a recording is converted."""

from __future__ import annotations

import dataclasses

from common import weights
from common.errors import InputError
from conversion.phase import PHASES
from hum2guitar.converter import HumSettings

HIGH_BANDS = ("zero", "keep")
LEVELS = ("normalize", "peak", "match", "none")
STEREO = ("per_channel", "mid_side", "mono")
INPUT_LEVELS = ("keep", "peak")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recording is converted; the defaults are those of the predict commands.

    A hum2guitar network does not use `phase` and `high_band`.

    Attributes:
        overlap: share of a slice that is blended with the next one, 0 (as published) to 0.5.
        phase: one of `phase.PHASES` (see `phase.apply_phase`), or "auto" for what the model's description recommends,
            "input" if it recommends nothing.
        griffinlim_iterations: iterations of Griffin-Lim.
        input_level: "keep" the recording's level for the network (as published), bring its "peak" to full scale before
            the network and the output back to the level after it, or "auto" for what the model's description
            recommends, "keep" if it recommends nothing.
        high_band: what the output has above the network's band: "zero" for nothing (as published), or "keep" for the
            input's own sound.
        level: "normalize" to a true peak of -1 dB of full scale, which no player clips; "peak" to the greatest sample 1
            (as published); "match" the input's RMS; or "none" to keep the network's level.
        stereo: convert "per_channel", sum and difference ("mid_side"), or the mean of the channels ("mono").
        sample_rate: of the output in Hz; None for the input's own, or twice the band that the network makes if that is
            higher.
        subtype: sample format, one of `sound.files.SUBTYPES`; None for the usual one of the file format.
        hum: how a hum2guitar network analyses the hum; other networks do not use it.
    """

    overlap: float = 0.25
    phase: str = "auto"
    griffinlim_iterations: int = 16
    input_level: str = "auto"
    high_band: str = "zero"
    level: str = "normalize"
    stereo: str = "per_channel"
    sample_rate: int | None = None
    subtype: str | None = None
    hum: HumSettings = dataclasses.field(default_factory=HumSettings)

    def for_model(self, description: weights.Description) -> Settings:
        """These settings with what the model recommends where they leave it to the model.

        Raises:
            InputError: it recommends something unknown.
        """
        chosen = {}
        for name, default, known in (("phase", "input", PHASES), ("input_level", "keep", INPUT_LEVELS)):
            if getattr(self, name) != "auto":
                continue
            recommended = description.settings.get(name, default)
            chosen[name] = "input" if recommended == "hybrid" else recommended  # which earlier models recommend
            if chosen[name] not in known:
                raise InputError(
                    f"{description.path}: expected as {name} one of {', '.join(known)}, found {chosen[name]!r}"
                )
        return dataclasses.replace(self, **chosen)
