#!/usr/bin/env python3
"""Monitors of whole machines, asked by programs of others: socat, gdb, readelf, libvirt."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

import harness
from console import Console
from harness import SYSTEM, MachineTest


class Qmp:
    """A client that keeps events apart from answers."""

    def __init__(self, path, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        end = time.monotonic() + timeout
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self.file = self.socket.makefile("rb")
        self.events = []
        self.greeting = self.read()
        self.command("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise AssertionError(f"not a whole line: {line!r}")
        return json.loads(line)

    def ask(self, message):
        self.socket.sendall(json.dumps(message).encode() if isinstance(message, dict) else message)
        while True:
            reply = self.read()
            if "event" not in reply:
                return reply
            self.events.append(reply)

    def command(self, name, **arguments):
        reply = self.ask({"execute": name, "arguments": arguments})
        if "return" not in reply:
            raise AssertionError(reply)
        return reply["return"]

    def wait_event(self, name):
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            self.events.append(self.read())

    def close(self):
        self.file.close()
        self.socket.close()


class MonitorTest(MachineTest):
    def start(self, code, *words):
        kernel = self.file("kernel", harness.multiboot(harness.say("up\n") + code))
        self.path = str(self.folder / "qmp.sock")
        self.machine = Console([SYSTEM, "-display", "none", "-serial", "stdio", "-m", "16M",
                                "-kernel", kernel, "-qmp", f"unix:{self.path},server=on,wait=off",
                                *words])
        self.addCleanup(self.machine.close)
        return self.machine

    def qmp(self):
        client = Qmp(self.path)
        self.addCleanup(client.close)
        return client


class Control(MonitorTest):
    def test_life_of_a_machine(self):
        self.start(harness.HALT_FOREVER, "-S", "-no-shutdown")
        qmp = self.qmp()
        self.assertEqual(qmp.command("query-status")["status"], "prelaunch")
        qmp.command("cont")
        qmp.wait_event("RESUME")
        self.machine.expect("up", 30)
        qmp.command("stop")
        self.assertIn("seconds", qmp.wait_event("STOP")["timestamp"])
        self.assertEqual(qmp.command("query-status"),
                         {"running": False, "singlestep": False, "status": "paused"})
        qmp.command("system_reset")
        self.assertEqual(qmp.wait_event("RESET")["data"],
                         {"guest": False, "reason": "host-qmp-system-reset"})
        qmp.command("cont")
        self.machine.expect("up", 30)
        qmp.command("quit")
        self.assertEqual(qmp.wait_event("SHUTDOWN")["data"],
                         {"guest": False, "reason": "host-qmp-quit"})
        self.assertEqual(self.machine.wait(10), 0)

    def test_guest_that_powers_off_stays_until_it_is_told_to_go(self):
        self.start(harness.POWER_OFF, "-no-shutdown")
        qmp = self.qmp()
        end = time.monotonic() + 30
        while qmp.command("query-status")["status"] != "shutdown":
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        reply = qmp.ask({"execute": "cont", "id": 7})
        self.assertEqual(reply, {"id": 7, "error": {
            "class": "GenericError", "desc": "Resetting the Virtual Machine is required"}})
        first = qmp.wait_event("SHUTDOWN")["data"] if qmp.events else None
        self.assertIn(first, (None, {"guest": True, "reason": "guest-shutdown"}))
        qmp.events.clear()
        self.machine.signal(signal.SIGTERM)
        self.assertEqual(qmp.wait_event("SHUTDOWN")["data"]["reason"], "host-signal")
        self.assertEqual(self.machine.wait(10), 0)

    def test_bad_clients_and_good_ones(self):
        self.start(harness.HALT_FOREVER)
        flood = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 30
        while flood.connect_ex(self.path) != 0:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        flood.settimeout(3)
        try:
            # Never reads an answer.
            for _ in range(200):
                flood.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}' * 100)
        except TimeoutError:
            pass
        flood.close()
        for rubbish in (b"\x00\xff\xfe{]", b"[" * 5000, b'{"execute": "st', b"hello\n" * 1000,
                        b'{"execute":"stop","arguments":{"x":' + b"{" * 2000):
            client = socket.socket(socket.AF_UNIX)
            client.connect(self.path)
            client.sendall(rubbish)
            client.close()
        qmp = self.qmp()
        self.assertEqual(qmp.command("query-status")["status"], "running")
        self.assertEqual(qmp.ask(b"nonsense\n")["error"]["desc"],
                         "JSON parse error, invalid keyword 'nonsense'")
        self.assertEqual(qmp.ask({"execute": "nonsense"})["error"],
                         {"class": "CommandNotFound",
                          "desc": "The command nonsense has not been found"})
        self.machine.signal(signal.SIGTERM)
        self.assertEqual(self.machine.wait(10), 0)

    def test_several_monitors_hear_the_same_events(self):
        other = str(self.folder / "other.sock")
        self.start(harness.HALT_FOREVER, "-chardev", f"socket,id=c,path={other},server=on,wait=off",
                   "-mon", "chardev=c,mode=control,pretty=off")
        first, second = self.qmp(), Qmp(other)
        self.addCleanup(second.close)
        first.command("stop")
        first.wait_event("STOP")
        second.wait_event("STOP")
        self.assertEqual(second.command("query-status")["status"], "paused")

    @unittest.skipUnless(shutil.which("socat"), "needs socat")
    def test_socat_is_a_client(self):
        self.start(harness.HALT_FOREVER)
        self.qmp().close()
        result = subprocess.run(
            ["socat", "-t", "2", "-", f"UNIX-CONNECT:{self.path}"], capture_output=True, timeout=30,
            input=b'{"execute":"qmp_capabilities"}\n{"execute":"query-name","id":1}\n', check=True)
        lines = result.stdout.split(b"\r\n")
        self.assertIn("QMP", json.loads(lines[0]))
        self.assertEqual(lines[1], b'{"return": {}}')
        self.assertEqual(json.loads(lines[2]), {"return": {}, "id": 1})

    @unittest.skipUnless(shutil.which("readelf") and shutil.which("gdb"), "needs binutils and gdb")
    def test_dump_is_read_by_gdb(self):
        marker = b"\xb8\x78\x56\x34\x12" + harness.HALT_FOREVER  # mov $0x12345678,%eax
        self.start(marker)
        self.machine.expect("up", 30)
        qmp = self.qmp()
        core = str(self.folder / "core")
        time.sleep(0.3)
        qmp.command("dump-guest-memory", paging=False, protocol=f"file:{core}")
        qmp.wait_event("DUMP_COMPLETED")
        headers = self.run_program("readelf", "-lnW", core).stdout
        self.assertIn("CORE (Core file)", headers)
        self.assertIn("NT_PRSTATUS", headers)
        registers = self.run_program("gdb", "-q", "-batch", "-nx", "-ex", f"core {core}", "-ex",
                                     "info registers rax", timeout=120)
        self.assertIn("0x12345678", registers.stdout, registers.stderr)


class Human(MonitorTest):
    def test_monitor_on_the_terminal(self):
        kernel = self.file("kernel", harness.multiboot(harness.say("up\n") + harness.HALT_FOREVER))
        with Console([SYSTEM, "-nographic", "-kernel", kernel]) as machine:
            machine.expect("up", 30)
            machine.type("\x01c")
            machine.expect(r"\(qemu\) ", 10)
            machine.type("info status\r")
            machine.expect("VM status: running", 10)
            machine.type("stop\r")
            machine.type("info regis\t-a\r")
            machine.expect(r"CPU#0\s+RAX=[0-9a-f]{16}", 10)
            machine.type("quit\r")
            self.assertEqual(machine.wait(10), 0)

    @unittest.skipUnless(shutil.which("socat"), "needs socat")
    def test_monitor_on_a_socket(self):
        hmp = str(self.folder / "hmp.sock")
        self.start(harness.HALT_FOREVER, "-monitor", f"unix:{hmp},server,nowait")
        self.qmp().close()
        result = subprocess.run(["socat", "-t", "2", "-", f"UNIX-CONNECT:{hmp}"], timeout=30,
                                input=b"info version\ninfo pci\n", capture_output=True, check=True)
        self.assertIn(b"monitor - type 'help'", result.stdout)
        self.assertIn(b"Host bridge: PCI device 8086:1237", result.stdout)

    def test_power_button_reaches_debian(self):
        guest = self.debian()
        self.path = str(self.folder / "qmp.sock")
        disk = str(self.folder / "root.img")
        subprocess.run(["cp", "--sparse=always", guest / "disk.raw", disk], check=True)
        console = Console([
            SYSTEM, "-m", "512M", "-nographic", "-kernel", str(guest / "vmlinuz"), "-initrd",
            str(guest / "initrd.img"), "-append", "console=ttyS0 root=/dev/vda rw", "-drive",
            f"file={disk},format=raw,if=virtio", "-qmp", f"unix:{self.path},server=on,wait=off"])
        self.addCleanup(console.close)
        console.expect("login:", 900)
        qmp = self.qmp()
        qmp.command("system_powerdown")
        qmp.wait_event("POWERDOWN")
        self.assertEqual(console.wait(300), 0)


class Process(MonitorTest):
    def test_daemon_is_ready_when_its_parent_ends(self):
        path, pid_file = str(self.folder / "qmp.sock"), str(self.folder / "pid")
        result = self.run_program(
            SYSTEM, "-S", "-no-user-config", "-nodefaults", "-nographic", "-machine",
            "none,accel=kvm:tcg", "-qmp", f"unix:{path},server=on,wait=off", "-pidfile", pid_file,
            "-daemonize")
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(pid_file, encoding="ascii") as file:
            pid = int(file.read())
        self.addCleanup(lambda: os.path.exists(f"/proc/{pid}") and os.kill(pid, signal.SIGKILL))
        qmp = Qmp(path, timeout=1)
        self.assertEqual(qmp.command("query-target"), {"arch": "x86_64"})
        qmp.close()
        Qmp(path, timeout=5).close()
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while os.path.exists(pid_file):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def test_daemon_that_cannot_start_says_why(self):
        result = self.run_program(SYSTEM, "-machine", "none", "-nodefaults", "-daemonize", "-qmp",
                                  "unix:/nonexistent/socket,server=on,wait=off")
        self.assert_one_line_error(result, "/nonexistent/socket")

    def test_pseudo_terminal_is_named_and_leads_to_the_guest(self):
        kernel = self.file("kernel", harness.multiboot(
            b"\xb9\x00\x00\x00\x01\xe2\xfe" * 20 + harness.say("through the pty\n") +
            harness.HALT_FOREVER))
        machine = subprocess.Popen(
            [SYSTEM, "-display", "none", "-monitor", "none", "-serial", "pty", "-kernel", kernel],
            stdout=subprocess.PIPE, text=True)
        self.addCleanup(machine.wait)
        self.addCleanup(machine.kill)
        self.addCleanup(machine.stdout.close)
        line = machine.stdout.readline()
        found = re.fullmatch(r"char device redirected to (/dev/pts/\d+) \(label serial0\)\n", line)
        self.assertTrue(found, line)
        with open(found[1], "rb", buffering=0) as terminal:
            text = b""
            while b"through the pty" not in text:
                more = terminal.read(100)
                self.assertTrue(more, text)
                text += more

    def test_sandbox_refuses_what_no_machine_needs(self):
        path = str(self.folder / "qmp.sock")
        kernel = self.file("kernel", harness.multiboot(harness.say("up\n") + harness.HALT_FOREVER))
        with Console([SYSTEM, "-display", "none", "-serial", "stdio", "-kernel", kernel, "-sandbox",
                      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
                      "-qmp", f"unix:{path},server=on,wait=off"]) as machine:
            machine.expect("up", 30)
            qmp = Qmp(path)
            with open(f"/proc/{machine.process.pid}/status", encoding="ascii") as file:
                status = file.read()
            self.assertRegex(status, r"Seccomp:\s+2")
            self.assertRegex(status, r"NoNewPrivs:\s+1")
            qmp.command("quit")
            qmp.close()
            self.assertEqual(machine.wait(10), 0)


@unittest.skipUnless(shutil.which("libvirtd") and shutil.which("virsh"), "needs libvirt")
class Libvirt(MachineTest):
    """libvirt's own probe, in session mode, in a home of its own."""

    def test_libvirt_probes_the_emulator(self):
        home = self.folder / "home"
        run = self.folder / "run"
        home.mkdir()
        run.mkdir(mode=0o700)
        environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(run),
                       "XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache")}
        emulator = self.folder / "qemu-system-x86_64"
        emulator.symlink_to(os.path.realpath(SYSTEM))
        words = []
        if os.geteuid() == 0:
            # Root's libvirtd is the system's; a session needs another user.
            if not shutil.which("setpriv"):
                self.skipTest("needs setpriv")
            user = 65534
            for path in (self.folder, home, run):
                os.chown(path, user, user)
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            binary = self.folder / "limen"
            shutil.copy(os.path.realpath(SYSTEM), binary)
            emulator.unlink()
            emulator.symlink_to(binary)
        result = subprocess.run(
            [*words, "virsh", "-c", "qemu:///session", "domcapabilities", "--emulatorbin",
             str(emulator), "--virttype", "qemu"], env=environment, capture_output=True, text=True,
            timeout=120, check=False)
        self.addCleanup(self.end_daemons, run)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("<machine>pc-i440fx-7.2</machine>", result.stdout)
        self.assertIn("<arch>x86_64</arch>", result.stdout)

    def end_daemons(self, run):
        for pid_file in run.rglob("*.pid"):
            try:
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
            except (ValueError, OSError):
                pass


if __name__ == "__main__":
    unittest.main()
