"""The catalogue of trained models: find, describe and load `models/<name>/` or a path.

A model is a folder with `weights.safetensors` (float32 tensors named as in `Network.shapes`, and
metadata that says what they are), `metrics.json` (measured quality) and `README.md` (its card).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vfilter.bitstream import QP_CODECS, Hints, scaled_luma_table
from vfilter.errors import ModelError
from vfilter.networks import NETWORKS, Network

ALIASES = {"l4": "l4-jpeg", "l8": "l8-jpeg"}
"""Names that let the tool choose the weights by the source's codec, and what they mean where
nothing is known of that."""

TRAINED = ("jpeg", "h264", "mpeg")
"""What weights are trained on; `l8` takes `l8-h264` for H.264 (`trained_for`)."""

LIKE_MJPEG = ("amv", "mjpegb", "mxpeg", "smvjpeg", "sp5x")
"""Codecs whose frames are JPEGs with tables that nothing tells."""

WITH_8X8_DCT = ("vc1", "wmv3", "theora", "vp3", "dvvideo", "asv1", "asv2")
"""Codecs of 8x8 DCT blocks whose quantizers nothing tells."""

MEZZANINE = ("prores", "dnxhd", "cfhd", "jpeg2000")
"""Codecs that lose next to nothing as they are used, and are left alone."""

USUAL_QP = 26.0
"""The H.264 QP that a lossy source is taken for if its codec tells no quantizer: of the usual
crf 23, whose B-frames are coarser."""

USUAL_QSCALE = 4.0
"""The quantiser scale of MPEG-2 that MPEG-4, MPEG-2 and the codecs `WITH_8X8_DCT` are taken for if
they tell none."""

USUAL_BITS = (0.25, 1.0)
"""Bits per pixel from which on a source of a codec that never tells its quantizers is taken for a
better one than that, and from which on it is left alone; old codecs take more for the same."""

COARSE = 2 / 3
"""Power of the explained error to which neighbours in time may differ: the coarser the steps, the
more coefficients are near 0 anyway, and the less of it there is (training/LOG.md)."""

TEXTURE = 2.0
"""At how many times the error that quantization explains the finest texture halves the trust: less
costs drawings gain, more costs grain (training/LOG.md)."""

EVEN_ERROR = 16**2 / 12
"""The error that quantization explains, in squared codes of 8 bits, at which what is added to even
blocks is trusted by half: that of QP 28 of H.264. Coarser steps make even what was not."""

USUAL_QUALITY = 80
"""The IJG quality that MJPEG is taken for whose tables can't be read."""

WEIGHTS = "weights.safetensors"
METRICS = "metrics.json"

OBJECTIVE = "residual"
"""The objective (paper, section 3) whose networks the restorer runs: they predict the residual."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A trained network and what its file says about it.

    name: the folder's name, or the file's if it was given by itself.
    weights: float32 arrays named and shaped as in `network.shapes`, all finite.
    objective: the training objective (paper, section 3).
    codec, quality: what it was trained on, the lowest and highest quality on the codec's scale.
    steps: training steps; commit: Git hash of the training code; version: of the weights.
        "unknown" where the file doesn't say.
    folder: where the file lies; None for a model that was never in a file.
    """

    name: str
    network: Network
    weights: Mapping[str, NDArray[np.float32]] = field(repr=False)
    objective: str
    codec: str
    quality: tuple[int, int]
    steps: str = "unknown"
    commit: str = "unknown"
    version: str = "unknown"
    folder: Path | None = None

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds; empty if there is none.

        Raises ModelError if it can't be read as JSON.
        """
        if self.folder is None:
            return {}
        path = self.folder / METRICS
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, RecursionError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is damaged ({error}): delete it or export again") from error

    @cached_property
    def gain(self) -> dict[str, dict[int, float]]:
        """IPSNR (paper, section 4) in dB by data set and quality; empty without metrics.

        Raises ModelError if the metrics are damaged.
        """
        try:
            return {
                dataset: {
                    int(quality): row["restored"]["psnr"] - row["distorted"]["psnr"]
                    for quality, row in rows.items()
                }
                for dataset, rows in self.metrics.get("results", {}).items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def maxima_for(self, precision: str) -> list[list[float]] | None:
        """The highest activation of each channel of each layer but the last, for int8.

        None for other precisions. Raises ModelError for int8 if they were not measured, or if the
        metrics are damaged.
        """
        if precision != "int8":
            return None
        if not self.metrics.get("maxima"):
            raise ModelError(
                f"{self.name} was not calibrated for int8: take another precision, or run "
                "python -m training calibrate"
            )
        channels = [layer.channels for layer in self.network.layers[:-1]]
        try:
            found = [[float(highest) for highest in layer] for layer in self.metrics["maxima"]]
            known = all(0 <= highest < np.inf for layer in found for highest in layer)
            if not known or [len(layer) for layer in found] != channels or not all(map(any, found)):
                raise ValueError(f"maxima {found}")
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from error
        return found

    def strength(self, hints: Hints) -> float | NDArray[np.float32]:
        """The factor of the residual that serves a source best, by what its stream tells.

        By the curves in the metrics (`training/strength.py`): for JPEG over the IJG quality, for
        codecs with quantizers over those, linear between the points of the fit and the nearest
        one's beyond; for other codecs, and where none are told, one factor, their own or that of a
        good source (`USUAL_QUALITY`, `USUAL_QP`, `USUAL_QSCALE`; none for `MEZZANINE`), less where
        the bits are many (`USUAL_BITS`). 1 for a source that tells nothing and for a model without
        the curve.
        Returns one factor, or (rows, columns) float32, one for each macroblock.
        Raises ModelError if the metrics are damaged.
        """
        if hints.codec in MEZZANINE:
            return 0.0
        known = self._known(hints)
        curve = _curve(known)
        if known.luma_table is not None:
            return float(self._at(curve, known.jpeg_quality or 0))
        if known.codec is None:
            return 1.0
        if known.qp is None:
            return float(self._at(curve, 0.0)) * _share(hints)
        factors = self._at(curve, known.qp).astype(np.float32)
        return factors if known is hints else float(factors.mean()) * _share(hints)

    def tolerated(self, hints: Hints) -> NDArray[np.float64] | None:
        """The energy of a residual's coefficients at which it is trusted by 0.71
        (`vfilter.coefficients.Spectrum`), of each of 64 frequencies, in squared codes of 8 bits.

        What quantization explains (`explained`) times the limit of the fit
        (`training/strength.py`). None, for full trust, for a source that tells nothing and for a
        model without the limit. Raises ModelError if the metrics are damaged.
        """
        known = self._known(hints)
        curve = _curve(known)
        if curve not in self._limits:
            return None
        return self._limits[curve] * explained(known)

    def texture(self, hints: Hints) -> float | None:
        """The energy of the finest texture in a plane at which what is added to it is trusted by
        half (`vfilter.coefficients.smoothness`), in squared codes of 8 bits.

        `TEXTURE` times what quantization explains. None, for full trust, for a source that tells
        nothing and for JPEG, in whose texture there is as much to gain as elsewhere.
        Raises ModelError if the metrics are damaged.
        """
        known = self._known(hints)
        if known.codec is None or known.luma_table is not None:
            return None
        return TEXTURE * float(explained(known).mean())

    def evenness(self, hints: Hints) -> float:
        """How far what is added to even blocks is not trusted, 0 to 1
        (`vfilter.coefficients.evenness`), by what quantization explains (`even_doubt`).

        Raises ModelError if the metrics are damaged.
        """
        return even_doubt(self._known(hints))

    def agreement(self, hints: Hints) -> float | None:
        """The mean squared difference, in squared codes of 8 bits, at which a neighbour in time
        counts half (`vfilter.temporal.added`).

        What quantization explains, the geometric mean over the frequencies, to the power `COARSE`,
        times the factor of the fit (`training/strength.py`). None, for frames that are left to
        themselves, for a source that tells nothing and for a model without the factor. Raises
        ModelError if the metrics are damaged.
        """
        known = self._known(hints)
        factor = self._agreements.get(_curve(known))
        if factor is None:
            return None
        return float(factor * np.exp(COARSE * np.log(explained(known)).mean()))

    @cached_property
    def part(self) -> tuple[int, int] | None:
        """The lowest and the highest `Hints.coarseness` at which it serves better than the network
        for all of its codec's range, measured at its export. None for those networks themselves.

        Raises ModelError if the metrics are damaged.
        """
        try:
            low, high = self.metrics["fits"]
            return int(low), int(high)
        except KeyError:
            return None
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def _known(self, hints: Hints) -> Hints:
        """`hints`, or where they tell no table and no quantizers those of a good source instead.

        Without quantizers of a codec that has a strength of its own.
        """
        if hints.codec in ("mjpeg", *LIKE_MJPEG) and hints.luma_table is None:
            return replace(hints, luma_table=tuple(scaled_luma_table(USUAL_QUALITY).tolist()))
        if hints.luma_table is not None or hints.codec is None:
            return hints
        kin = QP_CODECS.get(hints.codec, hints.codec)
        if hints.explained_error is not None and kin in self._curves:
            return hints
        kin = "mpeg2video" if kin in WITH_8X8_DCT else kin
        if kin in ("mpeg4", "mpeg2video") and kin in self._curves:
            return Hints(codec=kin, qp=np.full((1, 1), 2 * USUAL_QSCALE))
        if hints.codec in self._curves.keys() - QP_CODECS:
            return replace(hints, qp=None)
        return Hints(codec="h264", qp=np.full((1, 1), USUAL_QP))

    def _at(self, codec: str, where: float | NDArray[np.float32]) -> NDArray[np.float64]:
        """The curve of `codec` at quality or quantizer `where`, 1 if there is none."""
        points, factors = self._curves.get(codec, ([0.0], [1.0]))
        return np.asarray(np.interp(where, points, factors))

    @cached_property
    def _curves(self) -> dict[str, tuple[list[float], list[float]]]:
        """By codec: the qualities or quantizers of its curve, rising, and the strengths there."""
        curves = {}
        try:
            for codec, fitted in self.metrics.get("strength", {}).items():
                pairs = sorted((float(point), float(factor)) for point, factor in fitted.items())
                points, factors = [p for p, _ in pairs], [f for _, f in pairs]
                if not pairs or not np.isfinite(pairs).all() or min(factors) < 0:
                    raise ValueError(f"strength {fitted}")
                curves[codec] = points, factors
        except (AttributeError, TypeError, ValueError) as error:
            raise self._damaged(error) from error
        return curves

    @cached_property
    def _limits(self) -> dict[str, float]:
        """By codec: the share of `Hints.explained_error` that is tolerated."""
        return self._positive("limits")

    @cached_property
    def _agreements(self) -> dict[str, float]:
        """By codec: the factor of `agreement`."""
        return self._positive("agreements")

    def _positive(self, key: str) -> dict[str, float]:
        """The positive numbers by codec that the metrics have under `key`."""
        try:
            numbers = {codec: float(x) for codec, x in self.metrics.get(key, {}).items()}
            if not all(number > 0 for number in numbers.values()):
                raise ValueError(f"{key} {numbers}")
        except (AttributeError, TypeError, ValueError) as error:
            raise self._damaged(error) from error
        return numbers

    def _damaged(self, error: Exception) -> ModelError:
        return ModelError(
            f"the metrics of {self.name} in {self.folder} are damaged ({error!r}): "
            f"delete {METRICS} or export the model again"
        )


def explained(hints: Hints) -> NDArray[np.float64]:
    """`Hints.explained_error` of each of 64 frequencies, (64,); of a good source where none is
    told."""
    usual = Hints(codec="h264", qp=np.full((1, 1), USUAL_QP))
    told = hints.explained_error
    return np.broadcast_to(np.asarray(usual.explained_error if told is None else told), 64)


def even_doubt(hints: Hints) -> float:
    """1 / (1 + (what quantization explains / `EVEN_ERROR`)^2) for H.264 and what takes its
    networks; 0 for JPEG and MPEG, whose small coefficients end at 0 in fine sources too."""
    if trained_for(hints) != "h264":
        return 0.0
    return float(1 / (1 + (explained(hints).mean() / EVEN_ERROR) ** 2))


def models_folder() -> Path:
    """The folder of the shipped models: in the installed package, else beside it (checkout)."""
    package = Path(__file__).resolve().parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def catalogue() -> list[Model]:
    """All shipped models, by name.

    Raises ModelError if one of them is damaged.
    """
    return [_read(models_folder() / name / WEIGHTS, name) for name in _shipped()]


def trained_for(hints: Hints) -> str:
    """The codec among those of the training, "jpeg", "h264" or "mpeg", that is nearest to a source.

    "jpeg" where nothing is told.
    """
    if hints.codec in (None, "mjpeg", *LIKE_MJPEG) or hints.luma_table is not None:
        return "jpeg"
    if QP_CODECS.get(hints.codec) in ("mpeg4", "mpeg2video") or hints.codec in WITH_8X8_DCT:
        return "mpeg"
    return "h264"


def load(
    name_or_path: str | os.PathLike[str], *, codec: str = "jpeg", coarseness: int | None = None
) -> Model:
    """The model of a name (`l8`, `l8-jpeg`), of a folder, or of a `.safetensors` file.

    codec: what `l4` and `l8` are taken for (`trained_for`); the other names say it themselves.
    coarseness: that of the frame (`Hints.coarseness`), for which `l4` and `l8` then stand for the
        network for a part of the range that fits it, if there is one.
    A name goes before a path of the same spelling; `./l8` is always a path.
    Raises ModelError if there is no such model, or if it is damaged or of another network.
    """
    name = os.fspath(name_or_path)
    known = _shipped()
    if name in ALIASES:
        if coarseness is not None and (narrow := _narrow(name, codec, coarseness, known)):
            return narrow
        name = f"{name}-{codec}" if f"{name}-{codec}" in known else ALIASES[name]
    if name in known:
        return _read(models_folder() / name / WEIGHTS, name)
    path = Path(name)
    try:
        if path.is_dir():
            return _read(path / WEIGHTS, path.resolve().name)
    except OSError as error:
        raise ModelError(f"{path} can't be read ({error}): check its permissions") from error
    if path.suffix == ".safetensors":
        return _read(path, path.stem)
    aliases = [alias for alias, target in ALIASES.items() if target in known]
    raise ModelError(
        f"unknown model {os.fspath(name_or_path)!r}: name one of "
        f"{', '.join([*aliases, *known])}, a folder or a .safetensors file"
    )


def _narrow(alias: str, codec: str, coarseness: int, known: Sequence[str]) -> Model | None:
    """The network for a part of the range of `codec` that fits `coarseness`; None if none does.

    Of those that `alias` may stand for; for JPEG that of the nearest table.
    """
    names = rf"{alias}-q\d+" if codec == "jpeg" else rf"{alias}-{codec}-\w+"
    models = (
        _read(models_folder() / name / WEIGHTS, name) for name in known if re.fullmatch(names, name)
    )
    fitting = [model for model in models if model.part and _within(coarseness, model.part)]
    if codec != "jpeg":
        return next(iter(fitting), None)
    return min(fitting, key=lambda model: _apart(model.quality[0], coarseness), default=None)


def _curve(known: Hints) -> str:
    """Under which codec the metrics have the curve and the limit for hints of `Model._known`."""
    if known.luma_table is not None:
        return "mjpeg"
    return QP_CODECS.get(known.codec or "", known.codec or "")


def _share(hints: Hints) -> float:
    """The share, 0 to 1, of the usual strength for a source of unknown quantizers, by its bits."""
    old = hints.codec in WITH_8X8_DCT or hints.codec in QP_CODECS
    if hints.bits_per_pixel is None or old:
        return 1.0
    return float(np.interp(np.log(hints.bits_per_pixel), np.log(USUAL_BITS), (1.0, 0.0)))


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _apart(one: int, other: int) -> float:
    """How far apart the tables of two JPEG qualities are, by the mean ratio of their steps."""
    return float(np.abs(np.log(scaled_luma_table(one) / scaled_luma_table(other))).mean())


def _shipped() -> list[str]:
    return sorted(path.parent.name for path in models_folder().glob(f"*/{WEIGHTS}"))


def _read(path: Path, name: str) -> Model:
    if not path.is_file():
        raise ModelError(f"there is no file {path}: check the name, or export the model again")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            network = _network(metadata, path)
            return Model(
                name=name,
                network=network,
                weights=_weights(file, network, path),
                objective=_objective(metadata, path),
                codec=_entry(metadata, "codec", path),
                quality=(
                    _number(metadata, "quality_min", path),
                    _number(metadata, "quality_max", path),
                ),
                steps=metadata.get("steps", "unknown"),
                commit=metadata.get("commit", "unknown"),
                version=metadata.get("version", "unknown"),
                folder=path.parent,
            )
    except SafetensorError as error:
        raise ModelError(
            f"{path} is truncated or not a safetensors file ({error}): get the file again"
        ) from error
    except OSError as error:
        raise ModelError(f"{path} can't be read ({error}): check its permissions") from error


def _network(metadata: Mapping[str, str], path: Path) -> Network:
    if "network" not in metadata:
        raise ModelError(
            f"{path} does not say which network it is: its metadata must have the key 'network', "
            f"one of {', '.join(NETWORKS)}"
        )
    name = metadata["network"]
    if name not in NETWORKS:
        raise ModelError(
            f"{path} is of the unknown network {name!r}: use a model of {', '.join(NETWORKS)}"
        )
    return NETWORKS[name]


def _objective(metadata: Mapping[str, str], path: Path) -> str:
    objective = _entry(metadata, "objective", path)
    if objective != OBJECTIVE:
        raise ModelError(
            f"{path} was trained for the objective {objective!r}: use a model of {OBJECTIVE!r}"
        )
    return objective


def _entry(metadata: Mapping[str, str], key: str, path: Path) -> str:
    if key not in metadata:
        raise ModelError(f"{path} has no {key!r} in its metadata: export the model again")
    return metadata[key]


def _number(metadata: Mapping[str, str], key: str, path: Path) -> int:
    text = _entry(metadata, key, path)
    try:
        return int(text)
    except ValueError:
        raise ModelError(
            f"{path} has {key} {text!r} in its metadata, not an integer: export the model again"
        ) from None


def _weights(file: Any, network: Network, path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of an open safetensors file, each checked against `network` before it is read."""
    advice = f"use a model made for {network.name}"
    names = set(file.keys())
    if missing := network.shapes.keys() - names:
        raise ModelError(f"{path} lacks the tensors {', '.join(sorted(missing))}: {advice}")
    if extra := names - network.shapes.keys():
        raise ModelError(f"{path} has the unknown tensors {', '.join(sorted(extra))}: {advice}")
    weights = {}
    for name, shape in network.shapes.items():
        described = file.get_slice(name)
        if tuple(described.get_shape()) != shape:
            raise ModelError(
                f"{path} has {name} of shape {tuple(described.get_shape())}, not {shape}: {advice}"
            )
        if described.get_dtype() != "F32":
            raise ModelError(
                f"{path} has {name} as {described.get_dtype()}, not F32: export it as float32"
            )
        weights[name] = file.get_tensor(name)
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"{path} has NaN or infinity in {name}: train or export it again")
    return weights
