"""The errors a caller can meet.

VdeblockError
├── ArgumentError   exit 2: an argument is out of range, or contradicts another; a ValueError too
├── InputError      exit 3: the input can't be read as asked (also: FFmpeg missing for comparisons)
├── ModelError      exit 4: a model is unknown, damaged, or of another network
├── OutputError     exit 5: the output can't be written, or would lose a stream
└── DeviceError     exit 6: the device or precision isn't there

Exit codes besides: 0 success, 1 a fault of ours, 2 usage, 128 + n stopped by signal n, so 130 by
Ctrl-C.
"""


class VdeblockError(Exception):
    """A failure with a cause the caller can act on; its message says what, which and what to do."""

    exit_code = 1


class ArgumentError(VdeblockError, ValueError):
    """An argument is out of range, or contradicts another."""

    exit_code = 2


class InputError(VdeblockError):
    """The input is missing, unreadable, or not what was asked for."""

    exit_code = 3


class ModelError(VdeblockError):
    """The model is unknown, incomplete, damaged, or of another network."""

    exit_code = 4


class OutputError(VdeblockError):
    """The output can't be written, exists already, or can't hold what the input has."""

    exit_code = 5


class DeviceError(VdeblockError):
    """The device or the precision is not available here."""

    exit_code = 6
