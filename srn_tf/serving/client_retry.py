"""How a server says no to the client, and how often and how patiently it is asked again."""

import logging

import urllib3

logger = logging.getLogger("srn_tf")

BACKOFF_S = 1.0
"""Unit of waiting: the first new try comes at once, the second after 2 of it, then 4, 8, ...; each and up to 1 more."""

BUSY_STATUSES = (429, 502, 503, 504)
"""HTTP statuses after which a request is sent again: too many requests, and a server or gateway that is not ready."""

_BACKOFF_MAX_S = 30.0
_RETRY_AFTER_MAX_S = 60  # of what a gateway asks for in its Retry-After header


class ServerError(Exception):
    """A request that has no answer, in the server's or the network's words.

    Attributes:
        kind: "invalid" (what was sent is refused: INVALID_ARGUMENT, 400), "not_found" (no such model or version),
            "unavailable" (no connection, no answer in time, overloaded; tried again in vain) or "other".
    """

    def __init__(self, kind, message):
        super().__init__(_one_line(message, 300))
        self.kind = kind


class Patience(urllib3.Retry):
    """urllib3's Retry, which counts and waits, and here also says so.

    The gRPC client goes by it as well: gRPC's own retries (gRFC A6) end after five attempts, and all of them share
    one deadline, so that a request that took too long would never be sent again.
    """

    def sleep(self, response=None):
        """Logs why a request is sent again, and waits."""
        last = self.history[-1]
        reason = _one_line(str(last.error or f"HTTP status {last.status}"), 200)
        logger.warning("The server did not answer (%s). Tries left: %d.", reason, self.total + 1)
        super().sleep(response)


def patience(retries):
    """A Patience for every kind of request: a prediction changes nothing on the server, so asking twice does no harm.

    Args:
        retries: int >= 0, how often a request is sent again.
    """
    return Patience(
        total=retries,
        allowed_methods=None,  # any: POST, too
        status_forcelist=BUSY_STATUSES,
        raise_on_status=False,
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_S,
        backoff_max=_BACKOFF_MAX_S,
        retry_after_max=_RETRY_AFTER_MAX_S,
    )


def _one_line(text, length):
    """What can be shown of a text of unknown origin, which may be another protocol's bytes."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:length]
