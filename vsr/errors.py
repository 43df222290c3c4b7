"""Errors that a user can cause or meet. A message tells in one line what was found, what was
expected and what to do."""


class VsrError(Exception):
    """A failure that is not a bug; `exit_code` is that of the command line."""

    exit_code = 1


class UsageError(VsrError):
    """The request itself cannot be met: an unknown name, a value out of range, options that
    clash."""

    exit_code = 2


class InputError(VsrError):
    """The clip, picture or truth cannot be read."""

    exit_code = 3


class OutputError(VsrError):
    """The result cannot be written: it exists, the folder is missing or read-only, the disk is
    full."""

    exit_code = 4


class ModelError(VsrError):
    """A model, a weight file or a device does not serve."""

    exit_code = 5


class InterruptedRunError(VsrError):
    """The user asked the run to stop."""

    exit_code = 130

    def __init__(self, message: str, *, can_resume: bool) -> None:
        """`can_resume` tells whether the same command can continue from kept work."""
        super().__init__(message)
        self.can_resume = can_resume
