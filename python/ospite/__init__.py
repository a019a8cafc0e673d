# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of Ospite, by the API of the user's daemon; needs nothing but Python's own library.

    import ospite

    with ospite.Client() as client:
        web = client.create("web", memory="1G", cpus=2)
        web.set({"storage.ide0.0.medium": "web.qcow2"})
        web.start()
        for event in client.events():
            print(event["kind"], event.get("name"), event.get("state"))

Answers are the API's JSON as Python has it, described in api/openapi.yaml. Calls wait for the answer; a client belongs to one thread
at a time. What fails raises an `Error`.
"""
from ._client import Client, Machine, Medium
from ._errors import Error, Exists, Invalid, NotFound, TimedOut, Unauthorized, Unreachable, Unsupported, WrongState
from ._stream import Stream

__all__ = ["Client", "Error", "Exists", "Invalid", "Machine", "Medium", "NotFound", "Stream", "TimedOut", "Unauthorized", "Unreachable",
           "Unsupported", "WrongState"]
