# SPDX-License-Identifier: GPL-3.0-or-later
"""What calls raise: one class for each of the API's codes that programs tell apart."""
from __future__ import annotations


class Error(Exception):
    """A call failed: `code` for programs, `message` and `hint` for people."""

    def __init__(self, message: str, code: str = "failed", hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.code = code
        self.message = message
        self.hint = hint


class Invalid(Error):
    """An argument or a setting is wrong; a bad file is an Error of no class."""


class NotFound(Error):
    """There is no such machine, image or file."""


class WrongState(Error):
    """Not while the machine is as it is."""


class TimedOut(Error):
    """It did not happen in time; it still may."""


class Exists(Error):
    """The name or file is taken."""


class Unsupported(Error):
    """This version or this host cannot do it."""


class Unauthorized(Error):
    """The daemon elsewhere does not know our token."""


class Unreachable(Error):
    """There is no daemon, and none could be started; or it left."""


BY_CODE: dict[str, type[Error]] = {"invalid": Invalid, "not_found": NotFound, "wrong_state": WrongState, "timed_out": TimedOut,
                                   "exists": Exists, "unsupported": Unsupported, "unauthorized": Unauthorized}


def of_answer(answer: object) -> Error:
    """The error that an answer of the API describes."""
    said = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(said, dict):
        return Error("the daemon's answer is no answer")
    code = str(said.get("code", "failed"))
    return BY_CODE.get(code, Error)(str(said.get("message", "failed")), code, str(said.get("hint", "")))
