#!/usr/bin/env python3
"""libvirt, QEMU's foremost user, runs domains whose <emulator> is this program: a libvirtd of its own,
in session mode, in a home of its own."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

import harness
from harness import IMG, SYSTEM, MachineTest

USER = 65534  # nobody: root's libvirtd is the system's, a session is another user's


class Terminal:
    """The other end of a pseudo-terminal."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self.text = ""

    def close(self):
        os.close(self.fd)

    def expect(self, pattern, timeout):
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end():]
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"no {pattern!r} in {self.text[-2000:]!r}")
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:  # nobody has the other end open
                time.sleep(0.1)

    def type(self, text):
        os.write(self.fd, text.encode())


@unittest.skipUnless(shutil.which("libvirtd") and shutil.which("virsh"), "needs libvirt")
class LibvirtTest(MachineTest):
    def setUp(self):
        super().setUp()
        home, run = self.folder / "home", self.folder / "run"
        home.mkdir()
        run.mkdir(mode=0o700)
        self.environment = {
            **os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(run),
            "XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache")}
        self.emulator = self.folder / "qemu-system-x86_64"
        self.words = []
        binary = self.folder / "limen"
        shutil.copy(os.path.realpath(SYSTEM), binary)
        self.emulator.symlink_to(binary)
        if os.geteuid() == 0:
            if not shutil.which("setpriv"):
                self.skipTest("needs setpriv")
            self.words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
            for path in (self.folder, home, run):
                os.chown(path, USER, USER)
        self.folder.chmod(0o755)
        self.daemon_log = self.folder / "libvirtd.log"
        self.start_daemon()

    def start_daemon(self):
        with open(self.daemon_log, "ab") as log:
            daemon = subprocess.Popen([*self.words, "libvirtd", "--timeout", "600"],
                                      env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=log)
        self.daemon = daemon
        self.addCleanup(self.end_daemons)
        deadline = time.monotonic() + 60
        while self.virsh("uri", check=False).returncode != 0:
            self.assertIsNone(daemon.poll(), self.daemon_log.read_text())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)

    def end_daemons(self):
        """Ours, and the log daemon that it started."""
        if self.daemon.poll() is None:
            self.daemon.terminate()
        self.daemon.wait(60)
        for pid_file in (self.folder / "run").rglob("*.pid"):
            with contextlib.suppress(ValueError, OSError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)

    def give(self, path):
        """What this user makes, the session's may use."""
        if os.geteuid() == 0:
            os.chown(path, USER, USER)
        return str(path)

    def virsh(self, *words, check=True, timeout=120):
        result = subprocess.run([*self.words, "virsh", "-q", "-c", "qemu:///session", *words],
                                env=self.environment, capture_output=True, text=True,
                                stdin=subprocess.DEVNULL, timeout=timeout, check=False)
        if check:
            self.assertEqual(result.returncode, 0, f"{words}: {result.stderr}{self.logs()}")
        return result

    def ask(self, *words, **options):
        return self.virsh(*words, **options).stdout.strip()

    def logs(self):
        """What the emulator said."""
        text = ""
        for path in (self.folder / "home" / "cache" / "libvirt" / "qemu" / "log").glob("*.log"):
            text += "\n" + path.read_text()[-5000:]
        return text

    def start(self, kernel, *, boot="", devices="", memory=128, extra=""):
        xml = self.file("domain.xml", f"""
            <domain type='qemu'>
              <name>limen</name>
              <memory unit='MiB'>{memory}</memory>
              <vcpu>2</vcpu>
              <os>
                <type arch='x86_64' machine='q35'>hvm</type>
                <kernel>{kernel}</kernel>
                {boot}
              </os>
              <features><acpi/></features>
              {extra}
              <devices>
                <emulator>{self.emulator}</emulator>
                <controller type='usb' model='qemu-xhci' ports='15'/>
                <input type='tablet' bus='usb'/>
                <watchdog model='i6300esb' action='pause'>
                  <address type='pci' domain='0' bus='0' slot='0x1b' function='0'/>
                </watchdog>
                <serial type='pty'/>
                {devices}
              </devices>
            </domain>""".encode())
        self.give(xml)
        self.virsh("define", xml)
        self.addCleanup(self.virsh, "destroy", "limen", check=False)
        self.virsh("start", "limen")
        terminal = Terminal(self.ask("ttyconsole", "limen"))
        self.addCleanup(terminal.close)
        return terminal

    def state(self):
        return self.ask("domstate", "limen")

    def wait_state(self, wanted, timeout):
        deadline = time.monotonic() + timeout
        while self.state() != wanted:
            self.assertLess(time.monotonic(), deadline, self.state() + self.logs())
            time.sleep(0.5)

    def hmp(self, command):
        return self.ask("qemu-monitor-command", "limen", "--hmp", command)

    def qmp(self, command, **arguments):
        text = json.dumps({"execute": command, "arguments": arguments})
        reply = json.loads(self.ask("qemu-monitor-command", "limen", "--pretty", text))
        return reply["return"] if "return" in reply else reply


class Capabilities(LibvirtTest):
    def test_domain_capabilities(self):
        text = self.ask("domcapabilities", "--emulatorbin", str(self.emulator), "--virttype",
                        "qemu", "--machine", "q35")
        self.assertIn("<machine>pc-q35-7.2</machine>", text)
        self.assertIn("<arch>x86_64</arch>", text)
        self.assertRegex(text, r"<vcpu max='\d+'/>")


class SmallDomain(LibvirtTest):
    def image(self, name, size="16M"):
        path = self.folder / name
        subprocess.run([IMG, "create", "-q", "-f", "qcow2", path, size], check=True)
        return self.give(path)

    def kernel(self):
        """Says "up" whenever somebody types."""
        wait = (b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7"  # in al, 3FDH until its bit 0 is set
                b"\x66\xba\xf8\x03\xec")                  # in al, 3F8H
        up = harness.say("up\n")
        body = wait + up
        return self.give(self.file("kernel", harness.multiboot(
            body + b"\xe9" + (-(len(body) + 5) & 0xFFFFFFFF).to_bytes(4, "little"))))

    def test_life_of_a_domain(self):
        terminal = self.start(self.kernel(), devices=f"""
            <disk type='file' device='disk'>
              <driver name='qemu' type='raw' cache='none'/>
              <source file='{self.give(self.file("disk.raw", bytes(1 << 20)))}'/>
              <target dev='vda' bus='virtio'/>
              <serial>limen-disk</serial>
            </disk>
            <interface type='user'>
              <mac address='52:54:00:12:34:99'/>
              <model type='virtio'/>
            </interface>
            <channel type='unix'>
              <target type='virtio' name='org.qemu.guest_agent.0'/>
            </channel>
            <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
            <memballoon model='virtio'/>
            <panic model='isa'/>""")
        self.assertEqual(self.state(), "running")
        terminal.type("x")
        terminal.expect("up", 60)
        self.assertEqual(self.qmp("query-status")["status"], "running")
        self.assertEqual(self.hmp("info status"), "VM status: running")
        self.assertEqual(self.qmp("query-name"), {"name": "limen"})
        self.assertEqual(self.qmp("query-uuid")["UUID"], self.ask("domuuid", "limen"))
        self.assertIn("has not been found", json.dumps(self.qmp("no-such-command")))
        self.assertIn("org.qemu.guest_agent.0", self.ask("dumpxml", "limen"))

        self.virsh("suspend", "limen")
        self.assertEqual(self.state(), "paused")
        self.assertEqual(self.qmp("query-status")["status"], "paused")
        self.virsh("resume", "limen")
        self.assertEqual(self.state(), "running")
        terminal.type("x")
        terminal.expect("up", 60)

        information = self.ask("dominfo", "limen")
        self.assertRegex(information, r"State: +running")
        self.assertRegex(information, r"CPU\(s\): +2")
        self.assertRegex(self.ask("vcpuinfo", "limen"), r"(?s)VCPU: +0.*VCPU: +1")
        self.assertRegex(self.ask("domblkstat", "limen", "vda"), r"rd_bytes \d+")
        self.assertIn("52:54:00:12:34:99", self.ask("domiflist", "limen"))
        self.assertRegex(self.ask("domstats", "limen"), r"balloon\.current=131072")
        self.virsh("reset", "limen")
        time.sleep(1)
        terminal.type("x")
        terminal.expect("up", 60)
        self.virsh("send-key", "limen", "KEY_LEFTCTRL", "KEY_C")
        self.virsh("inject-nmi", "limen")
        self.virsh("destroy", "limen")
        self.assertEqual(self.state(), "shut off")

    def test_daemon_comes_back_to_a_running_domain(self):
        terminal = self.start(self.kernel())
        self.daemon.terminate()
        self.daemon.wait(60)
        self.start_daemon()
        self.assertEqual(self.state(), "running")
        self.assertEqual(self.hmp("info status"), "VM status: running")
        terminal.type("x")
        terminal.expect("up", 60)
        self.virsh("destroy", "limen")
        self.assertEqual(self.state(), "shut off")

    def test_core_of_a_domain(self):
        self.start(self.kernel())
        core = self.folder / "core"
        self.virsh("dump", "limen", str(core), "--memory-only")
        header = subprocess.run(["readelf", "-h", core], capture_output=True, text=True, check=True)
        self.assertIn("CORE (Core file)", header.stdout)
        self.assertEqual(self.state(), "running")

    def test_disks_and_cards_come_and_go(self):
        self.start(self.kernel())
        known = {command["name"] for command in self.qmp("query-commands")}
        if not {"blockdev-add", "blockdev-del", "netdev_add", "netdev_del"} <= known:
            self.skipTest("disks cannot be added at run time yet")
        disk = self.image("more.qcow2")
        self.virsh("attach-disk", "limen", disk, "vdb", "--driver", "qemu", "--subdriver", "qcow2")
        self.assertIn(disk, self.ask("domblklist", "limen"))
        self.assertIn("more.qcow2", self.hmp("info block"))
        self.assertRegex(self.ask("domblkinfo", "limen", "vdb"), r"Capacity: +16777216")

    def test_what_is_wrong_reaches_the_person(self):
        result = self.virsh("define", self.give(self.file("bad.xml", f"""
            <domain type='qemu'><name>bad</name><memory>65536</memory>
              <os><type arch='x86_64' machine='q35'>hvm</type><kernel>/nonexistent</kernel></os>
              <devices><emulator>{self.emulator}</emulator>
                <controller type='usb' model='none'/></devices>
            </domain>""".encode())))
        result = self.virsh("start", "bad", check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("opening kernel '/nonexistent': No such file or directory", result.stderr)


class Debian(LibvirtTest):
    def test_reboot_and_shutdown(self):
        guest = self.debian()
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(guest / name, self.folder / name)
        disk = str(self.folder / "root.raw")
        subprocess.run(["cp", "--sparse=always", guest / "disk.raw", disk], check=True)
        self.give(disk)
        terminal = self.start(
            str(self.folder / "vmlinuz"), memory=512,
            boot=f"<initrd>{self.folder}/initrd.img</initrd>"
                 "<cmdline>console=ttyS0 root=/dev/vda rw</cmdline>",
            devices=f"""
              <disk type='file' device='disk'>
                <driver name='qemu' type='raw'/>
                <source file='{disk}'/>
                <target dev='vda' bus='virtio'/>
              </disk>
              <interface type='user'><model type='virtio'/></interface>""")
        terminal.expect("login:", 900)
        self.assertRegex(self.ask("domblkstat", "limen", "vda"), r"rd_bytes [1-9]\d{6}")
        self.virsh("reboot", "limen")
        terminal.expect("login:", 900)
        self.assertEqual(self.state(), "running")
        self.virsh("shutdown", "limen")
        self.wait_state("shut off", 300)
        self.assertIn("(shutdown)", self.ask("domstate", "limen", "--reason"))


if __name__ == "__main__":
    unittest.main()
