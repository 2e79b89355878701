"""The workers of a cluster wait for one another before TensorFlow starts.

TensorFlow itself waits an hour for a worker that never comes, in silence and deaf to Ctrl-C.
"""

import contextlib
import logging
import socket
import time

from srn_tf.errors import InputError

logger = logging.getLogger("srn_tf")

_GO = b"srn_tf go\n"
_RETRY_S = 0.5
_HELLO_S = 5.0  # within which a worker that has connected says which one it is


def wait_for_workers(addresses, index, timeout_s):
    """Returns once all workers are there, on all of them; their ports are free again then.

    The first worker listens at its port until each of the others has connected and said its number.

    Args:
        addresses: "host:port" of each worker.
        index: int, which of them this process is.
        timeout_s: seconds to wait for the others.
    Raises:
        InputError: this worker's port is taken, or some worker did not come in time; it names them.
    """
    deadline_s = time.monotonic() + timeout_s
    logger.info("Worker %d of %d: waiting for the others.", index + 1, len(addresses))
    with _listen(addresses[index]) as server:
        if index > 0:
            server.close()  # the port is free for TensorFlow
            _report(addresses[0], index, deadline_s)
        else:
            _collect(server, addresses, deadline_s)


def _listen(address):
    port = _split(address)[1]
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise InputError(
            f"The port of this worker must be free. Received: {address} in TF_CONFIG ({error.strerror}). Stop the "
            "program that uses it, perhaps an earlier run, or change this address in the TF_CONFIG of every worker."
        ) from None


def _collect(server, addresses, deadline_s):
    """Waits until every other worker has connected and said its number, and sends them all off."""
    with contextlib.ExitStack() as stack:
        present = {}
        while len(present) < len(addresses) - 1:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                missing = [address for i, address in enumerate(addresses) if i and i not in present]
                raise InputError(_late(f"no connection from worker(s) {', '.join(missing)}"))
            server.settimeout(left_s)
            with contextlib.suppress(OSError, ValueError):  # nobody in time, or somebody else's connection
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(min(_HELLO_S, left_s))
                with connection.makefile("rb") as lines:
                    index = int(lines.readline(20).decode().removeprefix("srn_tf worker "))
                if 0 < index < len(addresses):
                    present[index] = connection  # the later one, where a worker was started twice
        for connection in present.values():
            with contextlib.suppress(OSError):  # gone since: TensorFlow will notice
                connection.sendall(_GO)


def _report(address, index, deadline_s):
    """Says this worker's number to the first one until that sends it off."""
    reason = "no answer"
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            with socket.create_connection(_split(address), timeout=min(_HELLO_S, left_s)) as connection:
                connection.sendall(f"srn_tf worker {index}\n".encode())
                connection.settimeout(left_s)
                with connection.makefile("rb") as lines:
                    if lines.readline(20) == _GO:
                        return
        except OSError as error:
            reason = error.strerror or str(error)
        time.sleep(_RETRY_S)
    raise InputError(_late(f"no connection to worker {address} ({reason})"))


def _split(address):
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _late(what):
    return f"All workers of TF_CONFIG must be started. Received: {what}. Start each of them with the same command."
