# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection, machines and images."""
from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, List, Union
from urllib.parse import quote, urlencode

from . import _errors
from ._place import Local, Place, Remote, from_environment, read_token
from ._stream import Stream

Json = dict[str, Any]
Value = Union[str, int, float, bool, None]
PathLike = Union[str, "os.PathLike[str]"]
START_ATTEMPTS = 5


def _socket_path() -> str:
    """Where the daemon's socket is (as user_folders.c has it)."""
    given, usual = os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}"
    if given:
        return f"{given}/ospite/api"
    return f"{usual}/ospite/api" if os.path.isdir(usual) else f"/tmp/ospite-{os.getuid()}/api"


def _start_daemon() -> None:
    """Returns when a daemon serves."""
    program = os.environ.get("OSPITED") or shutil.which("ospited")
    if not program:
        raise _errors.Unreachable("there is no ospited in the path", "unreachable", "install it, or name it in $OSPITED")
    try:
        # Not waited for: it lives on, and is nobody's child when this program ends.
        daemon = subprocess.Popen([program, "--background"], stdin=subprocess.DEVNULL,  # pylint: disable=consider-using-with
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as reason:
        raise _errors.Unreachable(f"cannot start the daemon: {reason}", "unreachable") from reason
    assert daemon.stdout and daemon.stderr
    with daemon.stdout, daemon.stderr:
        if daemon.stdout.readline() == b"ready\n":
            return
        complaint = daemon.stderr.read(4096).decode(errors="replace").strip()
    daemon.wait()
    raise _errors.Unreachable(f"cannot start the daemon: {complaint or 'it ended at once'}", "unreachable")


def _absolute(path: PathLike) -> str:
    return os.path.abspath(os.fspath(path))


class Client:
    """A connection to the user's daemon, which is started when there is none: `ospited` of $OSPITED, or of the path.

    Where $OSPITE_CONNECT is https://HOST:PORT, it is the daemon there, with $OSPITE_TOKEN_FILE and $OSPITE_FINGERPRINT; Client.remote() says
    so in the program. Names of files are then of that host.
    """

    def __init__(self, path: PathLike | None = None) -> None:
        """`path`: the API's socket, by default the user's own daemon's; another one is not started."""
        elsewhere = None if path else from_environment()
        self._place: Place = elsewhere or Local(os.fspath(path) if path else _socket_path())
        self._can_start = not path and not elsewhere
        self._connect().close()

    @classmethod
    def remote(cls, url: str, *, token_file: PathLike, fingerprint: str | None = None) -> Client:
        """The daemon at https://HOST:PORT. `fingerprint`: of its certificate, as `ospited --make-certificate` prints it."""
        client = cls.__new__(cls)
        client._place = Remote(url, read_token(os.fspath(token_file)), fingerprint)
        client._can_start = False
        client._connect().close()
        return client

    def _connect(self) -> socket.socket:
        """A connection, also where the daemon has left: then to another."""
        for _ in range(START_ATTEMPTS):
            try:
                return self._place.connect()
            except OSError:
                if not self._can_start:
                    break
            _start_daemon()
        try:
            return self._place.connect()
        except OSError as reason:
            raise _errors.Unreachable(f"cannot reach the daemon at '{self._place}': {reason}", "unreachable") from reason

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Each call has a connection of its own; there is nothing to end."""

    # ---- calls -------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None) -> Json:
        """Any operation of the API: call("GET", "/version")."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/xml" if isinstance(body, bytes) else "application/json"
        answer: Json = json.loads(self._send(method, path, data, kind))
        return answer

    def _send(self, method: str, path: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        try:
            status, text = self._ask(method, path, data, kind)
        except (OSError, http.client.HTTPException) as reason:
            if method != "GET":
                raise _errors.Unreachable(f"the daemon has gone without an answer ({reason}); it may have done what it was asked", "unreachable",
                                          "look before you ask again") from reason
            try:  # what changes nothing is asked again
                status, text = self._ask(method, path, data, kind)
            except (OSError, http.client.HTTPException) as again:
                raise _errors.Unreachable(f"the daemon did not answer: {again}", "unreachable") from again
        if status < 300:
            return text
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        raise _errors.of_answer(said)

    def _ask(self, method: str, path: str, data: bytes | None, kind: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self._connect()
        try:
            connection.request(method, f"/v1{path}", data, {**self._place.headers, **({"Content-Type": kind} if data is not None else {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def version(self) -> Json:
        """`version`, `api` and the daemon's `pid`."""
        return self.call("GET", "/version")

    def _stream(self, path: str) -> Stream:
        return Stream(self._connect(), f"/v1{path}", self._place.headers)

    def events(self) -> Iterator[Json]:
        """What happens, from this call on, until the daemon leaves; the first has the kind "hello"."""
        stream = self._stream("/events")

        def follow() -> Iterator[Json]:
            with stream:
                for message in stream:
                    yield json.loads(message)
        return follow()

    # ---- machines ----------------------------------------------------------------------------

    def list(self) -> List[Json]:
        """All machines, sorted by name: `name`, `uuid`, `state`, `memory`, …"""
        machines: List[Json] = self.call("GET", "/vms")["vms"]
        return machines

    def autostart(self) -> List[Json]:
        """Starts the machines with `autostart.enabled`, each after its delay; returns those, without waiting."""
        machines: List[Json] = self.call("POST", "/autostart")["vms"]
        return machines

    def machine(self, name: str) -> Machine:
        """The machine of that name or UUID; whether there is one shows when something is done with it."""
        return Machine(self, name)

    def create(self, name: str, settings: Mapping[str, Value] | None = None, *, folder: PathLike | None = None, **more: Value) -> Machine:
        """Makes a machine. Settings have dotted names; those without a dot may be given as arguments: memory="1G"."""
        body: Json = {"name": name, "settings": {**(settings or {}), **more}}
        if folder is not None:
            body["folder"] = _absolute(folder)
        return self._made(body)

    def register(self, file: PathLike) -> Machine:
        """Makes a machine's file (NAME.ospite) known."""
        return self._made({"register": _absolute(file)})

    def import_machine(self, file: PathLike, *, name: str | None = None, folder: PathLike | None = None) -> tuple[Machine, List[str]]:
        """Makes a machine of a VirtualBox (.vbox) or libvirt (XML) file; also returns what has no counterpart."""
        body: Json = {"import": _absolute(file)}
        if name is not None:
            body["name"] = name
        if folder is not None:
            body["folder"] = _absolute(folder)
        answer = self.call("POST", "/vms", body)
        return Machine(self, answer["vm"]["uuid"]), answer["report"]

    def _made(self, body: Json) -> Machine:
        return Machine(self, self.call("POST", "/vms", body)["vm"]["uuid"])

    # ---- images ------------------------------------------------------------------------------

    def list_media(self) -> List[Json]:
        """All known images, and what uses each."""
        media: List[Json] = self.call("GET", "/media")["media"]
        return media

    def medium(self, name: PathLike) -> Medium:
        """The image of that UUID or file."""
        return Medium(self, name)

    def add_medium(self, file: PathLike, *, kind: str | None = None, format: str | None = None, mode: str | None = None) -> Medium:
        """Makes an image known, and those it builds on."""
        given = {"kind": kind, "format": format, "mode": mode}
        answer = self.call("POST", "/media", {"path": _absolute(file), **{k: v for k, v in given.items() if v is not None}})
        return Medium(self, answer["medium"]["uuid"])


class Machine:
    """A machine, by its name or UUID. Methods that do something return it as it is then ("Vm" in the description)."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        return f"Machine({self.name!r})"

    @property
    def _path(self) -> str:
        return f"/vms/{quote(self.name, safe='')}"

    def _act(self, verb: str, body: Json | None = None) -> Json:
        vm: Json = self._client.call("POST", f"{self._path}/{verb}", body)["vm"]
        return vm

    def show(self) -> Json:
        """The machine, with all settings in `config`."""
        vm: Json = self._client.call("GET", self._path)["vm"]
        return vm

    def stats(self) -> Json | None:
        """What its engine has counted (docs/debugging.md); None unless it runs."""
        stats: Json | None = self._client.call("GET", f"{self._path}?stats=true")["vm"]["stats"]
        return stats

    @property
    def state(self) -> str:
        """"off", "starting", "running", "paused", "crashed" or "inaccessible"."""
        return str(self.show()["state"])

    def set(self, settings: Mapping[str, Value] | None = None, **more: Value) -> dict[str, str]:
        """Changes settings, all or none; returns for each that changed when it counts, "now" or "restart". None is the default."""
        changes = self._client.call("PATCH", self._path, {"settings": {**(settings or {}), **more}})["changes"]
        return {change["name"]: change["when"] for change in changes}

    def start(self) -> Json:
        """Starts it; the guest runs when this returns."""
        return self._act("start")

    def stop(self, timeout: int | None = 60) -> Json:
        """Presses the power button, and waits for that many seconds until it is off; None: does not wait."""
        pressed = self._act("stop")
        return pressed if timeout is None else self.wait("off", timeout)

    def poweroff(self) -> Json:
        """Pulls the plug."""
        return self._act("poweroff")

    def reset(self) -> Json:
        """Presses the reset button."""
        return self._act("reset")

    def pause(self) -> Json:
        """Stops its time."""
        return self._act("pause")

    def resume(self) -> Json:
        """Lets it go on."""
        return self._act("resume")

    def wait(self, state: str = "off", timeout: int = 60) -> Json:
        """Waits until it is in a state; raises TimedOut when it is not in that many seconds."""
        vm: Json = self._client.call("GET", f"{self._path}/wait?{urlencode({'for': state, 'timeout': timeout})}")["vm"]
        return vm

    def clone(self, name: str, *, folder: PathLike | None = None, linked: bool = False) -> Machine:
        """A copy with images of its own, or, linked, with differencing images on the same ones."""
        body: Json = {"name": name, "linked": linked}
        if folder:
            body["folder"] = _absolute(folder)
        return Machine(self._client, self._client.call("POST", f"{self._path}/clone", body)["vm"]["uuid"])

    def move(self, folder: PathLike) -> Json:
        """Moves its folder into another one."""
        return self._act("move", {"folder": _absolute(folder)})

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshots(self) -> List[Json]:
        """Its snapshots, parents before their children."""
        found: List[Json] = self._client.call("GET", f"{self._path}/snapshots")["snapshots"]
        return found

    def take_snapshot(self, name: str, description: str | None = None) -> Json:
        """Keeps its settings and disks as they are now; it must be off."""
        body = {"name": name} if description is None else {"name": name, "description": description}
        snapshot: Json = self._client.call("POST", f"{self._path}/snapshots", body)["snapshot"]
        return snapshot

    def _snapshot(self, snapshot: str) -> str:
        return f"{self._path}/snapshots/{quote(snapshot, safe='')}"

    def show_snapshot(self, snapshot: str) -> Json:
        """A snapshot (its name or UUID), with the settings of that time in `config`."""
        found: Json = self._client.call("GET", self._snapshot(snapshot))["snapshot"]
        return found

    def set_snapshot(self, snapshot: str, *, name: str | None = None, description: str | None = None) -> Json:
        """Changes a snapshot's name or description."""
        given = {"name": name, "description": description}
        found: Json = self._client.call("PATCH", self._snapshot(snapshot), {k: v for k, v in given.items() if v is not None})["snapshot"]
        return found

    def restore_snapshot(self, snapshot: str) -> Json:
        """Makes it what it was in a snapshot; what it has been since is lost."""
        vm: Json = self._client.call("POST", f"{self._snapshot(snapshot)}/restore")["vm"]
        return vm

    def delete_snapshot(self, snapshot: str) -> None:
        """Deletes a snapshot; it and its other snapshots stay as they are."""
        self._client.call("DELETE", self._snapshot(snapshot))

    def delete(self, *, disks: bool = False, unregister: bool = False) -> List[str]:
        """Deletes it, with `disks` also those in its folder, or only forgets it; returns the files that are still there."""
        if disks and unregister:
            raise ValueError("disks and unregister contradict each other")
        mode = "all" if disks else "unregister" if unregister else "keep-disks"
        kept: List[str] = self._client.call("DELETE", f"{self._path}?mode={mode}")["kept"]
        return kept

    def log(self, lines: int = 100) -> List[str]:
        """The end of the log of its last run."""
        found: List[str] = self._client.call("GET", f"{self._path}/log?lines={lines}")["lines"]
        return found

    def screen(self) -> List[str]:
        """The characters on its screen; none in a graphics mode."""
        found: List[str] = self._client.call("GET", f"{self._path}/screen")["lines"]
        return found

    def type(self, text: str) -> None:
        """Types on its (US) keyboard; a line's end is Enter."""
        self._act("keys", {"text": text})

    def console(self) -> Stream:
        """Its serial port: what it wrote lately, then what it writes; send() types there."""
        return self._client._stream(f"{self._path}/console")

    def read_file(self) -> str:
        """Its file, NAME.ospite."""
        return self._client._send("GET", f"{self._path}/config").decode()

    def write_file(self, xml: str) -> Json:
        """Replaces its file, which is checked first."""
        vm: Json = self._client.call("PUT", f"{self._path}/config", xml.encode())["vm"]
        return vm


class Medium:
    """An image, by its UUID or file. Methods return it as it is then ("Medium" in the description)."""

    def __init__(self, client: Client, name: PathLike) -> None:
        self._client = client
        text = os.fspath(name)
        self.name = text if "/" not in text and not Path(text).exists() else _absolute(text)

    def __repr__(self) -> str:
        return f"Medium({self.name!r})"

    def _call(self, method: str, rest: str = "", body: Json | None = None) -> Json:
        return self._client.call(method, f"/media/{quote(self.name, safe='')}{rest}", body)

    def _medium(self, method: str, rest: str = "", body: Json | None = None) -> Json:
        medium: Json = self._call(method, rest, body)["medium"]
        return medium

    def show(self) -> Json:
        """The image."""
        return self._medium("GET")

    def set_mode(self, mode: str) -> Json:
        """Says how machines may use it: "normal", "readonly", "immutable", …"""
        return self._medium("PATCH", "", {"mode": mode})

    def release(self) -> Json:
        """Takes it out of all machines that are off."""
        return self._medium("POST", "/release")

    def refresh(self) -> Json:
        """Looks at its file again."""
        return self._medium("POST", "/refresh")

    def move(self, file: PathLike) -> Json:
        """Moves its file, and tells the machines that use it."""
        return self._medium("POST", "/move", {"path": _absolute(file)})

    def remove(self, *, delete: bool = False) -> None:
        """Forgets it, when no machine uses it; with `delete` its file goes, too."""
        self._call("DELETE", "?delete=true" if delete else "")
