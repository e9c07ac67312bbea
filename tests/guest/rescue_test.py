#!/usr/bin/env python3
"""Systems without a disk of their own: GRUB's rescue images, memtest86+, by both firmwares."""

import concurrent.futures
import pathlib
import re
import tempfile
import unittest

from systems import THROUGH_OVMF, Machine, SystemTest, grub_cd

MEMORY_TEST_CD = "/usr/lib/memtest86+/memtest86+x64.iso"
MEMORY_TEST_FOR_EFI = "/boot/memtest86+x64.efi"
GRUB_FOR_EFI = "/usr/lib/grub/x86_64-efi/moddep.lst"
NEEDED_FOR_EFI = (THROUGH_OVMF[-1], MEMORY_TEST_FOR_EFI, GRUB_FOR_EFI)
# EFI has no text screen: the memory test is told to write to the serial port too.
MENU = 'menuentry "memory test" {\n  linux /memtest.efi console=ttyS0\n}\n'
A_PASS = r"Pass: +([1-9]\d*) +Errors: +(\d+)"


class Shared:
    """What setUpModule() makes for all: the CD, and a machine with each memory test, which takes
    minutes, so that they run beside all the others."""

    cd = None
    memory_tests = {}


def memory_test_from_cd(folder):
    with Machine(folder, "-m", "64", "-cdrom", MEMORY_TEST_CD) as machine:
        return re.search(A_PASS, machine.expect_on_screen(A_PASS, 600))[2]


def memory_test_for_efi(folder):
    with Machine(folder, "-m", "64", "-smp", "2", *THROUGH_OVMF, "-net", "none",
                 "-cdrom", Shared.cd) as machine:
        machine.expect("GNU GRUB", 60)
        machine.type("\r")
        return machine.expect(A_PASS, 600)[2]


def setUpModule():
    folder = tempfile.TemporaryDirectory(prefix="limen-rescue-")
    unittest.addModuleCleanup(folder.cleanup)
    pool = concurrent.futures.ThreadPoolExecutor()
    unittest.addModuleCleanup(pool.shutdown)
    if pathlib.Path(MEMORY_TEST_CD).exists():
        Shared.memory_tests["SeaBIOS"] = pool.submit(memory_test_from_cd, folder.name)
    if all(pathlib.Path(file).exists() for file in NEEDED_FOR_EFI):
        Shared.cd = grub_cd(pathlib.Path(folder.name) / "cd.iso", MENU,
                            **{"memtest.efi": MEMORY_TEST_FOR_EFI})
        Shared.memory_tests["OVMF"] = pool.submit(memory_test_for_efi, folder.name)


class Grub(SystemTest):
    def test_from_cd_and_disk_through_seabios(self):
        cd = self.package_file("/usr/lib/grub-rescue/grub-rescue-cdrom.iso")
        floppy = self.package_file("/usr/lib/grub-rescue/grub-rescue-floppy.img")
        for words in (["-cdrom", cd], ["-drive", f"file={floppy},format=raw,snapshot=on"]):
            with self.subTest(words=words), self.start("-m", "128", *words) as machine:
                machine.expect_on_screen(r"GNU GRUB +version", 60)
                machine.expect_on_screen(r"Memtest86\+", 20)
                machine.monitor("sendkey c")
                machine.expect_on_screen(r"grub>", 20)

    def test_from_cd_through_ovmf(self):
        for file in NEEDED_FOR_EFI:
            self.package_file(file)
        machine = self.start("-m", "128", *THROUGH_OVMF, "-net", "none", "-cdrom", Shared.cd)
        machine.expect(r"GNU GRUB +version", 60)
        machine.expect("memory test", 20)
        machine.type("c")
        machine.expect("grub>", 20)
        machine.type("echo $grub_cpu-$grub_platform from $root; ls\r")
        machine.expect("x86_64-efi from cd0", 20)
        machine.expect(r"\(cd0\)", 20)


class MemoryTest(SystemTest):
    def passes(self, firmware):
        if firmware not in Shared.memory_tests:
            self.skipTest("Debian's package memtest86+ is not there, or GRUB or OVMF for it")
        self.assertEqual(Shared.memory_tests[firmware].result(), "0", "errors found")

    def test_passes_through_seabios(self):
        self.passes("SeaBIOS")

    def test_passes_through_ovmf(self):
        self.passes("OVMF")


if __name__ == "__main__":
    unittest.main()
