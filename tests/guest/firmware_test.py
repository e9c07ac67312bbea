#!/usr/bin/env python3
"""Firmware: SeaBIOS and OVMF from power-on to what they boot, on both boards."""

import pathlib
import shutil
import subprocess
import unittest

from harness import SYSTEM, MachineTest
from console import Console  # found by way of harness

OVMF = "/usr/share/ovmf/OVMF.fd"
PROGRAMS = pathlib.Path(__file__).resolve().parent / "programs"

# By board, how the disk is attached.
ATTACHMENTS = {
    "pc": {
        "IDE": ["-drive", "file={},format=raw"],
        "virtio": ["-drive", "file={},format=raw,if=virtio"],
        "virtio-scsi": ["-drive", "file={},format=raw,if=none,id=d", "-device", "virtio-scsi-pci",
                        "-device", "scsi-hd,drive=d"],
        "USB": ["-drive", "file={},format=raw,if=none,id=d", "-usb", "-device",
                "usb-storage,drive=d,bootindex=0"],
    },
    "q35": {
        "AHCI": ["-hda", "{}"],
        "virtio": ["-drive", "file={},format=raw,if=virtio"],
        "NVMe": ["-drive", "file={},format=raw,if=none,id=d", "-device",
                 "nvme,drive=d,serial=1,bootindex=0"],
        "USB": ["-drive", "file={},format=raw,if=none,id=d", "-device", "qemu-xhci", "-device",
                "usb-storage,drive=d,bootindex=0"],
    },
}


class FirmwareTest(MachineTest):
    def boot_sector(self):
        """The path of a disk of 8 MiB that begins with the boot sector."""
        image = self.folder / "boot_sector.img"
        subprocess.run(["nasm", "-f", "bin", "-o", image, PROGRAMS / "boot_sector.asm"],
                       check=True)
        with image.open("ab") as file:
            file.truncate(8 << 20)
        return str(image)

    def start(self, *words, monitor=True):
        """A machine whose port E9h is the terminal."""
        self.socket = str(self.folder / "monitor")
        machine = Console([SYSTEM, "-m", "256", "-display", "none", "-nodefaults",
                           "-device", "isa-debugcon,iobase=0xe9,chardev=said",
                           "-chardev", "stdio,id=said,signal=off",
                           "-device", "isa-debug-exit,iobase=0xf4",
                           *(["-monitor", f"unix:{self.socket},server=on,wait=off"]
                             if monitor else []), *words])
        self.addCleanup(machine.close)
        return machine

    def monitor(self, command):
        """What the monitor answers."""
        return subprocess.run(["socat", "-t1", "-", f"UNIX-CONNECT:{self.socket}"], check=True,
                              input=command + "\n", text=True, stdout=subprocess.PIPE).stdout


class SeaBios(FirmwareTest):
    def test_boot_sector_from_every_disk_uses_the_bios(self):
        image = self.boot_sector()
        for board, attachments in ATTACHMENTS.items():
            for name, words in attachments.items():
                with self.subTest(board=board, disk=name):
                    machine = self.start("-machine", board, "-device", "VGA",
                                         *[word.format(image) for word in words])
                    machine.expect("drive 80", 30)
                    machine.expect("video 034C", 10)
                    machine.expect("disk two three", 10)
                    machine.expect("map ", 10)
                    machine.expect("key ", 10)
                    self.monitor("sendkey x")
                    machine.expect("78", 10)
                    self.assertEqual(machine.wait(10), 1)
                    self.assertGreater(int(machine.text.split("map ")[1][:2], 16), 4)

    def test_a_reset_starts_over(self):
        machine = self.start("-hda", self.boot_sector())
        machine.expect("key ", 30)
        self.monitor("system_reset")
        machine.expect("drive 80", 30)
        machine.expect("key ", 30)
        self.monitor("sendkey a")
        machine.expect("61", 10)
        self.assertEqual(machine.wait(10), 1)

    def test_once_is_until_the_first_reset(self):
        boot_order = "o /b 0x70 0x3d\ni /b 0x71\n"  # in CMOS
        result = subprocess.run(
            [SYSTEM, "-S", "-display", "none", "-nodefaults", "-monitor", "stdio", "-boot",
             "order=c,once=n"], check=True, text=True, stdout=subprocess.PIPE, timeout=30,
            input=boot_order + "system_reset\n" + boot_order + "quit\n")
        self.assertRegex(result.stdout, r"(?s)= 0x04.*system_reset.*= 0x02")

    def test_a_card_can_be_plugged_in_later(self):
        machine = self.start("-machine", "q35", "-hda", self.boot_sector(), "-device",
                             "pcie-root-port,id=slot", "-netdev", "user,id=n")
        machine.expect("drive 80", 30)
        answer = self.monitor("device_add virtio-net-pci,bus=slot,netdev=n,id=late\ninfo network")
        self.assertNotIn("rror", answer)
        self.assertIn("late:", answer)

    def test_boots_what_bootindex_says(self):
        other = self.file("other.img", b"\xFA\xF4" + bytes(508) + b"\x55\xAA" + bytes(1 << 20))
        words = []
        for name, image, index in [("a", other, 2), ("b", self.boot_sector(), 1)]:
            words += ["-drive", f"file={image},format=raw,if=none,id={name}", "-device",
                      f"virtio-blk-pci,drive={name},bootindex={index}"]
        for board in ATTACHMENTS:
            with self.subTest(board=board):
                machine = self.start("-machine", board, *words)
                machine.expect("disk two three", 30)
                machine.close()

    def test_a_network_card_boots_from_tftp(self):
        with open(self.boot_sector(), "r+b") as file:
            file.truncate(1536)  # what a network card takes for a program must fit below 640 KiB
        machine = self.start("-device", "VGA", "-netdev",
                             f"user,id=n,tftp={self.folder},bootfile=/boot_sector.img",
                             "-device", "virtio-net-pci,netdev=n")
        # Without a disk it gets no further, but it runs.
        machine.expect("no CHS|no LBA", 60)
        self.assertEqual(machine.wait(10), 3)


class Ovmf(FirmwareTest):
    def test_shell_on_both_boards(self):
        if not pathlib.Path(OVMF).exists():
            self.skipTest("Debian's package ovmf is not there")
        for board in ATTACHMENTS:
            with self.subTest(board=board):
                machine = Console([SYSTEM, "-m", "512", "-machine", board, "-bios", OVMF,
                                   "-nographic", "-nodefaults", "-serial", "stdio"])
                self.addCleanup(machine.close)
                machine.expect("UEFI Interactive Shell", 120)
                machine.expect("Shell>", 60)
                machine.type("reset -s\r")
                self.assertEqual(machine.wait(30), 0)

    def test_runs_a_script_from_a_usb_disk(self):
        if not pathlib.Path(OVMF).exists():
            self.skipTest("Debian's package ovmf is not there")
        image = self.file("usb.img", bytes(8 << 20))
        script = self.file("startup.nsh", b"@echo -off\r\necho from the usb disk\r\nreset -s\r\n")
        subprocess.run(["/usr/sbin/mkfs.vfat", image], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mcopy", "-i", image, script, "::startup.nsh"], check=True)
        machine = Console([SYSTEM, "-m", "512", "-bios", OVMF, "-nographic", "-nodefaults",
                           "-serial", "stdio", "-usb", "-device", "usb-storage,drive=d", "-drive",
                           f"file={image},format=raw,if=none,id=d"])
        self.addCleanup(machine.close)
        machine.expect("from the usb disk", 120)
        self.assertEqual(machine.wait(30), 0)

    def test_variables_are_kept_in_flash(self):
        code = "/usr/share/OVMF/OVMF_CODE_4M.fd"
        if not pathlib.Path(code).exists():
            self.skipTest("Debian's package ovmf is not there")
        variables = self.folder / "vars.fd"
        shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
        words = [SYSTEM, "-m", "512", "-machine", "q35", "-nographic", "-nodefaults", "-serial",
                 "stdio", "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
                 "-drive", f"if=pflash,unit=1,format=raw,file={variables}"]
        name = "BootOrder".encode("utf-16-le")
        self.assertFalse(name in variables.read_bytes(), "nobody booted with it yet")
        machine = Console(words)
        self.addCleanup(machine.close)
        machine.expect("Shell>", 120)
        self.assertTrue(name in variables.read_bytes(), "the firmware has saved its order")
        machine.type("reset\r")
        machine.expect("Shell>", 120)

    def test_debian_starts_from_firmware_with_two_processors(self):
        folder = self.debian()
        if not pathlib.Path(OVMF).exists():
            self.skipTest("Debian's package ovmf is not there")
        for board in ATTACHMENTS:
            with self.subTest(board=board):
                machine = Console([
                    SYSTEM, "-m", "1G", "-smp", "2", "-machine", board, "-bios", OVMF, "-nographic",
                    "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.img"),
                    "-append", "console=ttyS0 root=/dev/vda ro quiet init=/bin/bash -- -c \"nproc; "
                    "ls /sys/firmware/efi/systab /sys/firmware/acpi/tables; cat "
                    "/sys/class/dmi/id/product_name /proc/interrupts; echo o >"
                    "/proc/sysrq-trigger; while :; do :; done\"",
                    "-drive", f"file={folder / 'disk.raw'},format=raw,if=virtio,snapshot=on"])
                self.addCleanup(machine.close)
                machine.expect("Standard PC", 180)
                self.assertEqual(machine.wait(60), 0)

    def test_every_kind_of_reboot(self):
        """Linux's reboot=: by ACPI, keyboard controller, triple fault, port CF9H, firmware."""
        folder = self.debian()
        if not pathlib.Path(OVMF).exists():
            self.skipTest("Debian's package ovmf is not there")
        for kind in ("acpi", "kbd", "triple", "pci", "efi"):
            with self.subTest(kind=kind):
                machine = Console([
                    SYSTEM, "-m", "512", "-machine", "q35", "-bios", OVMF, "-nographic",
                    "-no-reboot", "-kernel", str(folder / "vmlinuz"), "-initrd",
                    str(folder / "initrd.img"), "-append", "console=ttyS0 quiet rdinit=/bin/sh "
                    f"reboot={kind},force -- -c \"mkdir /proc; mount -t proc proc /proc; echo b >"
                    "/proc/sysrq-trigger\""])
                self.addCleanup(machine.close)
                # A triple fault is reported as a crash where it ends the machine.
                self.assertEqual(machine.wait(60), 1 if kind == "triple" else 0,
                                 machine.text[-500:])


class BadFirmware(FirmwareTest):
    def refused(self, *words):
        return self.run_program(SYSTEM, "-display", "none", *words)

    def test_a_file_that_is_not_there(self):
        self.assert_one_line_error(self.refused("-bios", "OVMF_CODE_8M.fd"), "OVMF_CODE_8M.fd",
                                   "Debian's package ovmf")

    def test_a_flash_keeps_its_image(self):
        variables = self.file("vars.fd", bytes(1 << 20))
        code = self.file("code.fd", bytes(1 << 20))
        result = subprocess.run(
            [SYSTEM, "-S", "-display", "none", "-nodefaults", "-monitor", "stdio", "-drive",
             f"if=pflash,unit=0,format=raw,readonly=on,file={code}", "-drive",
             f"if=pflash,unit=1,format=raw,id=vars,file={variables}"], check=True, text=True,
            stdout=subprocess.PIPE, timeout=30,
            # What a device had that could not be made is given back, and nothing else.
            input="device_add virtio-blk-pci,drive=nope\ndrive_del vars\ninfo block\nquit\n")
        self.assertIn(f": {variables}", result.stdout)

    def test_a_file_of_the_wrong_size(self):
        path = self.file("odd.bin", bytes(1000))
        self.assert_one_line_error(self.refused("-bios", path), path, "1000 bytes",
                                   "a multiple of 65536")


if __name__ == "__main__":
    unittest.main()
