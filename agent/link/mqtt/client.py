"""What a paho client is made with: MQTT v5, confirmations by hand, no reconnecting of its own, sockets that don't wait or leak."""

import logging
import socket
import ssl
import threading
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.contract import wire
from agent.link.mqtt.message import Verdict


class Welcome(NamedTuple):
    """The CONNACK."""

    verdict: Verdict
    session_present: bool
    receive_max: int
    """Messages the broker takes before it answers the first."""
    packet_bytes_max: int
    thread: threading.Thread
    """paho's."""


class Faults(logging.Handler):
    """Remembers paho's last complaint: the only place where it says why a connection broke."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


class Shaken(ssl.SSLSocket):
    """Closes itself if the handshake fails; paho would leave it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def new_client(client_id: str, connect_s: float, faults: Faults) -> Client:
    """For one connection: it neither connects again nor confirms anything by itself. Its complaints go to `faults`."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, manual_ack=True, reconnect_on_failure=False)
    client.max_inflight_messages = wire.RECEIVE_MAX
    client.connect_timeout = connect_s
    complaints = logging.Logger("paho", logging.ERROR)
    complaints.addHandler(faults)
    client.enable_logger(complaints)
    client.on_socket_open = _on_socket_open
    return client


def _on_socket_open(_client: Client, _user: Any, sock: Any) -> None:
    """A single record must not wait for a second one to share its packet."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
