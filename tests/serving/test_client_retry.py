"""What a server fails to answer is asked again, as often as promised, and nothing else is."""

import numpy as np
import pytest
import urllib3

from srn_tf.errors import InputError
from srn_tf.serving import client, client_retry
from srn_tf.serving.client import ServerPredictor
from tests.serving.asking import IMAGES, ask, assert_same
from tests.serving.model_server import Code
from tests.serving.model_server_rest import RestServer


def test_a_server_that_is_busy_for_a_while(server, expected, caplog):
    served = ask(server)
    server.refusals = [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED]
    assert_same(served.answer(IMAGES), expected)
    assert server.requests == [8] * 4
    notices = [record.getMessage() for record in caplog.records if record.name == "srn_tf"]
    assert [notice[-14:] for notice in notices] == [f"Tries left: {left}." for left in (5, 4, 3)]
    assert all(notice.startswith("The server did not answer (") for notice in notices)


def test_a_server_that_is_busy_for_good(server):
    served = ask(server, retries=2)
    server.refusals = [Code.UNAVAILABLE] * 9
    with pytest.raises(
        InputError, match=f"^The server did not answer. Received from srn on {server.address}: .*told to"
    ) as e:
        served.answer(IMAGES)
    assert "Check that it runs there (TensorFlow Serving has http://" in str(e.value) and "\n" not in str(e.value)
    assert server.requests == [8] * 3


def test_no_retries(server):
    served = ask(server, retries=0)
    server.refusals = [Code.UNAVAILABLE]
    with pytest.raises(InputError, match="The server did not answer"):
        served.answer(IMAGES)
    assert server.requests == [8]


def test_an_answer_that_is_too_slow_is_asked_for_again(server, expected):
    served = ask(server, timeout_s=2.0)
    server.slow = 1
    assert_same(served.answer(IMAGES), expected)
    assert server.requests == [8, 8]


def test_a_server_that_is_always_too_slow(server):
    served = ask(server, timeout_s=2.0, retries=1)  # on a busy machine its first answer takes half a second
    server.slow = 9
    with pytest.raises(
        InputError, match="The server did not answer. .*(timed out|DEADLINE_EXCEEDED).* Allow more time"
    ):
        served.answer(IMAGES)
    assert server.requests == [8, 8]


@pytest.mark.parametrize("deaths", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_server_that_dies_in_the_middle_and_comes_back(server, expected, deaths, monkeypatch):
    monkeypatch.setattr(client, "MAX_BATCH_IMAGES", 3)
    served = ask(server, retries=8)
    server.deaths = deaths
    assert_same(served.answer(IMAGES), expected)
    assert server.requests == [3] * deaths + [3, 3, 2]  # what was read and not answered was asked again, nothing else


def test_an_answer_that_breaks_off_is_asked_for_again(served_model, expected, short_waits):
    server = RestServer(served_model)
    served = ask(server)
    server.half_answers = 2
    assert_same(served.answer(IMAGES), expected)
    assert server.requests == [8, 8, 8]
    server.stop()


def test_a_server_that_is_gone(server):
    served = ask(server, retries=1)
    server.stop()
    with pytest.raises(InputError, match="The server did not answer. .*Connection refused"):
        served.answer(IMAGES)
    with pytest.raises(InputError, match="The server did not answer. .*Connection refused"):
        ServerPredictor(server.address, retries=1)


def test_an_error_that_does_not_pass_is_not_tried_again(server):
    served = ask(server)
    server.refusals = [Code.INTERNAL]
    with pytest.raises(
        InputError, match="The server gave no usable answer. .*told to. Check that it is a model server"
    ):
        served.answer(IMAGES)
    assert server.requests == [8]


def test_waits_grow(monkeypatch):
    """The first new try at once, then 2, 4, 8, 16 s and up to 1 s more, never more than 30 s; then an end."""
    monkeypatch.setattr(client_retry, "BACKOFF_S", 1.0)
    error = client_retry.ServerError("unavailable", "busy")
    retry, waits = client_retry.patience(7), []
    for _ in range(7):
        retry = retry.increment(error=error)
        waits.append(retry.get_backoff_time())
    lowest = np.array([0, 2, 4, 8, 16, 30, 30])
    assert (waits >= lowest).all() and (waits <= np.minimum(lowest + 1, 30)).all()
    assert len({wait % 1 for wait in waits[1:5]}) == 4  # jitter
    with pytest.raises(Exception, match="busy"):
        retry.increment(error=error)


def test_a_gateway_does_not_put_one_off_for_long():
    response = urllib3.HTTPResponse(status=503, headers={"Retry-After": "3600"})
    assert client_retry.patience(1).get_retry_after(response) == 60
