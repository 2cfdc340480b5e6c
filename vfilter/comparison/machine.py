"""What numbers of speed depend on: versions and the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import av

from vfilter.comparison.ffmpeg import FFmpeg


def versions(ffmpeg: FFmpeg) -> dict[str, str]:
    """The versions of what ran, by name."""
    import torch

    from vfilter import __version__

    return {
        "vdeblock": __version__,
        "FFmpeg of the filters": ffmpeg.version,
        "PyTorch": torch.__version__,
        "PyAV": av.__version__,
        "Python": platform.python_version(),
    }


def machine() -> dict[str, str]:
    """Processor, cores, system, and the GPU if there is one."""
    import torch

    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    return facts


def _processor() -> str:
    """The processor's name, as far as the system tells one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
