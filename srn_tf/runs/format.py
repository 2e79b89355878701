"""The format of what a run leaves, which is of one version of this project."""

from srn_tf.errors import InputError

FORMAT = 3


def check_format(record, source):
    """Refuses what another version wrote.

    Args:
        record: what a file holds, a dict with "format" since format 2.
        source: its path.
    Raises:
        InputError: it is of another format.
    """
    received = record.get("format", 1) if isinstance(record, dict) else 1
    if received != FORMAT:
        raise InputError(
            f"{source} must have format {FORMAT}, of this version of srn_tf. Received: format {received}. Train the "
            "run again, or use the version that wrote it."
        )
