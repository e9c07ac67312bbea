#!/usr/bin/env python3
"""How machines end, and what is then on their disks."""

import os
import shutil
import signal
import subprocess
import time
import unittest

import harness
from console import Console
from harness import SYSTEM, MachineTest


class Lifecycle(MachineTest):
    def start(self, code, *words):
        kernel = self.file("kernel", harness.multiboot(harness.say("up\n") + code))
        return Console([SYSTEM, "-display", "none", "-serial", "stdio", "-m", "16M", "-kernel",
                        kernel, *words])

    def test_power_off_is_status_0(self):
        with self.start(harness.POWER_OFF) as machine:
            self.assertEqual(machine.wait(30), 0)
            self.assertEqual(machine.text, "up\n")

    def test_reset_starts_the_kernel_again(self):
        with self.start(harness.RESET) as machine:
            for _ in range(3):
                machine.expect("up", 30)
            machine.signal(signal.SIGTERM)
            self.assertEqual(machine.wait(10), 0)

    def test_reset_with_no_reboot_ends(self):
        with self.start(harness.RESET, "-no-reboot") as machine:
            self.assertEqual(machine.wait(30), 0)
            self.assertEqual(machine.text.count("up"), 1)

    def test_debug_exit_gives_the_guests_status(self):
        code = harness.outb(0x501, 0x15) + harness.HALT_FOREVER
        with self.start(code, "-device", "isa-debug-exit") as machine:
            self.assertEqual(machine.wait(30), 0x15 * 2 + 1)

    def test_triple_fault_with_no_reboot_reports(self):
        with self.start(harness.TRIPLE_FAULT, "-no-reboot") as machine:
            self.assertEqual(machine.wait(30), 1)
            self.assertIn("triple-faulted", machine.text)
            self.assertRegex(machine.text, r"RAX=[0-9a-f]{16}")
            self.assertRegex(machine.text, r"CR0=[0-9a-f]{8}")
            self.assertIn("last instructions", machine.text)
            self.assertIn("int3", machine.text)

    def test_signals_end_it_within_a_second(self):
        endless_loop = b"\xeb\xfe"
        for number in (signal.SIGINT, signal.SIGTERM):
            for code in (harness.HALT_FOREVER, endless_loop):
                with self.subTest(signal=number, code=code), self.start(code) as machine:
                    machine.expect("up", 30)
                    before = time.monotonic()
                    machine.signal(number)
                    self.assertEqual(machine.wait(10), 0)
                    self.assertLess(time.monotonic() - before, 1)

    def test_escape_helps_and_ends(self):
        code = harness.multiboot(harness.say("up\n") + harness.HALT_FOREVER)
        with Console([SYSTEM, "-nographic", "-kernel", self.file("kernel", code)]) as machine:
            machine.expect("up", 30)
            machine.type("\x01h")
            machine.expect("(?i)(ctrl-a|c-a) x", 10)
            machine.type("\x01x")
            self.assertEqual(machine.wait(10), 0)


class Disk(MachineTest):
    """From the shell of Debian's initrd: no need to wait for the rest."""

    def boot(self, disk, drive_options=""):
        guest = self.debian()
        console = Console([
            SYSTEM, "-m", "512M", "-nographic", "-kernel", str(guest / "vmlinuz"), "-initrd",
            str(guest / "initrd.img"), "-append", "console=ttyS0 quiet break=top", "-drive",
            f"file={disk},format=raw,if=virtio{drive_options}"])
        self.addCleanup(console.close)
        console.expect(r"\(initramfs\) ", 600)
        console.type("stty -echo; PS1=; mount -t devtmpfs dev /dev; modprobe -a virtio_pci virtio_blk\n")
        status, _ = console.run(
            "n=0; until [ -b /dev/vda ]; do n=$((n+1)); [ $n -lt 60 ] || break; sleep 1; done; "
            "[ -b /dev/vda ]", 300)
        self.assertEqual(status, 0, console.text)
        return console

    def test_what_was_flushed_survives_kill_9(self):
        disk = self.file("disk.img", bytes(1 << 20))
        console = self.boot(disk)
        status, output = console.run(
            "n=0; while [ $n -lt 512 ]; do echo durable; n=$((n+1)); done >/block; "
            "dd if=/block of=/dev/vda bs=4096 seek=3 2>&1 && sync", 120)
        self.assertEqual(status, 0, output)
        console.signal(signal.SIGKILL)
        self.assertEqual(console.wait(10), -signal.SIGKILL)
        with open(disk, "rb") as file:
            content = file.read()
        self.assertEqual(len(content), 1 << 20)
        self.assertEqual(content[3 * 4096:4 * 4096], b"durable\n" * 512)
        self.assertEqual(content[:3 * 4096], bytes(3 * 4096))

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("mount"), "mounting needs root")
    def test_full_file_system_is_an_io_error_for_the_guest(self):
        small = self.folder / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", small],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest("cannot mount here")
        self.addCleanup(subprocess.run, ["umount", "-l", small], check=False)
        disk = small / "disk.img"
        with open(disk, "wb") as file:
            file.truncate(64 << 20)
        # Without it the machine would stop and wait for room (tests/machine/disk_error_test.cc).
        console = self.boot(disk, ",werror=report")
        # Of the kernel's shell tools none says fsync's error; the kernel itself does.
        console.type("dd if=/dev/urandom of=/dev/vda bs=65536 count=256; sync\n")
        console.expect("I/O error, dev vda", 300)
        status, _ = console.run("dd if=/dev/vda of=/dev/null bs=4096 count=256", 60)
        self.assertEqual(status, 0)
        console.signal(signal.SIGTERM)
        console.wait(10)
        self.assertEqual(os.path.getsize(disk), 64 << 20)


if __name__ == "__main__":
    unittest.main()
