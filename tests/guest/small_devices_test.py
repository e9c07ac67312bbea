#!/usr/bin/env python3
"""Devices that a host manages a guest by: the balloon, pvpanic, a port for a guest agent."""

import pathlib
import re
import shutil
import subprocess
import time
import unittest

import harness
from console import Console
from harness import SYSTEM, MachineTest


def outb(port, value):
    return harness.outb(port, value)


class Panic(MachineTest):
    def start(self, code, *words):
        kernel = self.file("kernel", harness.multiboot(code))
        machine = Console([SYSTEM, "-nographic", "-kernel", kernel, *words])
        self.addCleanup(machine.close)
        return machine

    def test_ends_the_machine(self):
        machine = self.start(outb(0x505, 1) + harness.HALT_FOREVER, "-device", "pvpanic")
        self.assertEqual(machine.wait(30), 0)
        self.assertIn("the guest panicked", machine.text)

    def test_without_the_device_nothing_happens(self):
        machine = self.start(outb(0x505, 1) + harness.say("on") + harness.POWER_OFF)
        machine.expect("on", 30)
        self.assertEqual(machine.wait(30), 0)
        self.assertNotIn("panicked", machine.text)

    def test_a_crash_kernel_goes_on(self):
        machine = self.start(outb(0x600, 2) + harness.say("on") + harness.POWER_OFF, "-device",
                             "pvpanic,ioport=0x600")
        machine.expect("on", 30)
        self.assertEqual(machine.wait(30), 0)

    def test_no_shutdown_keeps_it(self):
        machine = self.start(outb(0x505, 1) + harness.HALT_FOREVER, "-device", "pvpanic",
                             "-no-shutdown")
        machine.expect("panicked", 30)
        machine.type("\x01x")
        self.assertEqual(machine.wait(10), 0)


@unittest.skipUnless(shutil.which("gdb"), "there is no gdb")
class Debian(MachineTest):
    """Debian's drivers; what a monitor would ask comes by way of gdb's `monitor`."""

    def monitor(self, *commands):
        script = self.file("script", "\n".join(
            ["set confirm off", f"target remote {self.socket}",
             *(f"monitor {command}" for command in commands), "detach", ""]).encode())
        return subprocess.run(["gdb", "-nx", "-batch", "-x", script], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=True).stdout

    def wait_balloon(self, size):
        """The guest gives and takes page by page."""
        end = time.monotonic() + 60
        while f"balloon: actual={size}\n" not in (output := self.monitor("info balloon")):
            self.assertLess(time.monotonic(), end, output)
            time.sleep(0.5)

    def held(self, machine):
        """KiB of the guest's RAM that the host holds."""
        status = pathlib.Path(f"/proc/{machine.process.pid}/status").read_text()
        return int(re.search(r"RssShmem:\s+(\d+) kB", status).group(1))

    def test_balloon(self):
        guest = self.debian()
        self.socket = str(self.folder / "gdb")
        disk = str(self.folder / "disk.raw")
        subprocess.run(["cp", "--sparse=always", str(guest / "disk.raw"), disk], check=True)
        machine = Console([
            SYSTEM, "-m", "1G", "-smp", "2", "-nographic", "-kernel", str(guest / "vmlinuz"),
            "-initrd", str(guest / "initrd.img"), "-append", "root=/dev/vda rw console=ttyS0",
            "-drive", f"file={disk},format=raw,if=virtio", "-device",
            "virtio-balloon-pci,free-page-reporting=on", "-gdb", f"unix:{self.socket}"])
        self.addCleanup(machine.close)
        machine.wait_for_login(600)
        machine.log_in("root", "limen", 300)
        status, output = machine.run("modprobe virtio_balloon; lsmod | grep balloon", 60)
        self.assertEqual(status, 0, output)

        def total():
            return int(machine.run("awk '/MemTotal/ {print $2}' /proc/meminfo", 60)[1])

        before = total()
        # Free pages are reported on their own: what a file took comes back.
        status, output = machine.run(
            "head -c 300M /dev/zero >/dev/shm/file; sleep 1; rm /dev/shm/file; echo done", 120)
        self.assertEqual(status, 0, output)
        full = self.held(machine)
        machine.run("sleep 6", 60)
        self.assertLess(self.held(machine), full - 150 * 1024)

        self.monitor("balloon 600")
        self.assertEqual(machine.run(
            "n=0; until [ $(awk '/MemTotal/ {print $2}' /proc/meminfo) -lt 650000 ] || "
            "[ $n = 60 ]; do n=$((n+1)); sleep 1; done; [ $n -lt 60 ]", 200)[0], 0)
        self.wait_balloon(600)
        self.monitor("balloon 1024")
        self.wait_balloon(1024)
        self.assertGreater(total(), before - 10000)
        machine.type("systemctl poweroff\n")
        self.assertEqual(machine.wait(300), 0)
        self.assertNotRegex(machine.text, "segfault|BUG:|soft lockup")

    def test_hot_plug(self):
        guest = self.debian()
        self.socket = str(self.folder / "gdb")
        disk = str(self.folder / "disk.raw")
        subprocess.run(["cp", "--sparse=always", str(guest / "disk.raw"), disk], check=True)
        spare = self.file("spare.raw", b"plugged in" + bytes((1 << 20) - 10))
        machine = Console([
            SYSTEM, "-M", "q35", "-m", "512M", "-smp", "2", "-nographic", "-kernel",
            str(guest / "vmlinuz"), "-initrd", str(guest / "initrd.img"), "-append",
            "root=/dev/vda rw console=ttyS0", "-drive", f"file={disk},format=raw,if=virtio",
            "-drive", f"file={spare},format=raw,if=none,id=spare",
            "-device", "pcie-root-port,id=rp1,bus=pcie.0,chassis=1,slot=1",
            "-device", "pcie-root-port,id=rp2,chassis=1,slot=2",
            "-device", "virtio-rng-pci,bus=rp2,id=cold", "-gdb", f"unix:{self.socket}"])
        self.addCleanup(machine.close)
        machine.wait_for_login(600)
        machine.log_in("root", "limen", 300)
        status, output = machine.run("dmesg | grep -i pciehp; ls -l /sys/bus/pci/devices; "
                                     "cat /sys/bus/pci/devices/0000:02:00.0/vendor", 60)
        self.assertIn("0x1af4", output)
        for round_ in range(2):
            self.assertEqual(self.monitor(
                "device_add virtio-blk-pci,drive=spare,id=hot,bus=rp1").count("Error"), 0)
            status, output = machine.run(
                "n=0; until [ -b /dev/vdb ] || [ $n = 30 ]; do n=$((n+1)); sleep 1; done; "
                "head -c 10 /dev/vdb; echo; echo 'round' >/dev/vdb; sync", 120)
            self.assertEqual(status, 0, output)
            self.assertIn("plugged in" if round_ == 0 else "round", output)
            self.assertIn("is in use", self.monitor("device_add virtio-rng-pci,bus=rp1"))
            self.assertEqual(self.monitor("device_del hot").count("Error"), 0)
            status, output = machine.run(
                "n=0; while [ -b /dev/vdb ] && [ $n != 30 ]; do n=$((n+1)); sleep 1; done; "
                "[ ! -b /dev/vdb ]; r=$?; sleep 2; dmesg | tail -20; [ $r = 0 ]", 120)
            self.assertEqual(status, 0, output)
        output = self.monitor("device_del hot", "device_add virtio-rng-pci,bus=pcie.0",
                              "device_add nothing,bus=rp1", "device_add virtio-rng-pci,bus=rp9")
        self.assertIn("Device 'hot' not found", output)
        self.assertIn("Bus 'pcie.0' does not support hotplugging", output)
        self.assertIn("'nothing' is not a valid device model name", output)
        self.assertIn("Bus 'rp9' not found", output)
        machine.type("systemctl poweroff\n")
        self.assertEqual(machine.wait(300), 0)
        self.assertNotRegex(machine.text, "segfault|BUG:|soft lockup")


if __name__ == "__main__":
    unittest.main()
