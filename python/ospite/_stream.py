# SPDX-License-Identifier: GPL-3.0-or-later
"""Events and consoles: the client's half of RFC 6455 (WebSocket), as far as the daemon needs it."""
from __future__ import annotations

import base64
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import TracebackType

from . import _errors

MESSAGE_MAX = 1 << 20
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Stream:
    """Messages from the daemon, and for consoles to it. Iterating gives them until the daemon ends the stream."""

    def __init__(self, connection: socket.socket, path: str, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self._buffer = b""
        self._message = b""
        key = base64.b64encode(os.urandom(16)).decode()
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}Upgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        head = self._head()
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise self._refusal(head)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream."""
        self._connection.close()

    def fileno(self) -> int:
        """For select(): readable when there is something, though perhaps no whole message. Over TLS something may have come before: ask receive(0) first."""
        return self._connection.fileno()

    def __iter__(self) -> Iterator[bytes]:
        while (message := self.receive()) is not None:
            yield message

    def receive(self, timeout: float | None = None) -> bytes | None:
        """The next message; None at the end. Raises TimedOut after `timeout` seconds, and loses nothing then."""
        self._connection.settimeout(timeout)
        while True:
            kind, final, data = self._frame()
            if kind == CLOSE:
                return None
            if kind == PING:
                self._send(PONG, data)
            elif kind in (0, TEXT, BINARY):
                self._message += data
                if len(self._message) > MESSAGE_MAX:
                    raise _errors.Error("the daemon sent too long a message")
                if final:
                    whole, self._message = self._message, b""
                    return whole

    def send(self, data: bytes) -> None:
        """Types on a console."""
        self._send(BINARY, data)

    # ---- frames ------------------------------------------------------------------------------

    def _frame(self) -> tuple[int, bool, bytes]:
        """(kind, whether it is the message's last, data); a closed connection is a CLOSE."""
        try:
            size, at = self._peek(2)[1] & 127, 2
            if size > 125:
                width = 2 if size == 126 else 8
                size, at = int.from_bytes(self._peek(2 + width)[2:2 + width], "big"), 2 + width
            if size > MESSAGE_MAX:
                raise _errors.Error("the daemon sent too long a message")
            frame = self._peek(at + size)[:at + size]
        except EOFError:
            return CLOSE, True, b""
        self._buffer = self._buffer[at + size:]
        return frame[0] & 15, bool(frame[0] & 128), frame[at:]

    def _peek(self, size: int) -> bytes:
        """The buffer with at least that many bytes, which stay in it."""
        while len(self._buffer) < size:
            try:
                more = self._connection.recv(65536)
            except (TimeoutError, socket.timeout, BlockingIOError, ssl.SSLWantReadError):
                raise _errors.TimedOut("nothing came in time", "timed_out") from None
            except ConnectionResetError:
                more = b""
            if not more:
                raise EOFError
            self._buffer += more
        return self._buffer

    def _send(self, kind: int, data: bytes) -> None:
        mask = os.urandom(4)
        size = bytes([128 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big") if len(data) < 65536 else \
            b"\xff" + len(data).to_bytes(8, "big")
        self._connection.settimeout(None)
        try:
            self._connection.sendall(bytes([128 | kind]) + size + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data)))
        except OSError as reason:
            raise _errors.Unreachable(f"the daemon has ended the stream: {reason}", "unreachable") from reason

    # ---- the beginning -----------------------------------------------------------------------

    def _head(self) -> bytes:
        try:
            while b"\r\n\r\n" not in self._buffer:
                self._peek(len(self._buffer) + 1)
        except EOFError:
            raise _errors.Unreachable("the daemon opens no WebSocket", "unreachable") from None
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head

    def _refusal(self, head: bytes) -> _errors.Error:
        fields = dict(line.split(": ", 1) for line in head.decode(errors="replace").split("\r\n")[1:] if ": " in line)
        try:
            return _errors.of_answer(json.loads(self._peek(int(fields.get("Content-Length", "0")))))
        except (ValueError, EOFError):
            return _errors.Error("the daemon opens no WebSocket")
        finally:
            self.close()
