#!/usr/bin/env python3
"""Graphics cards under Debian's kernel: what its console shows is read from the screen."""

import gzip
import json
import pathlib
import shutil
import socket
import subprocess
import time
import unittest

from harness import SYSTEM, MachineTest
from console import Console
from full_kernel import kernel_folder
from initramfs import cpio
from picture import Picture

MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
           "drm", "drm_kms_helper", "ttm", "drm_ttm_helper", "drm_vram_helper", "bochs",
           "drm_shmem_helper", "virtio_dma_buf", "virtio-gpu"]

ALPHABET = "".join(chr(code) for code in range(0x21, 0x7F))
TEXT = "Limen shows this: 0123456789 {}"

# Clears the screen, hides the cursor, and writes the alphabet above the text.
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo 1 >/proc/sys/kernel/printk
for module in MODULES; do
  test -e /modules/$module.ko && insmod /modules/$module.ko
done
printf '\\033c\\033[?25l' >/dev/tty1
cat /text >/dev/tty1
echo drawn >/dev/ttyS0
read line </dev/ttyS0
printf '\\033[41m\\033[2J' >/dev/tty1
echo red >/dev/ttyS0
read line </dev/ttyS0
"""


class DisplayTest(MachineTest):
    def initrd(self):
        folder = kernel_folder()
        entries = [(name, 0o40755, b"") for name in ("modules", "dev", "proc", "sys")]
        init = INIT.replace("MODULES", " ".join(MODULES))
        entries += [("init", 0o100755, init.encode()),
                    ("text", 0o100644, f"{ALPHABET}\n{TEXT}\n".encode())]
        for name in MODULES:
            module = folder / "modules" / f"{name}.ko"
            if module.exists():
                entries.append((f"modules/{name}.ko", 0o100644, module.read_bytes()))
        base = (self.debian() / "initrd.img").read_bytes()
        return self.file("initrd", base + gzip.compress(cpio(entries), 1))

    def start(self, program, *words):
        folder = kernel_folder()
        if folder is None or not (folder / "modules" / "bochs.ko").exists():
            self.skipTest("Debian's kernel for any hardware is not there")
        monitor = str(self.folder / "monitor")
        machine = Console([
            program, "-m", "512M", "-display", "none", "-no-reboot", "-net", "none", "-kernel",
            str(folder / "vmlinuz"), "-initrd", self.initrd(), "-append",
            "console=ttyS0 quiet panic=-1 no_timer_check", "-serial", "stdio", "-qmp",
            f"unix:{monitor},server=on,wait=off", *words])
        self.addCleanup(machine.close)
        machine.expect("drawn", 300)
        # What the guest has drawn is transferred a little later, where the driver has to.
        time.sleep(1)
        return machine, monitor

    def qmp(self, path, command, **arguments):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            stream = connection.makefile("rw")
            stream.readline()
            answer = None
            for each in ({"execute": "qmp_capabilities"},
                         {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(each) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
            return answer

    def dump(self, monitor, name="screen.ppm", **arguments):
        path = str(self.folder / name)
        answer = self.qmp(monitor, "screendump", filename=path, **arguments)
        self.assertEqual(answer.get("return"), {}, answer)
        return path


class Display(DisplayTest):
    def check(self, *words, width=1280, height=800):
        machine, monitor = self.start(SYSTEM, *words)
        picture = Picture(self.dump(monitor))
        self.assertEqual((picture.width, picture.height), (width, height))
        self.assertEqual(picture.words(0, ALPHABET), ALPHABET)
        self.assertEqual(picture.words(1, ALPHABET), TEXT)
        self.assertEqual(picture.pixel(width - 1, height - 1), b"\0\0\0")
        machine.type("\n")
        machine.expect("red", 60)
        time.sleep(1)
        red = Picture(self.dump(monitor))
        self.assertEqual(red.pixel(width // 2, height // 2), b"\xaa\0\0")
        machine.close()
        return picture

    def check_against_qemu(self, picture, *words):
        qemu = shutil.which("qemu-system-x86_64", path="/usr/bin")
        if qemu is None:
            return
        _, monitor = self.start(qemu, "-machine", "q35", "-cpu", "max", *words)
        other = Picture(self.dump(monitor, "qemu.ppm"))
        self.assertEqual((picture.width, picture.height), (other.width, other.height))
        self.assertTrue(picture.pixels == other.pixels, "not what QEMU shows")

    def test_vga(self):
        picture = self.check("-vga", "std")
        self.check_against_qemu(picture, "-vga", "std")

    def test_bochs_display(self):
        self.check("-vga", "none", "-device", "bochs-display,xres=1024,yres=768", width=1024,
                   height=768)

    def test_virtio_gpu(self):
        self.check("-vga", "none", "-device", "virtio-gpu-pci")

    def test_virtio_vga(self):
        self.check("-vga", "virtio")


class Firmware(DisplayTest):
    """SeaBIOS' text mode, by the VGA BIOS on the card."""
    KNOWN = "SeaBIOS (version 1."  # how its first line begins: what the letters look like

    def screen(self, program, *words):
        monitor = str(self.folder / "monitor")
        machine = Console([program, "-m", "64M", "-display", "none", "-net", "none", "-serial",
                           "stdio", "-qmp", f"unix:{monitor},server=on,wait=off", *words])
        self.addCleanup(machine.close)
        end = time.monotonic() + 120
        picture = None
        while time.monotonic() < end:
            time.sleep(0.5)
            if not pathlib.Path(monitor).exists():
                continue
            picture = Picture(self.dump(monitor))
            if picture.width == 720 and self.row_of(picture, "No bootable device.") is not None:
                break
        machine.close()
        pathlib.Path(monitor).unlink(missing_ok=True)
        return picture

    def row_of(self, picture, text):
        """The row that has `text`, as far as its letters are known; None: there is none."""
        shapes = {letter: picture.cell(column, 0, 9) for column, letter in enumerate(self.KNOWN)}
        if len(set(shapes.values())) != len(shapes):
            return None
        for row in range(25):
            cells = [picture.cell(column, row, 9) for column in range(len(text))]
            if all(shapes.get(letter, cell) == cell and (letter == " ") == (cell == shapes[" "])
                   for letter, cell in zip(text, cells)):
                return row
        return None

    def test_text_mode(self):
        for card in ("std", "virtio"):
            picture = self.screen(SYSTEM, "-machine", "pc", "-vga", card)
            self.assertEqual((picture.width, picture.height), (720, 400))
            self.assertIsNotNone(self.row_of(picture, "No bootable device."))
            qemu = shutil.which("qemu-system-x86_64", path="/usr/bin")
            if qemu is None:
                continue
            other = self.screen(qemu, "-machine", "pc", "-vga", card)
            # The first line, with the version: the rest depends on what else is on the board.
            first = 3 * 720 * 16
            self.assertTrue(picture.pixels[:first] == other.pixels[:first], "not what QEMU shows")


class Screendump(MachineTest):
    def test_errors_are_worded_as_qemus(self):
        lines = ["screendump", "screendump /nowhere/x", "screendump x nobody", "screendump x r",
                 f"screendump {self.folder}/x -f gif", f"screendump {self.folder}/p.png -f png v 0",
                 "quit"]
        result = subprocess.run(
            [SYSTEM, "-display", "none", "-S", "-monitor", "stdio", "-machine", "q35", "-vga", "none",
             "-device", "VGA,id=v", "-device", "virtio-rng-pci,id=r", "-net", "none"],
            input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60, check=False)
        for text in ("screendump: filename expected",
                     "Error: failed to open file '/nowhere/x': No such file or directory",
                     "Error: Device 'nobody' not found",
                     "Error: Device 'r' (head 0) is not bound to a QemuConsole",
                     "invalid parameter value: gif"):
            self.assertIn(text, result.stdout)
        picture = (self.folder / "p.png").read_bytes()
        self.assertTrue(picture.startswith(b"\x89PNG\r\n\x1a\n"))
        self.assertIn(b"IEND", picture[-12:])

    def test_without_a_display_there_is_nothing_to_take(self):
        result = subprocess.run(
            [SYSTEM, "-display", "none", "-S", "-monitor", "stdio", "-machine", "q35", "-vga", "none",
             "-net", "none"], input="screendump x\nquit\n", capture_output=True, text=True,
            timeout=60, check=False)
        self.assertIn("There is no console to take a screendump from", result.stdout)


if __name__ == "__main__":
    unittest.main()
