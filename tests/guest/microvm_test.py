#!/usr/bin/env python3
"""Board microvm: Debian's kernel for clouds on virtio devices without PCI."""

import os
import subprocess
import unittest

from harness import SYSTEM, MachineTest
from console import Console  # found by way of harness


class Microvm(MachineTest):
    def start(self, board, append, *words, script):
        """A shell on the guest's disk instead of its init."""
        folder = self.debian()
        machine = Console([
            SYSTEM, "-m", "512", "-machine", f"microvm{board}", "-nographic", "-no-reboot",
            "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.img"),
            "-append", f"console=ttyS0 root=/dev/vda ro quiet {append} init=/bin/bash -- -c "
            f"\"mount -t proc proc /proc; mount -t sysfs sysfs /sys; {script}; "
            "echo o >/proc/sysrq-trigger; while :; do :; done\"",
            "-drive", f"file={folder / 'disk.raw'},format=raw,if=virtio,snapshot=on", *words])
        self.addCleanup(machine.close)
        return machine

    def test_acpi_tells_of_the_devices(self):
        machine = self.start("", "", "-smp", "2", "-device", "virtio-rng-device", "-nic", "user",
                             script="nproc; ls /sys/bus/pci/devices | wc -l; "
                             "ls /sys/bus/virtio/devices; cat /proc/interrupts; "
                             "cat /sys/class/net/eth0/address")
        machine.expect(r"\n2\r?\n0\r?\n", 60)
        machine.expect("virtio0 +virtio1 +virtio2", 10)
        machine.expect(r"IO-APIC +1[67]-fasteoi +virtio", 10)
        machine.expect("52:54:00:12:34:56", 10)
        self.assertEqual(machine.wait(30), 0)

    def test_without_acpi_the_command_line_tells_of_the_devices(self):
        # Debian's kernel does not take them from there (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES);
        # programs/mmio.cc does.
        machine = self.start(",acpi=off,rtc=off", "loglevel=7 panic=-1 rdinit=/bin/true",
                             script="true")
        machine.expect(r"Kernel command line:.* virtio_mmio\.device=512@0xfeb00000:5", 60)
        machine.expect("Run /bin/true as init process", 60)
        machine.expect("Kernel panic - not syncing: Attempted to kill init", 60)
        # No ACPI, no keyboard controller: the kernel restarts through the BIOS.
        self.assertEqual(machine.wait(30), 0)

    def mmio(self, board, *words):
        """What programs/mmio.cc finds, line by line."""
        result = self.run_program(
            SYSTEM, "-machine", f"microvm,acpi=off{board}", "-m", "16M", "-display", "none",
            "-serial", "stdio", "-nodefaults", "-no-reboot", "-kernel",
            os.environ["LIMEN_GUEST_PROGRAMS"] + "/mmio", *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.splitlines()

    def test_a_kernel_finds_devices_on_its_command_line_and_interrupts_in_the_mp_table(self):
        disk = self.file("disk.raw", b"sector 0".ljust(512))
        # The ninth shares the line of the first.
        entropy = ["-device", "virtio-rng-device"] * 7
        lines = self.mmio("", "-smp", "3", "-drive", f"file={disk},format=raw,if=none,id=disk",
                          "-device", "virtio-blk-device,drive=disk", *entropy,
                          "-device", "virtio-balloon-device", "-append", "quiet")
        inputs = [5, 10, 11, 9, 12, 7, 14, 15]
        self.assertEqual(lines, [
            "processors: 3 listed, 3 run",
            "at feb00000: block, input 5 level, interrupted, read sector 0",
            *(f"at {0xfeb00000 + 0x200 * i:x}: entropy, input {inputs[i]} level, interrupted"
              for i in range(1, 8)),
            "at feb01000: other", "done"])

    def test_the_mp_table_without_the_old_clocks_and_interrupt_controller(self):
        lines = self.mmio(",pic=off,pit=off,rtc=off", "-device", "virtio-rng-device")
        self.assertEqual(lines, ["processors: 1 listed, 1 run",
                                 "at feb00000: entropy, input 5 level, interrupted", "done"])

    def test_the_command_line_is_left_alone_when_that_is_asked_for(self):
        self.assertEqual(self.mmio(",auto-kernel-cmdline=off", "-device", "virtio-rng-device"),
                         ["processors: 1 listed, 1 run", "done"])

    def test_pcie_is_there_when_it_is_asked_for(self):
        machine = self.start(",pcie=on", "", script="ls /sys/bus/pci/devices | wc -l")
        machine.expect(r"\n[3-9]\r?\n", 60)
        self.assertEqual(machine.wait(30), 0)

    def test_the_power_button(self):
        socket = str(self.folder / "monitor")
        machine = self.start("", "", "-monitor", f"unix:{socket},server=on,wait=off",
                             script="modprobe button; modprobe evdev; "
                             "(dd if=/dev/input/event0 of=/dev/null bs=24 count=1; echo pressed) & "
                             "sleep 1; echo ready; wait")
        machine.expect("\nready", 60)
        subprocess.run(["socat", "-t1", "-", f"UNIX-CONNECT:{socket}"], check=True,
                       input=b"system_powerdown\n", stdout=subprocess.DEVNULL)
        machine.expect("pressed", 30)
        self.assertEqual(machine.wait(30), 0)

    def test_what_it_has_not(self):
        kernel = ["-kernel", str(self.debian() / "vmlinuz")]
        for words, parts in [
                (["-machine", "microvm"], ["-kernel is missing"]),
                (["-machine", "microvm", *kernel, "-device", "virtio-rng-pci"],
                 ["No 'PCI' bus found for device 'virtio-rng-pci'"]),
                (["-machine", "microvm,hpet=on", *kernel], ["hpet=on"]),
                (["-machine", "pc", *kernel, "-device", "virtio-rng-device"],
                 ["No 'virtio-bus' bus found for device 'virtio-rng-device'"]),
                (["-machine", "pc,pcie=on"], ["pcie"]),
        ]:
            with self.subTest(words=words):
                self.assert_one_line_error(
                    self.run_program(SYSTEM, "-display", "none", *words), *parts)


if __name__ == "__main__":
    unittest.main()
