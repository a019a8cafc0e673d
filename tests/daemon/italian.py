#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line in Italian, as TAP: the catalogue is whole and sound, a session speaks it, and what programs read stays English."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from daemon import BUILD, OSPITE, TOP, Daemon, check, expect, run, wait_until

CATALOGUE = TOP / "po" / "it.po"
# The macros themselves.
NOT_SHOWN = {"src/base/i18n.h"}


class Session(Daemon):
    """A user whose language is Italian."""

    def __init__(self):
        super().__init__()
        self.environment["LANGUAGE"] = "it"


def catalogue():
    """Every message is translated, none is fuzzy, and placeholders agree."""
    result = subprocess.run(["msgfmt", "--check", "--statistics", "-o", "/dev/null", CATALOGUE], capture_output=True, text=True, check=False,
                            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    check(result.returncode == 0 and re.fullmatch(r"\d+ translated messages\.\n", result.stderr), result.stderr)


def whole():
    """The catalogue has every message of the sources, and every source with messages is looked at."""
    with Daemon() as d:
        arguments = re.findall(r"'(--[^']*)'", (TOP / "po" / "meson.build").read_text(encoding="utf-8"))
        template = d.path / "ospite.pot"
        subprocess.run(["xgettext", *arguments, "-f", "po/POTFILES", "-o", template], cwd=TOP, check=True, capture_output=True)
        result = subprocess.run(["msgcmp", CATALOGUE, template], capture_output=True, text=True, check=False)
        expect(result.returncode, 0, f"msgcmp: {result.stderr}")
    listed = set((TOP / "po" / "POTFILES").read_text(encoding="utf-8").split())
    for path in [*TOP.glob("src/**/*.c"), *TOP.glob("src/**/*.h")]:
        name = str(path.relative_to(TOP))
        if not re.search(r"_(test|fuzz)\.", name) and name not in NOT_SHOWN and re.search(r'\bN?_\("', path.read_text(encoding="utf-8")):
            check(name in listed, f"{name} is not in po/POTFILES")


def session():
    """A machine is made, shown, started, turned off and deleted in Italian; errors, the API's, too; JSON is English."""
    with Session() as d:
        check(d.run("vm", "create", "uno", "memory=8M", "engine=interp").startswith("Creata 'uno' in "), "create")
        check(re.match(r"uno +spenta +8 MiB +1 CPU ", d.run("vm", "list")), "list")
        expect(d.run("vm", "start", "uno"), "'uno' è in esecuzione\n", "start")
        expect(d.run("vm", "set", "uno", "cpus=2"), "system.cpus cambia al prossimo avvio\n", "set")
        check("stato:   in esecuzione\n" in d.run("vm", "show", "uno"), "show")
        expect(d.run("vm", "pause", "uno"), "'uno' è in pausa\n", "pause")
        expect(d.run("vm", "resume", "uno"), "'uno' è in esecuzione\n", "resume")
        expect(d.run("vm", "poweroff", "uno"), "'uno' è spenta\n", "poweroff")
        answer = json.loads(d.run("vm", "show", "uno", "--json"))["vm"]
        expect((answer["state"], answer["last_end"]["reason"]), ("off", "plug"), "JSON")
        check("non c'è nessuna macchina 'due'" in d.run("vm", "start", "due", status=3), "the API's message")
        expect(d.run("vm", "autostart", "uno", "forse", status=2), "ospite vm autostart: 'forse' non è né on né off\n", "usage")
        expect(d.run("vm", "niente", status=2), "ospite: comando sconosciuto 'vm niente'; ospite help li elenca\n", "unknown")
        expect(d.run("vm", "list", "--niente", status=2), "ospite vm list: opzione sconosciuta '--niente'; --help le elenca\n", "option")
        check("impossibile aprire il disco" in d.run("disk", "info", d.path / "niente", status=1), "disk")
        check("impossibile avviare il kernel" in d.run("run", "--kernel", __file__, "--serial", "none", status=1), "run")
        d.run("vm", "delete", "uno", "--disks")


def api_language():
    """Each request is answered in the language that it accepts, whoever started the daemon; English without one."""
    with Session() as d:
        d.run("vm", "list")
        for accepted, wanted in (("it", "non c'è nessuna macchina"), ("en", "there is no machine"), ("it-IT,en;q=0.5", "non c'è nessuna macchina"),
                                 (None, "there is no machine"), ("../../etc", "there is no machine"), ("C", "there is no machine")):
            d.headers = f"Accept-Language: {accepted}\r\n" if accepted else ""
            said = d.call("GET", "/vms/due", status=404)["error"]
            check(said["message"].startswith(wanted), f"{accepted}: {said}")
            expect(said["code"], "not_found", "code")


def late():
    """What is said later is Italian, too: why a start failed, how a machine ended, what an import lost, what waits in vain."""
    with Session() as d:
        d.run("vm", "create", "uno", "memory=8M", "engine=interp", "storage.ide0.0.type=disk", f"storage.ide0.0.medium={d.path}/niente",
              "storage.ide0.0.format=raw")
        said = d.run("vm", "start", "uno", status=1)
        check("impossibile avviare 'uno': impossibile aprire il disco" in said, f"start: {said}")
        check("impossibile aprire il disco" in d.run("vm", "show", "uno"), "the end in vm show")
        d.call("PATCH", "/vms/uno", {"settings": {"storage.ide0.0": None}})
        d.run("vm", "start", "uno")
        pid = d.vm("uno")["pid"]
        os.kill(pid, signal.SIGKILL)
        d.run("vm", "wait", "uno")
        check("il processo è stato ucciso dal segnale 9" in d.run("vm", "show", "uno"), "a crash")
        expect(d.vm("uno")["last_end"]["message"][:37], "the process was killed by signal 9 (K", "the same in English")
        check("non è arrivata in tempo" in d.run("vm", "wait", "uno", "--for", "running", "--timeout", "1", status=5), "a wait in vain")
        d.run("vm", "start", "uno")
        d.run("vm", "poweroff", "uno")
        check("la macchina è stata spenta" in d.run("vm", "show", "uno"), "how it ended")
        (d.path / "a.xml").write_text("<domain type='kvm'><name>due</name><memory>65536</memory><devices><sound model='ac97'/><tpm model='tpm-crb'/><watchdog model='itco'/></devices></domain>")
        result = subprocess.run([OSPITE, "vm", "import", d.path / "a.xml"], env=d.environment, capture_output=True, text=True, check=True)
        check("audio.adapter: questa versione non sa fare 'ac97'" in result.stderr and "il TPM (tpm-crb; <tpm>) non è importato" in result.stderr, result.stderr)
        check("non c'è nessun supporto" in d.run("media", "show", d.path / "niente2", status=3), "media")
        check("numero di CPU" in d.run("vm", "settings", "system.cpus"), "vm settings")


def other_programs():
    """doctor, the daemon's own errors and its help are Italian; JSON and lists for programs are not."""
    with Session() as d:
        said = d.run("doctor")
        check("Motori\n" in said and "girano" in said and "Engines" not in said, said)
        d.headers = "Accept-Language: it\r\n"
        d.run("vm", "list")
        check("Motori\n" in d.call("GET", "/doctor")["report"], "the API's doctor")
        (d.path / "run2").mkdir(mode=0o700)
        for words, wanted in ((('--listen', 'qui'), "impossibile usare il certificato"), (('--help',), 'il demone di Ospite')):
            result = subprocess.run([BUILD / "ospited", *words], env={**d.environment, "XDG_RUNTIME_DIR": str(d.path / "run2"), "XDG_CONFIG_HOME": str(d.path / "other")}, capture_output=True,
                                    text=True, timeout=60, check=False)
            check(wanted in result.stdout + result.stderr, f"ospited {words}: {result.stdout}{result.stderr}")


def help_texts():
    """Every command's help is in Italian, in as many lines as in English, with the same options."""
    with Session() as d, Daemon() as english:
        for page in d.run("manual").splitlines():
            ours, theirs = (who.run(*page.split(), "--help") for who in (d, english))
            check(ours.startswith(f"Uso: ospite {page}"), f"help of {page}: {ours}")
            check(ours.splitlines()[1] != theirs.splitlines()[1], f"help of {page} is not translated")
            expect(re.findall(r"^  --\S+", ours, re.M), re.findall(r"^  --\S+", theirs, re.M), f"options of {page}")
        expect(len(d.run("run", "--help").splitlines()), len(english.run("run", "--help").splitlines()), "lines of run --help")
        check("copia in un altro formato" in d.run("disk", "help"), "help of disk")


def own_locale():
    """An Italian locale says it as LANGUAGE does; without one, or in one that nobody translated, all is English."""
    with Daemon() as d:
        subprocess.run(["localedef", "-i", "it_IT", "-f", "UTF-8", d.path / "it_IT.UTF-8"], check=True, capture_output=True)
        for locale, word in (("it_IT.UTF-8", "Uso"), ("C.UTF-8", "Usage"), ("C", "Usage"), ("none_XX.UTF-8", "Usage")):
            environment = {"PATH": "/usr/bin:/bin", "LOCPATH": str(d.path), "LC_ALL": locale}
            said = subprocess.run([OSPITE, "help"], env=environment, capture_output=True, check=True).stdout.decode()
            check(said.startswith(word), f"{locale}: {said[:40]!r}")


def scripts():
    """What scripts read is English: vboxmanage's lists, qemu-img's reports, numbers with a point."""
    with Session() as d:
        subprocess.run([BUILD / "vboxmanage", "createvm", "--name", "uno", "--register"], env=d.environment, check=True, capture_output=True)
        said = subprocess.run([BUILD / "vboxmanage", "showvminfo", "uno"], env=d.environment, check=True, capture_output=True, text=True).stdout
        check(re.search(r"^State: +powered off", said, re.M), said)
        subprocess.run([BUILD / "qemu-img", "create", "-f", "qcow2", d.path / "a.qcow2", "1536M"], env=d.environment, check=True, capture_output=True)
        said = subprocess.run([BUILD / "qemu-img", "info", d.path / "a.qcow2"], env=d.environment, check=True, capture_output=True, text=True).stdout
        check("virtual size: 1.5 GiB" in said, said)


def events():
    """Events are for programs with --json, and their states Italian without."""
    with Session() as d:
        d.run("vm", "create", "uno", "memory=8M", "engine=interp")
        log = pathlib.Path(d.path / "events")
        with log.open("w", encoding="utf-8") as file, subprocess.Popen([OSPITE, "events"], env=d.environment, stdout=file) as process:
            wait_until(lambda: "hello" in log.read_text(encoding="utf-8"), "the first event")
            d.run("vm", "start", "uno")
            wait_until(lambda: "uno in esecuzione" in log.read_text(encoding="utf-8"), "the event in Italian")
            process.terminate()


sys.exit(run((catalogue, whole, session, api_language, late, other_programs, help_texts, own_locale, scripts, events), sys.argv[1:]))
