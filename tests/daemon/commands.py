#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of commands against all that is made of it, as TAP: manual pages, completions, --json and the API's description."""
import json
import os
import re
import subprocess
import sys

import jsonschema

from daemon import BUILD, DESCRIPTION, OSPITE, PATIENCE, Daemon, check, expect, resolve, run

SMALL = ("memory=8M", "engine=interp")
# Operations that no command stands for: it needs them inside, or asks this host itself.
INSIDE = {"getVersion", "getDoctor", "getVmConfig"}


def pages(d):
    return d.run("manual").splitlines()


def operation_of(d, page):
    match = re.search(r"^\.Em (\w+)\.$", d.run("manual", *page.split()), re.M)
    return match and match[1]


def schema_of(operation):
    """The schema of what an operation answers when it succeeds; None for streams."""
    for item in DESCRIPTION["paths"].values():
        for described in item.values():
            if isinstance(described, dict) and described.get("operationId") == operation:
                good = resolve(next(answer for status, answer in described["responses"].items() if status != "default"))
                return {"components": DESCRIPTION["components"], **good["content"]["application/json"]["schema"]} if "content" in good else None
    check(False, f"the description has no operation {operation}")
    return None


def operations():
    """Every operation of the description has a command, and every command's operation is described."""
    with Daemon() as d:
        named = {operation_of(d, page) for page in pages(d)} - {None}
        described = {o["operationId"] for item in DESCRIPTION["paths"].values() for o in item.values() if isinstance(o, dict) and "operationId" in o}
        expect(described - named, INSIDE, "operations without a command")
        expect(named - described, set(), "operations that are not described")


def json_answers():
    """Every command's --json is its operation's answer, by the description's schema."""
    with Daemon() as d:
        disk, box = d.path / "a.qcow2", d.path / "web.xml"
        subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", disk, "8M"], check=True, capture_output=True)
        box.write_text("<domain type='kvm'><name>web</name><memory unit='MiB'>32</memory><vcpu>1</vcpu></domain>")
        d.environment["EDITOR"] = "true"
        left = set(pages(d))

        def answer(noun, verb, *words, schema=None):
            left.discard(f"{noun} {verb}" if verb else noun)
            said = json.loads(d.run(*filter(None, (noun, verb)), *words, "--json"))
            operation = operation_of(d, f"{noun} {verb or ''}".strip())
            if schema or operation:
                jsonschema.Draft202012Validator(schema_of(schema or operation)).validate(said)
            return said

        answer("vm", "create", "one", *SMALL)
        answer("vm", "list")
        answer("vm", "list", "--running")
        answer("vm", "show", "one")
        answer("vm", "set", "one", "cpus=2")
        check(answer("vm", "settings", "system")["settings"], "there are no settings")
        answer("vm", "edit", "one")
        answer("vm", "move", "one", d.path / "elsewhere")
        answer("vm", "clone", "one", "clone")
        answer("snapshot", "take", "one", "first", "--description", "x")
        answer("snapshot", "list", "one")
        answer("snapshot", "show", "one", "first")
        answer("snapshot", "set", "one", "first", "--name", "a")
        answer("snapshot", "restore", "one")
        expect(answer("snapshot", "delete", "one", "a"), {}, "answer")
        answer("vm", "autostart")
        answer("vm", "autostart", "one", "on", schema="setVm")
        for verb in ("start", "pause", "resume", "reset"):
            answer("vm", verb, "one")
        answer("vm", "wait", "one", "--for", "running")
        answer("vm", "screen", "one")
        answer("vm", "type", "one", "a")
        answer("vm", "stop", "one", "--no-wait")
        answer("vm", "log", "one")
        answer("vm", "poweroff", "one")
        file = d.vm("one")["file"]
        answer("vm", "delete", "one", "--unregister")
        answer("vm", "register", file)
        answer("vm", "import", box)
        for verb, words in (("add", ()), ("show", ()), ("set", ("immutable",)), ("refresh", ()), ("release", ())):
            answer("media", verb, disk, *words)
        answer("media", "list")
        answer("media", "move", disk, d.path / "b.qcow2")
        expect(answer("media", "remove", d.path / "b.qcow2"), {}, "answer")
        answer("doctor", None)
        answer("version", None)
        expect(left, {"vm console", "events", "debug", "completion", "manual"}, "commands that were not tried")


def manuals():
    """Each command has a page that groff takes without a warning, with its options; the build has them all as files."""
    with Daemon() as d:
        files = {path.stem: path.read_text(encoding="utf-8") for path in (BUILD / "man1").glob("*.1")}
        expect(set(files), {"ospite-" + page.replace(" ", "-") for page in pages(d)}, "files")
        for page in pages(d):
            text = d.run("manual", *page.split())
            expect(files["ospite-" + page.replace(" ", "-")], text, f"the file of {page}")
            result = subprocess.run(["groff", "-mandoc", "-Tutf8", "-ww", "-z"], input=text, capture_output=True, text=True, check=False)
            expect((result.returncode, result.stderr), (0, ""), f"groff on the page of {page}")
            for option in re.findall(r"^  --([a-z-]+)", d.run(*page.split(), "--help"), re.M):
                check(f"It Fl Fl {option}" in text, f"--{option} is not in the page of {page}")
            if "SETTING" in text:
                check(".Xr ospite-settings 7" in text, f"the page of {page} does not say where settings are")
        shown = subprocess.run(["groff", "-mandoc", "-Tascii"], input=files["ospite-vm-type"], capture_output=True, text=True, check=True).stdout
        check("\\n is Enter" in shown, "a backslash is lost")


def examples():
    """Each page has examples, which this shell and this version take."""
    with Daemon() as d:
        environment = {**d.environment, "PATH": f"{BUILD}:{os.environ['PATH']}", "HOME": str(d.path), "EDITOR": "true"}
        for page in pages(d):
            text = d.run("manual", *page.split())
            lines = [line.replace("\\e", "\\") for line in re.findall(r"^\.Bd -literal.*\n(.*)\n\.Ed$", text[text.index(".Sh EXAMPLES"):], re.M)]
            check(lines, f"no example in the page of {page}")
            if page != "vm create":
                d.run("vm", "create", "web", "memory=8M", "engine=none")
            for line in lines:
                check(line.startswith(f"ospite {page}"), f"{line} in the page of {page}")
                # Streams have no end of their own (124).
                result = subprocess.run(["timeout", "2" if page == "events" else "300", "sh", "-c", line], cwd=d.path, env=environment, capture_output=True,
                                        text=True, stdin=subprocess.DEVNULL, check=False)
                check(result.returncode in (0, 1, 3, 4) or (page == "vm wait" and result.returncode == 5) or (page == "events" and result.returncode == 124),
                      f"{line}: status {result.returncode}: {result.stderr}")
            d.forget_all()


def wanted(d):
    """(words so far, what must be offered) for every noun, verb and option."""
    all_pages = [page.split() for page in pages(d)]
    yield ["ospite"], {page[0] for page in all_pages}
    for noun in {page[0] for page in all_pages if len(page) == 2}:
        yield ["ospite", noun], {page[1] for page in all_pages if page[0] == noun}
    for page in all_pages:
        options = set(re.findall(r"^  (--[a-z-]+)", d.run(*page, "--help"), re.M))
        yield ["ospite", *page], options


def names_given(d):
    """(words so far as they are typed, whole names that must be offered) of machines, snapshots, images, settings and disk commands."""
    for machine in ("web", "My web"):
        d.run("vm", "create", machine, *SMALL)
    d.run("snapshot", "take", "My web", 'clean "1"')
    disk = d.path / "a b.qcow2"
    d.run("disk", "create", "-f", "qcow2", disk, "1M")
    d.run("media", "add", disk)
    return [(["ospite", "vm", "start"], {"web", "My web"}, set()),
            (["ospite", "vm", "stop", "--timeout", "5"], {"web", "My web"}, set()),
            (["ospite", "debug"], {"web", "My web"}, set()),
            (["ospite", "vm", "start", "web"], set(), {"web"}),
            (["ospite", "vm", "import"], set(), {"web"}),
            (["ospite", "vm", "stop", "--timeout"], set(), {"web"}),
            (["ospite", "vm", "set", "web"], {"system.memory="}, {"web"}),
            (["ospite", "vm", "set", "web", "cpus=2"], {"system.memory="}, {"web"}),
            (["ospite", "snapshot", "restore", "My\\ web"], {'clean "1"'}, {"web"}),
            (["ospite", "snapshot", "delete", "web"], set(), {'clean "1"'}),
            (["ospite", "media", "show"], {str(disk)}, {"web"}),
            (["ospite", "media", "remove", "--delete"], {str(disk)}, {"web"}),
            (["ospite", "disk"], {"create", "resize"}, {"COMMAND", "web"})]


def check_offers(shell, words, offers, never, said):
    check(offers <= said, f"{shell}: {' '.join(words)}: {offers - said} not in {said}")
    check(not never & said, f"{shell}: {' '.join(words)}: {never & said} in {said}")


def bash_and_zsh():
    """bash and zsh offer every noun, verb and option, and names of machines, snapshots, images and settings, which may have spaces."""
    starts = {"bash": "", "zsh": "autoload -U compinit; compinit -u -D; "}
    with Daemon() as d:
        tries = [*((words, offers, set()) for words, offers in wanted(d)), *names_given(d)]
        environment = {**d.environment, "PATH": f"{BUILD}:{os.environ['PATH']}"}
        for shell, start in starts.items():
            script = d.path / f"completion.{shell}"
            script.write_text(d.run("completion", shell))
            lines = [start + f"source {script}", "[ -z \"$ZSH_VERSION\" ] || setopt ksharrays shwordsplit"]
            for words, _, _ in tries:
                quoted = " ".join(f"'{word}'" for word in words)
                lines.append(f"COMP_WORDS=({quoted} ''); COMP_CWORD={len(words)}; COMPREPLY=(); _ospite; printf '%s\\t' \"${{COMPREPLY[@]}}\"; echo")
            result = subprocess.run([shell, "-c" if shell == "bash" else "-fc", "\n".join(lines)], env=environment, capture_output=True, text=True,
                                    timeout=60 * PATIENCE, check=False)
            said = result.stdout.splitlines()
            expect((len(said), result.stderr), (len(tries), ""), f"lines of {shell}")
            for (words, offers, never), line in zip(tries, said):
                check_offers(shell, words, offers, never, {word.replace("\\", "") for word in line.split("\t")})


def fish():
    """fish offers them, too."""
    with Daemon() as d:
        tries = [*((words, offers - {"--help", "--json"}, set()) for words, offers in wanted(d)), *names_given(d)]
        script = d.path / "completion.fish"
        script.write_text(d.run("completion", "fish"))
        lines = [f"source {script}"]
        for words, offers, _ in tries:
            dash = "--" if any(offer.startswith("--") for offer in offers) else ""
            command = " ".join(words).replace("\\", "\\\\")
            lines.append(f"echo (complete -C '{command} {dash}' | string replace -r '\\t.*' '' | string join \\t)")
        result = subprocess.run(["fish", "--no-config", "-c", "\n".join(lines)], env={**d.environment, "PATH": f"{BUILD}:{os.environ['PATH']}"},
                                capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
        said = result.stdout.splitlines()
        expect((len(said), result.stderr), (len(tries), ""), "fish's lines")
        for (words, offers, never), line in zip(tries, said):
            check_offers("fish", words, offers, never, {word.replace("\\", "") for word in line.split("\t")})


sys.exit(run((operations, json_answers, manuals, examples, bash_and_zsh, fish), sys.argv[1:]))
