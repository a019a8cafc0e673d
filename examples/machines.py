#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints all machines and their states; with a machine's name what happens until it is off."""
import sys

import ospite

with ospite.Client() as client:
    if len(sys.argv) == 1:
        for machine in client.list():
            print(machine["name"], "is", machine["state"])
    for event in client.events() if len(sys.argv) > 1 else ():
        print(event["kind"], event.get("name", ""), event.get("state", ""), flush=True)
        if (event.get("name"), event.get("state")) == (sys.argv[1], "off"):
            break
