"""Where the server listens."""

import socket

import pytest

from memedit.errors import InputError
from memedit.server.runner import check_host, listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_pieces_of_a_stream_are_sent_at_once(host: str) -> None:
    """Connections taken from the listener do not wait to fill a packet (Nagle's algorithm is off)."""
    try:
        listener = listen(host, 0)
    except InputError:
        pytest.skip(f"this machine has no {host}")
    with listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_an_address_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)


def test_without_keys_only_loopback_is_listened_on() -> None:
    check_host("127.0.0.1", auth=False)
    check_host("0.0.0.0", auth=True)
    with pytest.raises(InputError, match="loopback"):
        check_host("0.0.0.0", auth=False)
