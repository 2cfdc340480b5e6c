"""What the stream tells about its compression: JPEG quantization tables, quantizers of blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vfilter.frames import JPEG_FRAME, held_side_data, jpeg_segments
from vfilter.luma import luma_depth

# ITU-T T.81, table K.1 (luminance), in raster order
STANDARD_LUMA_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


LIKE_MPEG4 = (
    *("h263", "h263p", "flv1", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"),
    *("rv10", "rv20"),
)

QP_CODECS = {
    "h264": "h264",
    **dict.fromkeys(("mpeg4", *LIKE_MPEG4), "mpeg4"),
    **dict.fromkeys(("mpeg1video", "mpeg2video"), "mpeg2video"),
    "vp9": "vp9",
}
"""Codecs whose decoders in FFmpeg export quantizers (venc_params), of each macroblock or, of VP9,
of each frame; and the codec whose quantizers mean about the same."""

MACROBLOCK = 16
"""Side of a macroblock in luma pixels in all of them (ITU-T H.264, 3.85; H.262, 6.1.3)."""


LARGEST_QP = 255
"""That of VP9 (base_q_idx); those of H.264 of more than 8 bits may be negative."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What the stream told about the compression of one frame; None where it told nothing.

    codec: FFmpeg's name of it, None where the frame comes from no lossy codec.
    luma_table: the 64 steps of the luma quantization table of a JPEG frame, in raster order.
    qp: (rows, columns) float32, the quantizer of each macroblock: of H.264 its QP, 0 to 51, of
        MPEG-1, 2 and 4 twice the quantiser scale; of VP9 the frame's base_q_idx, (1, 1). Without
        `codec` it tells nothing.
    bits_per_pixel: of the whole stream, as far as the header tells.
    """

    codec: str | None = None
    luma_table: tuple[int, ...] | None = None
    qp: NDArray[np.float32] | None = field(default=None, compare=False)
    bits_per_pixel: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.luma_table is not None:
            try:
                table = tuple(int(step) for step in self.luma_table)
            except (OverflowError, TypeError, ValueError):  # rows of steps, or no numbers
                table = ()
            if len(table) != 64 or min(table) < 1:
                raise ValueError(f"luma_table must be 64 positive steps, got {self.luma_table}")
            object.__setattr__(self, "luma_table", table)
        if self.qp is not None:
            qp = np.asarray(self.qp, dtype=np.float32)
            if qp.ndim != 2 or not qp.size:
                raise ValueError(f"qp must be (rows, columns), got shape {qp.shape}")
            if not (np.abs(qp) <= LARGEST_QP).all():
                raise ValueError(f"qp must be finite, at most {LARGEST_QP} from 0")
            object.__setattr__(self, "qp", qp)
        if self.bits_per_pixel is not None and not 0 < self.bits_per_pixel < math.inf:
            raise ValueError(f"bits_per_pixel must be positive, got {self.bits_per_pixel}")

    @property
    def jpeg_quality(self) -> int | None:
        """The nearest IJG quality of a JPEG frame, 1 to 100."""
        return None if self.luma_table is None else nearest_quality(self.luma_table)

    @property
    def coarseness(self) -> int | None:
        """The nearest IJG quality of a JPEG frame, the mean quantizer of another, rounded.

        None where they aren't told, or not of which codec, and for VP9, whose quantizers are on a
        scale of its own.
        """
        if self.qp is None or self.codec in (None, "vp9"):
            return self.jpeg_quality
        return round(float(self.qp.mean()))

    @cached_property
    def explained_error(self) -> float | NDArray[np.float64] | None:
        """The mean squared error of luma, in squared codes of 8 bits, that quantization explains.

        That of coefficients that lie anywhere in their intervals, a twelfth of the squared step
        (the transforms are orthonormal): of a JPEG frame that of each of its 64 frequencies, (64,)
        in raster order, of others the mean over the macroblocks. Coarse sources have less.
        None where no steps are told: damaged MPEG-4 tells quantizers of 0.
        """
        if self.luma_table is not None:
            return np.square(self.luma_table, dtype=np.float64) / 12
        if self.qp is None or self.codec not in QP_CODECS:
            return None
        steps = QUANTIZER_STEPS[QP_CODECS[self.codec]](self.qp.astype(np.float64))
        return float(np.mean(steps**2)) / 12 or None


def hints_of(frame: VideoFrame) -> Hints:
    """What the stream told about the compression of a frame that a Source gave."""
    return frame.opaque if isinstance(frame.opaque, Hints) else Hints()


def _step_of_vp9(index: NDArray[np.float64]) -> NDArray[np.float64]:
    """About the step of base_q_idx (the VP9 bitstream, 8.6.1, ac_qlookup), in codes of 8 bits.

    It rises by 1 to the index 96, then by 1.8 % each; the transform is scaled by 8.
    """
    return (7 + np.minimum(index, 96)) * 1.018 ** np.maximum(index - 96, 0) / 8


QUANTIZER_STEPS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "h264": lambda qp: 2 ** ((qp - 4) / 6),  # ITU-T H.264, 8.5.9: doubles every 6, 1 at 4
    "mpeg4": lambda qp: qp,  # ISO/IEC 14496-2, 7.4.4.2: twice the quantiser scale
    "mpeg2video": lambda qp: qp,  # H.262, 7.4.2.3, at a weight of 16
    "vp9": _step_of_vp9,
}
"""The step of a quantizer of `Hints.qp` in codes of 8 bits, by codec, values of `QP_CODECS`."""


def own_quantizers(hints: Hints) -> NDArray[np.float32]:
    """The quantizers of `hints` on the scale of their codec, of MPEG-1, 2 and 4 that of qscale.

    Raises ValueError if they tell none.
    """
    if hints.qp is None or hints.codec is None:
        raise ValueError(f"hints without quantizers: {hints}")
    doubled = QP_CODECS.get(hints.codec) in ("mpeg4", "mpeg2video")
    return hints.qp / np.float32(2 if doubled else 1)


def add_quantizers(frame: VideoFrame, last: VideoFrame | None) -> None:
    """Add to the hints of `frame` the quantizers that its decoder exported.

    A frame that comes when the file has ended is without them: those of the `last` one serve.
    """
    hints = hints_of(frame)
    if hints.codec not in QP_CODECS:
        return
    told = held_side_data(frame, Type.VIDEO_ENC_PARAMS)
    if told is not None and hints.codec == "vp9":
        frame.opaque = replace(hints, qp=np.array([[told.qp]], dtype=np.float32))
    elif told is not None and told.nb_blocks * MACROBLOCK >= frame.width:
        depth = luma_depth(frame) if hints.codec == "h264" else 8
        qp = _quantizers(told) - 6 * (depth - 8)  # QP' of H.264, 7.4.2.1.1
        frame.opaque = replace(hints, qp=qp)
    elif last is not None:
        frame.opaque = replace(hints, qp=hints_of(last).qp)


ENC_PARAMS = np.dtype(
    [("nb_blocks", np.uintc), ("blocks_offset", np.uintp), ("block_size", np.uintp)], align=True
)
"""How AVVideoEncParams begins (libavutil/video_enc_params.h)."""


def _quantizers(told: Any) -> NDArray[np.float32]:
    """The quantizers of the macroblocks, (rows, columns), as they are coded.

    H.264 may show less of their columns and rows, and interlaced H.264 and MPEG-2 code an even
    number of rows: PyAV's own map wants those of the picture. Read as libavutil lays them out
    (AVVideoEncParams, AVVideoBlockParams in video_enc_params.h): block by block takes 20 times as
    long.
    """
    count, offset, size = np.frombuffer(told, ENC_PARAMS, 1)[0].tolist()
    blocks = np.frombuffer(told, np.uint8, count * size, offset).reshape(count, size).view(np.int32)
    src_y, delta_qp = blocks[:, 1], blocks[:, 4]  # of src_x, src_y, w, h, delta_qp
    columns = int(np.argmax(src_y > 0)) or count
    codes: NDArray[np.int32] = told.qp + delta_qp[: count // columns * columns]
    return codes.astype(np.float32).reshape(-1, columns)


DQT = b"\xff\xdb"
"""The marker of quantization tables (ITU-T T.81, B.1.1.3)."""

ZIGZAG = sorted(
    range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8)
)
"""Places of the steps of a table, as they come, in raster order (ITU-T T.81, figure A.6)."""

FIELDS = re.compile(rb"\xff\xd9\x00*(?=\xff\xd8)")
"""Where the JPEG of a second field follows that of the first in a packet (EOI, zeros that fill it
up, SOI)."""


def jpeg_hints(jpeg: bytes) -> Hints:
    """What a packet of one JPEG, or of two for the fields of a frame, tells.

    Nothing if its header is damaged, its table missing or zero, or those of the fields differ. A
    second field without tables has those of the first, as in FFmpeg; what is of another size is no
    field, but a small copy that cameras put behind a photograph.
    """
    first, *behind = FIELDS.split(jpeg, maxsplit=1)
    hints, size = _image_told(first)
    for second in behind:
        others, its_size = _image_told(second)
        if DQT in second and its_size == size and others != hints:
            return Hints(codec="mjpeg")
    return hints


def _image_told(jpeg: bytes) -> tuple[Hints, bytes]:
    """What one JPEG tells, and its lines and columns as coded (ITU-T T.81, B.2.2 and B.2.4.1)."""
    tables: dict[int, list[int]] = {}
    luma, size = -1, b""  # luma: the table that the first component names
    for marker, body in jpeg_segments(jpeg):
        if marker in JPEG_FRAME and len(body) > 8:
            luma, size = body[8], body[1:5]
        while marker == DQT[1] and body:
            length = 2 if body[0] >> 4 else 1
            bounds = range(1, 1 + 64 * length, length)
            tables[body[0] & 15] = [int.from_bytes(body[at : at + length]) for at in bounds]
            body = body[bounds.stop :]
    steps = tables.get(luma, [0])
    in_order = (step for _, step in sorted(zip(ZIGZAG, steps, strict=False)))
    return Hints(codec="mjpeg", luma_table=tuple(in_order) if min(steps) > 0 else None), size


@lru_cache
def nearest_quality(table: tuple[int, ...]) -> int:
    """The quality of the IJG scale, 1 to 100, whose luma table is nearest to `table`.

    Nearest in the mean ratio of steps, so that tables of other encoders are placed by strength.
    """
    steps = np.array(table)
    ratios = [np.abs(np.log(steps / scaled_luma_table(q))).mean() for q in range(1, 101)]
    return int(np.argmin(ratios)) + 1


def scaled_luma_table(quality: int) -> NDArray[np.int64]:
    """The standard luma table at `quality`, 1 to 100, as libjpeg scales it (jpeg_set_quality)."""
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (np.array(STANDARD_LUMA_TABLE, dtype=np.int64) * scale + 50) // 100
    return np.clip(steps, 1, 255)
