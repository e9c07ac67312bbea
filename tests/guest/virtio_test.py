#!/usr/bin/env python3
"""Virtio devices as Debian's drivers and tools see them: disk, entropy, console.

The guest is Debian's disk, opened for reading alone, with a shell in init's place."""

import unittest

from harness import SYSTEM, MachineTest
from console import Console

MEBIBYTE = 1 << 20


class Virtio(MachineTest):
    def boot(self, *words, init="init=/bin/bash"):
        guest = self.debian()
        console = Console([
            SYSTEM, "-m", "512M", "-display", "none", "-no-reboot", "-kernel",
            str(guest / "vmlinuz"), "-initrd", str(guest / "initrd.img"), "-append",
            f"console=ttyS0 quiet root=/dev/vda ro {init}", "-drive",
            f"file={guest}/disk.raw,format=raw,if=none,id=root,readonly=on", "-device",
            "virtio-blk-pci,drive=root", *words])
        self.addCleanup(console.close)
        console.expect(r":/# ", 600)
        console.type("stty -echo cols 400; bind 'set enable-bracketed-paste off'; PS1=; "
                     "export TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin\n")
        self.run_inside(console, "test -d /sys/block/vda && test -e /proc/interrupts")
        return console

    def run_inside(self, console, command):
        status, output = console.run(command, 120)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output

    def test_disk(self):
        disk = self.file("disk.img", b"\xaa" * (4 * MEBIBYTE))
        console = self.boot("-smp", "2", "-serial", "stdio", "-drive",
                            f"file={disk},format=raw,if=none,id=d,cache=none", "-device",
                            "virtio-blk-pci,drive=d,serial=SN-0123456789,num-queues=2")

        def run(command):
            return self.run_inside(console, command)

        self.assertEqual(run("cat /sys/block/vdb/serial"), "SN-0123456789")
        self.assertEqual(run("cat /sys/block/vda/ro /sys/block/vdb/ro").split(), ["1", "0"])
        self.assertEqual(run("cat /sys/block/vdb/queue/write_cache"), "write back")
        # Each processor has a queue, and each queue an interrupt of its own that comes.
        self.assertEqual(run("ls /sys/block/vdb/mq").split(), ["0", "1"])
        for processor in (0, 1):
            run(f"taskset -c {processor} dd if=/dev/vdb of=/dev/null bs=4096 count=20 iflag=direct")
            self.assertRegex(run(f"grep -E 'virtio1-req.{processor}$' /proc/interrupts"),
                             r":.* [1-9][0-9]* ")
        run("blkdiscard -f -o 1M -l 1M /dev/vdb")
        run("blkdiscard -f -z -o 2M -l 512K /dev/vdb")
        # An odd sector, past the page cache, then a flush.
        run("yes durable | dd of=/dev/vdb bs=512 seek=7 count=3 iflag=fullblock oflag=direct "
            "conv=fdatasync")
        self.assertNotEqual(console.run("blkdiscard -f -o 512 -l 512 /dev/vda", 60)[0], 0)
        console.type("echo o >/proc/sysrq-trigger\n")
        self.assertEqual(console.wait(60), 0)
        with open(disk, "rb") as file:
            content = file.read()
        wanted = bytearray(b"\xaa" * (4 * MEBIBYTE))
        wanted[MEBIBYTE:2 * MEBIBYTE] = bytes(MEBIBYTE)
        wanted[2 * MEBIBYTE:5 * MEBIBYTE // 2] = bytes(MEBIBYTE // 2)
        wanted[7 * 512:10 * 512] = b"durable\n" * 192
        self.assertTrue(content == wanted)

    def test_console_and_entropy(self):
        """The terminal is /dev/hvc0; the serial port has what the kernel says."""
        serial = self.folder / "serial.log"
        # What follows -- is init's: a shell that has hvc0 for its terminal.
        shell = ("init=/bin/bash -- -c \"modprobe virtio_console; "
                 "setsid -w bash -i </dev/hvc0 >/dev/hvc0 2>&1; poweroff -f\"")
        console = self.boot("-serial", f"file:{serial}", "-chardev", "stdio,id=c", "-device",
                            "virtio-serial-pci", "-device", "virtconsole,chardev=c", "-device",
                            "virtio-rng-pci", init=shell)
        self.assertEqual(self.run_inside(console, "tty"), "/dev/hvc0")
        # More than all buffers of the queue hold, in both directions.
        numbers = self.run_inside(console, "seq 20000").split()
        self.assertEqual(numbers, [str(n) for n in range(1, 20001)])
        console.type("cat >/dev/null <<'END'\n" + ("x" * 60 + "\n") * 300 + "END\n")
        self.run_inside(console, "true")
        self.run_inside(console, "modprobe virtio_rng")
        self.assertEqual(
            self.run_inside(console, "cat /sys/class/misc/hw_random/rng_current"), "virtio_rng.0")
        drawn = self.run_inside(
            console, "for i in 1 2; do dd if=/dev/hwrng bs=32 count=1 status=none | od -An -tx1; done")
        lines = [line.replace(" ", "") for line in drawn.splitlines()]
        self.assertEqual([len(line) for line in lines], [32] * 4)
        self.assertEqual(len(set(lines)), 4)
        console.type("exit\n")
        self.assertEqual(console.wait(60), 0)
        self.assertIn("Power down", serial.read_text(errors="replace"))


if __name__ == "__main__":
    unittest.main()
