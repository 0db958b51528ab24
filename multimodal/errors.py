"""The one exception that commands print as a single line, without a traceback."""


class UserError(Exception):
    """Something the user gave is wrong; the message says what, where and what to do about it."""
