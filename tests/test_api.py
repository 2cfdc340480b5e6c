"""The public names, what importing them costs, and the README's tree of modules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vfilter

ROOT = Path(__file__).resolve().parents[1]


def test_the_public_names() -> None:
    assert vfilter.__all__ == [
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
    assert all(hasattr(vfilter, name) for name in vfilter.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'vfilter' has no attribute 'nonsense'"):
        vfilter.nonsense  # noqa: B018  the access is what is tested


def test_every_public_function_and_class_is_documented() -> None:
    named = [getattr(vfilter, name) for name in vfilter.__all__ if name != "__version__"]
    assert all((thing.__doc__ or "").strip() for thing in named)


def test_importing_loads_nothing_slow() -> None:
    code = (
        "import sys, vfilter\n"
        "print(sorted({'torch', 'av', 'numpy', 'cv2', 'PIL', 'typer'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("folder", ["vfilter", "training"])
def test_the_readme_lists_every_module(folder: str) -> None:
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    listed = {path for path in tree((ROOT / "README.md").read_text()) if path.startswith(folder)}
    assert {path for path in listed if Path(path).stem[:2] != "__"} == modules


def tree(text: str) -> set[str]:
    """The paths of the modules in the README's code block, whose indents are four spaces."""
    folders: list[str] = []
    paths = set()
    for indent, name in re.findall(r"^( *)([\w.]+(?:/|\.py))(?=\s)", text, re.MULTILINE):
        del folders[len(indent) // 4 :]
        if name.endswith("/"):
            folders.append(name)
        else:
            paths.add("".join(folders) + name)
    return paths
