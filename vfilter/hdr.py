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


def has_hdr(frame: VideoFrame) -> bool:
    """Whether `frame` tells of its mastering display or its light level."""
    kinds = (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL)
    return any(side_data(frame, kind) is not None for kind in kinds)


def with_hdr(options: dict[str, str], encoder: str, frame: VideoFrame) -> dict[str, str]:
    """`options` of `encoder` with the metadata of `frame` before what they say themselves."""
    if encoder not in PARAMETERS or not has_hdr(frame):
        return options
    option, display_key, light_key = PARAMETERS[encoder]
    settings = []
    display = side_data(frame, Type.MASTERING_DISPLAY_METADATA)
    if display is not None:
        settings.append(f"{display_key}={_display(display, decimals=encoder == 'libsvtav1')}")
    light = side_data(frame, Type.CONTENT_LIGHT_LEVEL)
    if light is not None:
        settings.append("{}={},{}".format(light_key, *struct.unpack_from("=2I", light)))
    if option in options:
        settings.append(options[option])
    return options | {option: ":".join(settings)}


def _display(data: bytes, *, decimals: bool) -> str:
    """The mastering display as G(x,y)B(x,y)R(x,y)WP(x,y)L(highest,lowest)."""
    values = struct.unpack_from("=20i", data)
    ratios = [Fraction(n, d or 1) for n, d in zip(values[::2], values[1::2], strict=True)]
    if decimals:
        texts = [f"{float(ratio):.6f}" for ratio in ratios]
    else:
        steps = [COLOR_STEPS] * 8 + [LIGHT_STEPS] * 2
        texts = [str(round(r * step)) for r, step in zip(ratios, steps, strict=True)]
    red, green, blue, white = (f"({texts[i]},{texts[i + 1]})" for i in (0, 2, 4, 6))
    return f"G{green}B{blue}R{red}WP{white}L({texts[9]},{texts[8]})"
