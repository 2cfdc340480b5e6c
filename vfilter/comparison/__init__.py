"""Comparison with the original and with other filters.

from vfilter.comparison import compare
result = compare("pristine.mkv", degrade="mjpeg:20", against=["spp"], frames=50)
print(result.to_text())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfilter.comparison.results import Comparison, Run
    from vfilter.comparison.runs import compare

__all__ = ["Comparison", "Run", "compare"]

_LATE = {
    "Comparison": "vfilter.comparison.results",
    "Run": "vfilter.comparison.results",
    "compare": "vfilter.comparison.runs",
}


def __getattr__(name: str) -> Any:
    """The names that need PyTorch or FFmpeg, imported at first use."""
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
