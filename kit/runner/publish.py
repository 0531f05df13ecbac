"""Who hears of events: stdout in JSON lines, an MQTT broker, and whoever connects to a WebSocket."""

from __future__ import annotations

import errno
import json
import logging
import queue
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from boards.errors import UserError

QUEUED = 1000  # events that wait for a broker or a slow listener; older ones go first
PORTS = {"mqtt": 1883, "mqtts": 8883}
TOPIC = "earkit/events"
LONGEST_TOPIC = 1000  # bytes
GREETING = 5  # seconds in which who connects must say that it speaks WebSocket

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


@dataclass(frozen=True)
class Broker:
    """Where an MQTT broker is, and what it is told."""

    host: str
    port: int
    tls: bool
    user: str
    password: str
    topic: str


def broker(address: str) -> Broker:
    """Return the broker at `mqtt[s]://[user:password@]host[:port][/topic]`; UserError: that is none."""
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:  # an odd port, a bracket alone, labels of a name that are too long
        host, port = "", 0
    if not host or parts.scheme not in PORTS or port == 0:
        raise UserError(f"{address!r} is no broker: mqtt://host:1883/topic, or mqtts:// for TLS")
    topic = parts.path.strip("/") or TOPIC
    if {"#", "+"} & {*address} or len(topic.encode()) > LONGEST_TOPIC:
        raise UserError(f"{address!r}: no topic to tell events under: leave out # and +, and be short")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Broker(host, port or PORTS[parts.scheme], parts.scheme == "mqtts", user, password, topic)


class Mqtt:
    """An MQTT broker, which may come and go; stderr hears of it when it does.

    Raises:
        UserError: the address is none.
    """

    def __init__(self, address: str) -> None:
        there = broker(address)
        from paho.mqtt import client

        self._topic, self._said = there.topic, ""
        self._client = client.Client(client.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(QUEUED)
        self._client.reconnect_delay_set(1, 30)
        if there.user:
            self._client.username_pw_set(there.user, there.password or None)
        if there.tls:
            self._client.tls_set()
        name = f"broker {there.host}:{there.port}"
        waits = f"the last {QUEUED:,} events wait for it"
        self._client.on_connect_fail = lambda *_: self._say(f"{name} cannot be reached: {waits}")
        self._client.on_connect = lambda _c, _d, _f, reason, _p: self._say(
            f"{name} turns us away ({reason}): look at user and password; {waits}"
            if reason.is_failure
            else ""
        )
        self._client.connect_async(there.host, there.port)
        self._client.loop_start()
        self._last: Any = None

    def _say(self, line: str) -> None:
        """Tell of a change for the worse, once."""
        if line and line != self._said:
            print(line, file=sys.stderr, flush=True)
        self._said = line

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


def place(address: str) -> tuple[str, int]:
    """Return host and port of `[host:]port`, this machine's own without a host; UserError: that is none."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536:
        raise UserError(f"{address!r} is no address: give a port, or host:port (0.0.0.0:8765 for all)")
    return host.strip("[]") or "127.0.0.1", int(port)


class WebSocket:
    """A WebSocket at an address as of `place`; each listener gets all events.

    Raises:
        UserError: the address is none, or its port is taken.
    """

    def __init__(self, address: str) -> None:
        host, port = place(address)
        from websockets.sync import server

        self._listeners: set[queue.Queue[str]] = set()
        self._connections: set[Any] = set()
        self._lock = threading.Lock()
        try:
            self._server = server.serve(
                self._serve, host, port, open_timeout=GREETING, close_timeout=1, logger=_silent()
            )
        except (OSError, UnicodeError) as error:
            taken = "it is taken" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
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
        """Hang up, on those as well who read nothing."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._thread.join()

    def _serve(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        waiting: queue.Queue[str] = queue.Queue(QUEUED)
        with self._lock:
            self._listeners.add(waiting)
            self._connections.add(connection)
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
                self._connections.discard(connection)


def _silent() -> logging.Logger:
    """Return a log that keeps to itself who connected and spoke something else."""
    log = logging.getLogger(f"{__name__}.websocket")
    log.disabled = True
    return log
