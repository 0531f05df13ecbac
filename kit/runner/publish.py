"""Who hears of events: stdout in JSON lines, an MQTT broker, and whoever connects to a WebSocket."""

from __future__ import annotations

import errno
import json
import queue
import threading
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from boards.errors import UserError

QUEUED = 1000  # events that wait for a broker or a slow listener; older ones go first
PORTS = {"mqtt": 1883, "mqtts": 8883}
TOPIC = "earkit/events"

Event = dict[str, Any]


class Sink(Protocol):
    """Somebody who hears of events."""

    def send(self, event: Event) -> None:
        """Tell of an event; never waits for long."""

    def close(self) -> None:
        """Tell what is left and stop."""


class Lines:
    """JSON lines on stdout."""

    def send(self, event: Event) -> None:
        """Print the event."""
        print(json.dumps(event, ensure_ascii=False), flush=True)

    def close(self) -> None:
        """Do nothing: each line is out."""


class Mqtt:
    """An MQTT broker, `mqtt[s]://[user:password@]host[:port][/topic]`; it may come and go.

    Raises:
        UserError: the address is none.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in PORTS or not parts.hostname:
            raise UserError(f"{address!r} is no broker: mqtt://host:1883/topic, or mqtts:// for TLS")
        from paho.mqtt import client

        self._topic = parts.path.strip("/") or TOPIC
        self._client = client.Client(client.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(QUEUED)
        self._client.reconnect_delay_set(1, 30)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or "") or None)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.connect_async(parts.hostname, parts.port or PORTS[parts.scheme])
        self._client.loop_start()
        self._last: Any = None

    def send(self, event: Event) -> None:
        """Publish the event, once it can."""
        self._last = self._client.publish(self._topic, json.dumps(event, ensure_ascii=False), qos=1)

    def close(self) -> None:
        """Wait a little for the broker to have the last event, and leave it."""
        if self._last is not None and self._client.is_connected():
            with suppress(ValueError, RuntimeError):  # the queue was full, or it went away
                self._last.wait_for_publish(5)
        self._client.disconnect()
        self._client.loop_stop()


class WebSocket:
    """A WebSocket at `[host:]port` (of this machine alone without a host); each listener gets all events.

    Raises:
        UserError: the address is none, or its port is taken.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise UserError(f"{address!r} is no address: give a port, or host:port (0.0.0.0:8765 for all)")
        from websockets.sync import server

        self._listeners: set[queue.Queue[str]] = set()
        self._lock = threading.Lock()
        try:
            self._server = server.serve(self._serve, host.strip("[]") or "127.0.0.1", int(port))
        except OSError as error:
            taken = "it is taken" if error.errno == errno.EADDRINUSE else str(error)
            raise UserError(f"{address}: {taken}: choose another port, or end who has it") from None
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Return where it listens."""
        host, port = self._server.socket.getsockname()[:2]
        return host, port

    def send(self, event: Event) -> None:
        """Put the event into the queue of each listener; who is too slow loses the oldest."""
        text = json.dumps(event, ensure_ascii=False)
        with self._lock:
            for waiting in self._listeners:
                if waiting.full():
                    with suppress(queue.Empty):
                        waiting.get_nowait()
                waiting.put_nowait(text)

    def close(self) -> None:
        """Hang up."""
        self._server.shutdown()
        self._thread.join()

    def _serve(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        waiting: queue.Queue[str] = queue.Queue(QUEUED)
        with self._lock:
            self._listeners.add(waiting)
        try:
            while True:
                try:
                    connection.send(waiting.get(timeout=1))
                except queue.Empty:
                    connection.ping()
        except ConnectionClosed:
            pass
        finally:
            with self._lock:
                self._listeners.discard(waiting)
