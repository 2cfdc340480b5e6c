"""HDR10 static metadata: from the side data of a frame to the options of the encoders.

Mastering display: SMPTE ST 2086; content light level: CTA-861.3. FFmpeg holds them as
AVMasteringDisplayMetadata (ten rationals, two flags) and AVContentLightMetadata (two unsigned).
"""

from __future__ import annotations

import struct
from fractions import Fraction

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from vfilter.source import side_data

PARAMETERS = {
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}
"""Encoders that carry it: their option, and in it the keys of both kinds."""

COLOR_STEPS, LIGHT_STEPS = 50000, 10000
"""Steps of chromaticity and of cd/m2 in ITU-T H.265, D.3.28; AV1 takes decimals."""

COLORS = 8
"""Rationals of the primaries and the white point, before the two of the luminance."""


def has_hdr(frame: VideoFrame) -> bool:
    """Whether `frame` tells of its mastering display or its light level."""
    kinds = (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL)
    return any(side_data(frame, kind) is not None for kind in kinds)


def hdr_options(encoder: str, frame: VideoFrame) -> dict[str, str]:
    """The options that have `encoder` tell the metadata of `frame`; none if there is none."""
    if encoder not in PARAMETERS:
        return {}
    option, display_key, light_key = PARAMETERS[encoder]
    settings = []
    display = side_data(frame, Type.MASTERING_DISPLAY_METADATA)
    known = () if display is None else _known(display)
    if any(known):
        text = _display(known, decimals=encoder == "libsvtav1")
        settings.append(f"{display_key}={text}")
    light = side_data(frame, Type.CONTENT_LIGHT_LEVEL)
    if light is not None:
        settings.append("{}={},{}".format(light_key, *struct.unpack_from("=2I", light)))
    return {option: ":".join(settings)} if settings else {}


def _known(display: bytes) -> tuple[Fraction, ...]:
    """The ten numbers of a mastering display, 0 (which stands for unknown) for those not given."""
    *values, has_primaries, has_luminance = struct.unpack_from("=22i", display)
    ratios = [Fraction(n, d or 1) for n, d in zip(values[::2], values[1::2], strict=True)]
    given = [has_primaries] * COLORS + [has_luminance] * (len(ratios) - COLORS)
    return tuple(r if told else Fraction(0) for r, told in zip(ratios, given, strict=True))


def _display(known: tuple[Fraction, ...], *, decimals: bool) -> str:
    """The mastering display as G(x,y)B(x,y)R(x,y)WP(x,y)L(highest,lowest)."""
    if decimals:
        texts = [f"{float(ratio):.6f}" for ratio in known]
    else:
        steps = [COLOR_STEPS] * COLORS + [LIGHT_STEPS] * 2
        texts = [str(round(r * step)) for r, step in zip(known, steps, strict=True)]
    red, green, blue, white = (f"({texts[i]},{texts[i + 1]})" for i in (0, 2, 4, 6))
    return f"G{green}B{blue}R{red}WP{white}L({texts[9]},{texts[8]})"
