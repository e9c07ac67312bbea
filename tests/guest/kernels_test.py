#!/usr/bin/env python3
"""Every kind of kernel starts and is told where its information is; small kernels try small devices."""

import struct
import unittest

import harness
from console import Console
from harness import SYSTEM, MachineTest

FAIL = harness.say("no\n") + harness.POWER_OFF


def unless_equal(compare):
    """Code that ends the machine with "no" where what `compare` compares differs."""
    return compare + b"\x0f\x84" + struct.pack("<I", len(FAIL)) + FAIL


SAY_YES = harness.say("yes\n") + harness.POWER_OFF


class Kernels(MachineTest):
    def run_kernel(self, image, *words):
        result = self.run_program(SYSTEM, "-nographic", "-m", "16M", "-no-reboot", "-kernel",
                                  self.file("kernel", image), *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_multiboot(self):
        told = unless_equal(b"\x3d" + struct.pack("<I", 0x2BADB002))  # cmp eax
        self.assertEqual(self.run_kernel(harness.multiboot(told + SAY_YES)), "yes\n")

    def test_pvh(self):
        told = unless_equal(b"\x81\x3b" + struct.pack("<I", 0x336EC578))  # cmp dword [ebx]
        self.assertEqual(self.run_kernel(harness.pvh(told + SAY_YES)), "yes\n")

    def test_linux(self):
        console = Console([
            SYSTEM, "-nographic", "-m", "256M", "-no-reboot", "-kernel",
            str(self.debian() / "vmlinuz"), "-append", "console=ttyS0 panic=-1 said=this"])
        self.addCleanup(console.close)
        console.expect(r"Command line: console=ttyS0 panic=-1 said=this\s", 120)
        # Nobody gave it a disk or an initrd.
        console.expect("Unable to mount root fs", 300)
        self.assertEqual(console.wait(60), 0)

    def test_pc_testdev(self):
        """Four bytes that keep what is written at port E0h, memory that does at FF000000h."""
        value, memory = struct.pack("<I", 0x12345678), struct.pack("<I", 0xFF000000)
        code = b"\xb8" + value + b"\xe7\xe0\xa3" + memory  # mov eax; out E0h, eax; mov [m], eax
        code += b"\x31\xc0\xe5\xe0" + unless_equal(b"\x3d" + value)  # xor eax, eax; in eax, E0h
        code += unless_equal(b"\x81\x3d" + memory + value)  # cmp dword [m]
        image = harness.multiboot(code + SAY_YES)
        self.assertEqual(self.run_kernel(image, "-device", "pc-testdev"), "yes\n")
        self.assertEqual(self.run_kernel(image), "no\n")


if __name__ == "__main__":
    unittest.main()
