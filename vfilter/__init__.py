"""vdeblock: restores video that compression has spoiled.

import vfilter
with vfilter.Restorer("l8") as restore:
    clean = restore(frame)      # av.VideoFrame -> av.VideoFrame
    clean = restore.luma(y)     # ndarray or tensor, (H, W) or (N, H, W)
vfilter.restore_video("in.avi", "out.mp4")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vfilter.errors import DeviceError, InputError, ModelError, OutputError, VdeblockError

if TYPE_CHECKING:
    from vfilter.bitstream import Hints
    from vfilter.comparison.runs import compare
    from vfilter.pipeline import Plan, Progress, Summary, restore_video
    from vfilter.restorer import Restorer

__all__ = [
    "DeviceError",
    "Hints",
    "InputError",
    "ModelError",
    "OutputError",
    "Plan",
    "Progress",
    "Restorer",
    "Summary",
    "VdeblockError",
    "__version__",
    "compare",
    "restore_video",
]

__version__ = "0.1.0"

_LATE = {
    "Hints": "vfilter.bitstream",
    "Plan": "vfilter.pipeline",
    "Progress": "vfilter.pipeline",
    "Restorer": "vfilter.restorer",
    "Summary": "vfilter.pipeline",
    "compare": "vfilter.comparison.runs",
    "restore_video": "vfilter.pipeline",
}


def __getattr__(name: str) -> Any:
    """The names that need PyTorch or FFmpeg, imported at first use."""
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
