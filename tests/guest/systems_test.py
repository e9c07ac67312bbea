#!/usr/bin/env python3
"""Systems from their own disks, as they are in Debian's packages: what they say is read from the serial
port or from the screen."""

import pathlib
import subprocess
import tempfile
import unittest

from harness import SYSTEM, installed_guest_folder
from console import Console  # found by way of harness
from systems import OVMF, THROUGH_OVMF, SystemTest

# What GRUB needs to be told once: from then on the disk starts by itself.
INSTALL = {
    "mbr": "grub-install /dev/vda",
    "efi": "modprobe vfat; mount -t vfat /dev/vda1 /boot/efi; "
           "grub-install --target=x86_64-efi --removable --no-nvram; umount /boot/efi",
}


class InstalledDebian(SystemTest):
    disks = {}

    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory(prefix="limen-systems-")))

    def disk(self, kind):
        """A disk on which GRUB was installed, by the system that is on it."""
        if kind not in self.disks:
            folder = installed_guest_folder()
            if folder is None:
                self.skipTest("the disks with a boot loader were not made yet")
            disk = self.shared / f"{kind}.raw"
            subprocess.run(["cp", "--sparse=always", folder / f"{kind}.raw", disk], check=True)
            machine = Console([
                SYSTEM, "-m", "1G", "-nographic", "-no-reboot", "-kernel", str(folder / "vmlinuz"),
                "-initrd", str(folder / "initrd.img"), "-append", "console=ttyS0 root=LABEL=limen-root "
                f"rw quiet init=/bin/bash -- -c \"mount -t proc proc /proc; {INSTALL[kind]}; "
                "update-grub && sync && mount -o remount,ro / && echo installed; "
                "echo o >/proc/sysrq-trigger; while :; do :; done\"",
                "-drive", f"file={disk},format=raw,if=virtio"])
            self.addCleanup(machine.close)
            machine.expect("Installation finished. No error reported", 120)
            machine.expect("\ninstalled", 60)
            self.assertEqual(machine.wait(60), 0)
            self.disks[kind] = str(disk)
        return f"file={self.disks[kind]},format=raw,snapshot=on"

    def boots(self, *words):
        with self.start("-m", "1G", *words) as machine:
            machine.expect("GNU GRUB", 60)
            machine.type("\r")
            machine.expect("limen-guest login:", 180)

    def test_from_seabios(self):
        for board, interface in [("pc", "ide"), ("q35", "ide"), ("pc", "virtio")]:
            with self.subTest(board=board, interface=interface):
                self.boots("-machine", board, "-drive", f"{self.disk('mbr')},if={interface}")

    def test_from_ovmf(self):
        self.package_file(OVMF)
        for name, words in {
                "virtio": ["-drive", "{},if=virtio"],
                "NVMe": ["-drive", "{},if=none,id=d", "-device", "nvme,drive=d,serial=1"]}.items():
            with self.subTest(disk=name):
                self.boots(*THROUGH_OVMF, *[word.format(self.disk("efi")) for word in words])

    def test_xen_with_debian_as_its_first_domain(self):
        machine = self.start("-m", "1G", "-machine", "q35", "-drive",
                             f"{self.disk('mbr')},if=virtio")
        machine.expect("GNU GRUB", 60)
        machine.type("c")
        for line in ["multiboot2 /boot/xen-4.17-amd64.gz console=com1 com1=115200 noreboot",
                     "module2 /vmlinuz root=LABEL=limen-root ro console=hvc0 quiet",
                     "module2 /initrd.img"]:
            machine.expect("grub>", 120)
            machine.type(line + "\r")
        machine.expect("grub>", 120)
        machine.type("boot\r")
        machine.expect("Xen version 4.17", 60)
        machine.expect("limen-guest login:", 240)


if __name__ == "__main__":
    unittest.main()
