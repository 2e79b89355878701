"""Workers that wait for one another: threads of one process, each with a port."""

import concurrent.futures
import socket
import threading
import time

import pytest

from srn_tf.errors import InputError
from srn_tf.rendezvous import wait_for_workers
from tests.training.two_workers import free_ports


@pytest.fixture
def addresses():
    return [f"127.0.0.1:{port}" for port in free_ports(3)]


def wait_together(addresses, indices, timeout_s=20.0, pauses=(0.0, 0.0, 0.0)):
    """[time at which each returned, or its InputError], s after the start."""
    start_s = time.monotonic()

    def one(index):
        time.sleep(pauses[index])
        try:
            wait_for_workers(addresses, index, timeout_s)
        except InputError as error:
            return str(error)
        return time.monotonic() - start_s

    with concurrent.futures.ThreadPoolExecutor(len(indices)) as pool:
        return list(pool.map(one, indices))


@pytest.mark.parametrize("last", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_nobody_goes_before_the_last_has_come(addresses, last):
    pauses = [0.0, 0.0, 0.0]
    pauses[last] = 0.7
    assert all(0.7 <= seconds < 10 for seconds in wait_together(addresses, (0, 1, 2), pauses=pauses))
    for address in addresses:  # and the ports are TensorFlow's now
        socket.create_server(("127.0.0.1", int(address.split(":")[1]))).close()


def test_those_that_do_not_come_are_named(addresses):
    chief, second = wait_together(addresses, (0, 1), timeout_s=2.0)
    assert f"no connection from worker(s) {addresses[2]}" in chief and "Start each" in chief
    assert addresses[0] in second


def test_a_worker_without_its_chief(addresses):
    (message,) = wait_together(addresses, (1,), timeout_s=0.7)
    assert f"no connection to worker {addresses[0]} (Connection refused)" in message


def test_a_host_without_an_address():
    (message,) = wait_together(["nowhere.invalid:2222", f"127.0.0.1:{free_ports(1)[0]}"], (1,), timeout_s=0.7)
    assert "no connection to worker nowhere.invalid:2222" in message


def test_a_port_in_use(addresses):
    with socket.create_server(("127.0.0.1", int(addresses[1].split(":")[1]))):
        (message,) = wait_together(addresses, (1,))
    assert "The port of this worker must be free" in message and addresses[1] in message


@pytest.mark.slow
def test_other_connections_do_not_count(addresses):
    """Of somebody who says nothing to the point, and of a worker of a number that is not in the cluster."""

    def disturb():
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"srn_tf worker 7\n", b""):
            with socket.create_connection(("127.0.0.1", int(addresses[0].split(":")[1]))) as connection:
                connection.sendall(words)

    timer = threading.Timer(0.5, disturb)
    timer.start()
    chief, second = wait_together(addresses, (0, 1), timeout_s=2.0)
    timer.join()
    assert addresses[1] not in chief and f"no connection from worker(s) {addresses[2]}." in chief


def test_a_worker_that_was_started_again_counts_once(addresses):
    """The first attempt of worker 1 dies while it waits; the one started after it is sent off."""

    def die_waiting():
        with socket.create_connection(("127.0.0.1", int(addresses[0].split(":")[1]))) as connection:
            connection.sendall(b"srn_tf worker 1\n")

    timer = threading.Timer(0.5, die_waiting)
    timer.start()
    assert all(2 <= seconds < 10 for seconds in wait_together(addresses, (0, 1, 2), pauses=(0.0, 1.5, 2.0)))
    timer.join()
