"""The two kinds of bad news that a person at the keyboard can do something about."""


class UserError(Exception):
    """A mistake in the input, the settings or the environment, told in one line.

    The message names the file, scan, row or option and the way out. The command line prints it
    without a traceback and exits with 2; a step that meets it leaves nothing half-written.
    """


class BadFileError(UserError):
    """A dataset file is missing, truncated or not of the kind its name promises."""
