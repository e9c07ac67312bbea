#!/usr/bin/env python3
"""Debian on a qcow2 disk: it works, and a machine that is killed while the guest writes leaves a sound
image with everything that the guest was told is on the disk."""

import random
import re
import shutil
import time
import unittest

from harness import IMG, SYSTEM, MachineTest
from console import Console


class Qcow2Machine(MachineTest):
    def setUp(self):
        super().setUp()
        self.disk = str(self.folder / "disk.qcow2")
        self.img("create", "-q", "-f", "qcow2", "-b", str(self.debian() / "disk.raw"), "-F", "raw",
                 self.disk)

    def img(self, *words):
        result = self.run_program(IMG, *words)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def check(self, allowed=(0,)):
        for program in (IMG, "qemu-img"):
            if shutil.which(program):
                result = self.run_program(program, "check", "-f", "qcow2", self.disk)
                self.assertIn(result.returncode, allowed, result.stdout + result.stderr)

    def boot(self, *words, drive="format=qcow2"):
        guest = self.debian()
        console = Console([
            SYSTEM, "-m", "512M", "-nographic", "-no-reboot", "-kernel", str(guest / "vmlinuz"),
            "-initrd", str(guest / "initrd.img"), "-append",
            "console=ttyS0 quiet root=/dev/vda rw init=/bin/bash", "-drive",
            f"file={self.disk},if=virtio,{drive}", *words])
        self.addCleanup(console.close)
        console.expect(r":/# ", 600)
        console.type("stty -echo cols 400; bind 'set enable-bracketed-paste off'; PS1=; "
                     "export TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin\n")
        self.run_inside(console, "true")
        return console

    def run_inside(self, console, command):
        status, output = console.run(command, 300)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output

    def power_off(self, console):
        self.run_inside(console, "sync; mount -o remount,ro /")
        console.type("echo o >/proc/sysrq-trigger\n")
        self.assertEqual(console.wait(120), 0)

    def test_what_is_written_stays(self):
        for drive in ("format=qcow2,cache=none,discard=unmap", "cache=writethrough"):
            with self.subTest(drive=drive):
                console = self.boot(drive=drive)
                self.run_inside(console, "dd if=/dev/urandom of=/noise bs=1M count=20 conv=fsync")
                checksum = self.run_inside(console, "sha256sum /noise; sync")
                self.power_off(console)
                self.check()
                console = self.boot()
                self.assertEqual(self.run_inside(console, "sha256sum /noise"), checksum)
                self.run_inside(console, "rm /noise; sync; fstrim /")
                self.power_off(console)
                self.check()

    def test_the_plug_is_pulled(self):
        randomness = random.Random(4)
        said = 0
        for _ in range(5):
            console = self.boot()
            if said:
                # All that it was told is there, and whole.
                self.run_inside(console, f"(for n in $(seq {said}); do test \"$(sha256sum </f.$n)\" = "
                                         f"\"$(cat /s.$n)\" || exit 1; done)")
            console.type(f"n={said}; while true; do n=$((n+1)); head -c $((RANDOM * 9)) /dev/urandom "
                         ">/f.$n; sha256sum </f.$n >/s.$n; sync; echo told-$n-; done\n")
            console.expect(rf"told-{said + 2}-", 120)
            time.sleep(randomness.random() * 4)
            console.process.kill()
            console.process.wait()
            while console._read(time.monotonic() + 1):
                pass
            said = max([said] + [int(n) for n in re.findall(r"told-(\d+)-", console.text)])
            self.check(allowed=(0, 3))
        self.assertGreater(said, 10)


if __name__ == "__main__":
    unittest.main()
