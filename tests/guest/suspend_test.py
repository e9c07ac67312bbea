#!/usr/bin/env python3
"""Suspend to RAM: Linux goes to sleep, is woken in every way that there is, and finds its processors,
disks, network and keyboard at work again."""

import hashlib
import os
import socketserver
import threading
import unittest

from full_kernel import FullKernelTest
from harness import SYSTEM, MachineTest
from console import Console
from monitor_test import Qmp

MEBIBYTE = 1 << 20


class Greeter(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"hello\n")


class SuspendTest(FullKernelTest):
    def start(self, *words, **options):
        path = str(self.folder / "qmp")
        self.boot("-qmp", f"unix:{path},server=on,wait=off", *words, **options)
        self.qmp = Qmp(path, timeout=60)
        self.addCleanup(self.qmp.close)

    def suspend(self):
        """Until the machine sleeps; what the shell does next says "awake"."""
        self.console.type("echo mem >/sys/power/state; echo a'wa'ke\n")
        self.qmp.wait_event("SUSPEND")
        self.assertEqual(self.qmp.command("query-status"),
                         {"status": "suspended", "running": False, "singlestep": False})

    def expect_awake(self):
        self.qmp.wait_event("WAKEUP")
        self.console.expect(r"\bawake", 60)
        self.assertEqual(self.qmp.command("query-status")["status"], "running")

    def human(self, line):
        return self.qmp.command("human-monitor-command", **{"command-line": line})

    def test_devices_work_again(self):
        content = os.urandom(2 * MEBIBYTE)
        words = ["-smp", "2", "-device", "qemu-xhci", "-device", "usb-kbd",
                 "-nic", "user,model=e1000"]
        for name, device in [("sata", "ide-hd"), ("nvme", "nvme,serial=1"),
                             ("usb", "usb-storage")]:
            words += ["-drive", f"file={self.file(name, content)},format=raw,if=none,id={name}",
                      "-device", f"{device},drive={name}"]
        self.start(*words)
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeter)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

        disks = ["/dev/sda", "/dev/sdb", "/dev/nvme0n1"]
        for disk in disks:
            self.wait_for(disk)
        self.inside("ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0")
        greeting = f"cat </dev/tcp/10.0.2.2/{server.server_address[1]}"
        self.assertEqual(self.inside(greeting), "hello")
        self.assertIn("[deep]", self.inside("cat /sys/power/mem_sleep"))
        self.assertTrue(self.qmp.command("query-current-machine")["wakeup-suspend-support"])
        keyboard = self.inside("grep -l 'USB Keyboard' /sys/class/input/event*/device/name")
        keyboard = f"/dev/input/{keyboard.split('/')[4]}"
        self.inside("sleep 1000 & true")

        for _ in range(2):
            self.suspend()
            self.qmp.command("system_wakeup")
            self.expect_awake()
            self.assertEqual(self.inside("nproc"), "2")
            self.inside("pgrep -x sleep")
            sums = self.inside("echo 3 >/proc/sys/vm/drop_caches; for disk in " + " ".join(disks) +
                               "; do dd if=$disk bs=1M iflag=direct 2>/dev/null | md5sum; done")
            self.assertEqual([line.split()[0] for line in sums.splitlines()],
                             [hashlib.md5(content).hexdigest()] * len(disks))
            self.inside("sum /usr/bin/perl >/dev/null")  # from the virtio disk
            self.assertEqual(self.inside(greeting), "hello")
            self.console.type(f"echo re'a'dy; head -c 24 {keyboard} | wc -c | sed s/^/took/\n")
            self.console.expect(r"\bready", 60)
            self.human("sendkey a")
            self.console.expect(r"\btook24", 60)
        self.power_off()

    def test_everything_that_wakes(self):
        self.start("-rtc", "base=utc", machine="pc")
        self.suspend()
        self.assertEqual(self.qmp.command("stop"), {})
        self.assertEqual(self.qmp.command("query-status")["status"], "paused")
        self.qmp.command("cont")
        self.assertEqual(self.qmp.command("query-status")["status"], "suspended")
        self.human("sendkey a")
        self.expect_awake()

        self.suspend()
        self.qmp.command("system_powerdown")
        self.expect_awake()

        self.inside("echo 0 >/sys/class/rtc/rtc0/wakealarm; echo +2 >/sys/class/rtc/rtc0/wakealarm")
        before = int(self.inside("date +%s"))
        self.suspend()
        self.expect_awake()
        self.assertGreaterEqual(int(self.inside("date +%s")) - before, 1)

        self.suspend()
        self.human("system_reset")
        self.qmp.wait_event("RESET")
        self.console.expect(r":/# ", 300)


class Disabled(MachineTest):
    def test_the_kernel_is_not_told_of_it(self):
        guest = self.debian()
        for board, part in (("pc", "PIIX4_PM"), ("q35", "ICH9-LPC")):
            console = Console([
                SYSTEM, "-nographic", "-M", board, "-m", "256", "-global", f"{part}.disable_s3=1",
                "-kernel", f"{guest}/vmlinuz", "-append", "console=ttyS0 panic=-1", "-no-reboot"])
            self.addCleanup(console.close)
            console.expect(r"ACPI: PM: \(supports S0 S4 S5\)", 60)
            console.close()


if __name__ == "__main__":
    unittest.main()
