# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a daemon is: at a Unix socket of this host, or elsewhere over TLS, known by its certificate and knowing us by its token."""
from __future__ import annotations

import hashlib
import hmac
import os
import socket
import ssl
import stat
from collections.abc import Mapping
from typing import Union
from urllib.parse import urlsplit

from . import _errors

CONNECT_SECONDS = 30
TOKEN_MAX = 4096


def tune(connection: socket.socket) -> socket.socket:
    """Answers may take long; a peer that is gone without a word is noticed all the same."""
    connection.settimeout(None)
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


class Local:
    """A Unix socket."""

    headers: Mapping[str, str] = {}

    def __init__(self, path: str) -> None:
        self.path = path

    def __str__(self) -> str:
        return self.path

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return tune(connection)


class Remote:
    """https://HOST:PORT. With a fingerprint that certificate is trusted and no other, else what this host trusts."""

    def __init__(self, url: str, token: str, fingerprint: str | None) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme != "https" or not parts.hostname or not port or parts.path.strip("/") or parts.query or parts.username:
            raise _errors.Unreachable(f"cannot connect to '{url}'", "unreachable", "use https://HOST:PORT")
        self._host, self._port, self._fingerprint = parts.hostname, port, fingerprint
        self._context = ssl.create_default_context()
        if fingerprint:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE  # the fingerprint is compared, before anything is sent
        self.headers = {"Authorization": f"Bearer {token}"}

    def __str__(self) -> str:
        return f"https://{self._host}:{self._port}"

    def connect(self) -> socket.socket:
        plain = socket.create_connection((self._host, self._port), CONNECT_SECONDS)
        try:
            connection = self._context.wrap_socket(plain, server_hostname=self._host)
        except OSError:
            plain.close()
            raise
        shown = "sha256:" + hashlib.sha256(connection.getpeercert(True) or b"").hexdigest()
        if self._fingerprint and not hmac.compare_digest(shown, self._fingerprint.lower()):
            connection.close()
            raise _errors.Unreachable(f"the daemon at '{self}' shows another certificate, {shown}", "unreachable",
                                      "compare the fingerprint with what 'ospited --make-certificate' says there")
        return tune(connection)


Place = Union[Local, Remote]


def read_token(path: str) -> str:
    """A file that others may read is no secret."""
    try:
        with open(path, encoding="ascii") as file:
            others = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077
            token = file.read(TOKEN_MAX).strip()
    except (OSError, ValueError) as reason:
        raise _errors.Unreachable(f"cannot read the token in '{path}': {reason}", "unreachable") from reason
    if others or not token or any(c.isspace() for c in token):
        raise _errors.Unreachable(f"cannot use the token in '{path}'", "unreachable",
                                  "let nobody else read it (chmod 600)" if others else "it holds no single word")
    return token


def from_environment() -> Remote | None:
    """As the command line has it: $OSPITE_CONNECT, $OSPITE_TOKEN_FILE, $OSPITE_FINGERPRINT."""
    url, file = os.environ.get("OSPITE_CONNECT"), os.environ.get("OSPITE_TOKEN_FILE")
    if not url:
        return None
    if not file:
        raise _errors.Unreachable(f"cannot connect to '{url}' without the daemon's token", "unreachable", "name its file in $OSPITE_TOKEN_FILE")
    return Remote(url, read_token(file), os.environ.get("OSPITE_FINGERPRINT"))
