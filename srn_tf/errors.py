"""The one exception a user is meant to read."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one line, meant for the user.

    It says what is wrong, what was received and what to do. The tools print it alone on stderr and
    exit with status 1; any other exception is a defect of this package.
    """


def not_written(what, reason):
    """The message for a file that a run cannot write: str.

    Args:
        what: begins the sentence, such as "The checkpoint PATH".
        reason: of the operating system.
    """
    return (
        f"{what} could not be written. Received: {reason}. What was saved before is unchanged. Free some space, or "
        "change the permissions. The same command then continues."
    )


class ImageError(InputError):
    """One image, of several perhaps, cannot be read; the others may be asked about again without it.

    Attributes:
        reason: str, what is wrong with it.
    """

    def __init__(self, message, reason):
        super().__init__(message)
        self.reason = reason
