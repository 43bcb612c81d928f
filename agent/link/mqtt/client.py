"""What a paho client is made with: MQTT v5, confirmations by hand, no reconnecting of its own, sockets that don't wait or leak."""

import logging
import socket
import ssl
import threading
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode

from agent.contract import wire
from agent.link.mqtt.message import Verdict
from agent.link.tls import check_dates

PACKET_BYTES_MAX = 128 * 1024
"""Of what the broker may send here: twice an ack or a batch."""


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
            check_dates(self)
        except BaseException:
            self.close()
            raise


class Bounded(Client):
    """Leaves a broker that sends what it was told not to send: paho tells it the limits and would hold whatever comes."""

    def _sock_recv(self, bufsize: int) -> bytes:
        """`bufsize` is what the packet still lacks."""
        if bufsize > PACKET_BYTES_MAX:
            raise ConnectionError(f"the broker sends a packet of {bufsize} bytes; the most is {PACKET_BYTES_MAX}")
        return super()._sock_recv(bufsize)

    def _send_pubrec(self, mid: int) -> MQTTErrorCode:  # noqa: ARG002  paho's
        self._easy_log(LogLevel.MQTT_LOG_ERR, "the broker sends at QoS 2; nothing was subscribed to like that")
        return MQTTErrorCode.MQTT_ERR_PROTOCOL


def new_client(client_id: str, connect_s: float, faults: Faults) -> Client:
    """For one connection: it neither connects again nor confirms anything by itself. Its complaints go to `faults`."""
    client = Bounded(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, manual_ack=True, reconnect_on_failure=False)
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
