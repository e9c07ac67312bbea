#!/usr/bin/env python3
"""Systems from their own disks, as they are in Debian's packages: what they say is read from the serial
port or from the screen."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import SYSTEM, MachineTest, installed_guest_folder
from console import Console  # found by way of harness

OVMF = "/usr/share/ovmf/OVMF.fd"
MEMORY_TEST = "/usr/lib/memtest86+/memtest86+x64.iso"
INSTALLER = pathlib.Path("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")
# What GRUB needs to be told once: from then on the disk starts by itself.
INSTALL = {
    "mbr": "grub-install /dev/vda",
    "efi": "modprobe vfat; mount -t vfat /dev/vda1 /boot/efi; "
           "grub-install --target=x86_64-efi --removable --no-nvram; umount /boot/efi",
}
TEXT_SCREEN, COLUMNS, ROWS = 0xB8000, 80, 25


class Machine(Console):
    """One whose serial port is the terminal, and whose text screen can be read."""

    def __init__(self, folder, *words):
        self.socket = pathlib.Path(folder) / "monitor"
        self.socket.unlink(missing_ok=True)
        super().__init__([SYSTEM, "-display", "none", "-serial", "stdio", "-monitor",
                          f"unix:{self.socket},server=on,wait=off", *words])
        while not self.socket.exists() and self.process.poll() is None:
            time.sleep(0.05)

    def monitor(self, command):
        return subprocess.run(["socat", "-t1", "-", f"UNIX-CONNECT:{self.socket}"], check=True,
                              input=command + "\n", text=True, stdout=subprocess.PIPE).stdout

    def screen(self):
        """The lines of the VGA's text screen."""
        words = re.findall(r" 0x([0-9a-f]{4})\b",
                           self.monitor(f"xp /{COLUMNS * ROWS}xh {TEXT_SCREEN:#x}"))
        text = "".join(chr(int(word, 16) & 0x7F) for word in words)
        return "\n".join(text[at:at + COLUMNS].rstrip() for at in range(0, len(text), COLUMNS))

    def expect_on_screen(self, pattern, timeout):
        deadline = time.monotonic() + timeout
        while not re.search(pattern, text := self.screen()):
            if time.monotonic() > deadline:
                raise AssertionError(f"'{pattern}' is not on the screen:\n{text}")
            time.sleep(0.2)
        return text


class SystemTest(MachineTest):
    machine = None

    def start(self, *words):
        """The machine before it ends."""
        if self.machine is not None:
            self.machine.close()
        self.machine = Machine(self.folder, *words)
        self.addCleanup(self.machine.close)
        return self.machine

    def package_file(self, path):
        if not pathlib.Path(path).exists():
            self.skipTest(f"{path} is not there")
        return str(path)


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
                "echo o >/proc/sysrq-trigger; sleep 60\"",
                "-drive", f"file={disk},format=raw,if=virtio"])
            self.addCleanup(machine.close)
            machine.expect("Installation finished. No error reported", 120)
            machine.expect("\ninstalled", 60)
            self.assertEqual(machine.wait(60), 0)
            self.disks[kind] = str(disk)
        return f"file={self.disks[kind]},format=raw,snapshot=on"

    def boots(self, *words):
        machine = self.start("-m", "1G", *words)
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
                self.boots("-machine", "q35", "-bios", OVMF,
                           *[word.format(self.disk("efi")) for word in words])


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


class RescueImages(SystemTest):
    def test_grub_from_cd_and_disk(self):
        cd = self.package_file("/usr/lib/grub-rescue/grub-rescue-cdrom.iso")
        floppy = self.package_file("/usr/lib/grub-rescue/grub-rescue-floppy.img")
        for words in (["-cdrom", cd], ["-drive", f"file={floppy},format=raw,snapshot=on"]):
            with self.subTest(words=words):
                machine = self.start("-m", "128", *words)
                machine.expect_on_screen(r"GNU GRUB +version", 60)
                machine.expect_on_screen(r"Memtest86\+", 20)
                machine.monitor("sendkey c")
                machine.expect_on_screen(r"grub>", 20)


class MemoryTest(SystemTest):
    """It takes minutes, so it runs beside all the others: setUpModule() starts it."""
    machine = None

    def test_passes(self):
        self.package_file(MEMORY_TEST)
        screen = MemoryTest.machine.expect_on_screen(r"Pass: +[1-9]", 400)
        self.assertRegex(screen, r"Errors: 0")


def setUpModule():
    folder = tempfile.TemporaryDirectory(prefix="limen-systems-")
    unittest.addModuleCleanup(folder.cleanup)
    if pathlib.Path(MEMORY_TEST).exists():
        MemoryTest.machine = Machine(folder.name, "-m", "64", "-cdrom", MEMORY_TEST)
        unittest.addModuleCleanup(MemoryTest.machine.close)


class Installer(SystemTest):
    def tftp(self):
        """A folder for network boot, with the installer and a configuration without menus."""
        if not INSTALLER.exists():
            self.skipTest("Debian's package debian-installer-12-netboot-amd64 is not there")
        shutil.copy(INSTALLER / "pxelinux.0", self.folder)
        shutil.copy(INSTALLER / "boot-screens" / "ldlinux.c32", self.folder)
        for name in ("linux", "initrd.gz"):
            (self.folder / name).symlink_to(INSTALLER / name)
        (self.folder / "pxelinux.cfg").mkdir()
        (self.folder / "pxelinux.cfg" / "default").write_text(
            "DEFAULT installer\nLABEL installer\nKERNEL linux\n"
            "APPEND initrd=initrd.gz console=ttyS0\n")
        return str(self.folder)

    def test_first_dialog_by_network_boot(self):
        machine = self.start("-m", "1G", "-netdev",
                             f"user,id=n,tftp={self.tftp()},bootfile=/pxelinux.0", "-device",
                             "virtio-net-pci,netdev=n", "-boot", "n")
        machine.expect("Select a language", 240)


if __name__ == "__main__":
    unittest.main()
