#!/usr/bin/env python3
"""Disk controllers that are not virtio's, as Debian's kernel for any hardware drives them: AHCI and
the PIIX3's IDE with disks and a CD drive, NVMe; and as SeaBIOS boots from them.

The guest is Debian's disk, opened for reading alone, with a shell in init's place."""

import hashlib
import os
import unittest

from full_kernel import FullKernelTest
from harness import IMG, SYSTEM
from console import Console
from monitor_test import Qmp

MEBIBYTE = 1 << 20


def md5(data):
    return hashlib.md5(data).hexdigest()


class StorageTest(FullKernelTest):
    def test_ahci_disk_reads_writes_and_trims(self):
        content = os.urandom(8 * MEBIBYTE)
        disk, mirror = self.file("disk.raw", content), self.file("mirror.raw", content)
        self.boot("-drive", f"file={disk},format=raw,if=ide,index=0,discard=unmap")
        self.wait_for("/dev/sda")
        self.assertEqual(self.inside("cat /sys/block/sda/device/model").strip(), "QEMU HARDDISK")
        self.assertEqual(self.inside("cat /sys/block/sda/device/queue_depth").strip(), "32")
        self.assertEqual(self.inside("md5sum </dev/sda").split()[0], md5(content))
        # Several at once, so that commands are queued.
        self.inside("for i in 0 1 2 3 4 5 6 7; do dd if=/dev/sda of=/dev/sda bs=64k skip=$((i*8)) "
                    "seek=$((64+i*8)) count=8 iflag=direct oflag=direct 2>/dev/null & done; wait; "
                    "sync")
        after = bytearray(content)
        after[4 * MEBIBYTE:] = content[:4 * MEBIBYTE]
        self.assertEqual(self.inside("md5sum </dev/sda").split()[0], md5(after))
        self.inside("blkdiscard -o 1048576 -l 1048576 /dev/sda")
        after[MEBIBYTE:2 * MEBIBYTE] = bytes(MEBIBYTE)
        self.inside("dd if=/dev/zero of=/dev/sda bs=512 count=1 oflag=direct 2>/dev/null; sync")
        after[:512] = bytes(512)
        self.assertEqual(self.inside("dmesg | grep -c 'ata.*exception' || true").strip(), "0")
        self.power_off()
        with open(mirror, "wb") as file:
            file.write(after)
        compared = self.run_program(IMG, "compare", "-f", "raw", "-F", "raw", disk, mirror)
        self.assertEqual(compared.returncode, 0, compared.stdout + compared.stderr)

    def test_ahci_cd_is_read_ejected_and_changed(self):
        discs = [self.file(f"disc{i}", os.urandom(2 * MEBIBYTE)) for i in range(2)]
        path = str(self.folder / "qmp")
        self.boot("-cdrom", discs[0], "-qmp", f"unix:{path},server=on,wait=off")
        qmp = Qmp(path, timeout=60)
        self.addCleanup(qmp.close)
        self.wait_for("/dev/sr0")

        def sum_of(disc):
            with open(disc, "rb") as file:
                return md5(file.read())
        self.assertEqual(self.inside("cat /sys/block/sr0/device/model").strip(), "QEMU DVD-ROM")
        self.assertEqual(self.inside("md5sum </dev/sr0").split()[0], sum_of(discs[0]))
        block = qmp.command("query-block")
        drive = [each for each in block if each["device"] == "ide2-cd0"][0]
        self.assertTrue(drive["removable"])
        qmp.command("blockdev-change-medium", device="ide2-cd0", filename=discs[1], format="raw")
        self.assertEqual(self.inside("md5sum </dev/sr0").split()[0], sum_of(discs[1]))
        self.inside("perl -MFcntl -e 'sysopen F, \"/dev/sr0\", O_RDONLY | O_NONBLOCK or die; "
                    "ioctl F, 0x5309, 0 or die'")
        self.assertTrue([each for each in qmp.command("query-block")
                         if each["device"] == "ide2-cd0"][0]["tray_open"])
        self.assertNotEqual(self.console.run("md5sum </dev/sr0", 60)[0], 0)
        self.power_off()

    def test_ide_disks_and_cd(self):
        """Two drives on one channel, a disc on the other, by bus master DMA."""
        contents = [os.urandom(4 * MEBIBYTE) for _ in range(3)]
        disks = [self.file(f"disk{i}", content) for i, content in enumerate(contents)]
        self.boot("-hda", disks[0], "-hdb", disks[1], "-cdrom", disks[2], machine="pc")
        for path, content in zip(["/dev/sda", "/dev/sdb", "/dev/sr0"], contents):
            self.wait_for(path)
            self.assertEqual(self.inside(f"md5sum <{path}").split()[0], md5(content))
        self.assertEqual(self.inside("cat /sys/class/ata_device/dev1.0/dma_mode").strip(),
                         "XFER_MW_DMA_2")
        self.inside("dd if=/dev/sr0 of=/dev/sda bs=64k count=32 oflag=direct 2>/dev/null; "
                    "dd if=/dev/sda of=/dev/sdb bs=4k count=512 iflag=direct oflag=direct "
                    "2>/dev/null; sync")
        self.assertEqual(self.inside("dmesg | grep -c 'ata.*exception' || true").strip(), "0")
        self.power_off()
        for disk, content in zip(disks[:2], contents[:2]):
            with open(disk, "rb") as file:
                self.assertEqual(md5(file.read()),
                                 md5(contents[2][:2 * MEBIBYTE] + content[2 * MEBIBYTE:]))

    def test_seabios_boots_from_each_controller(self):
        """A boot sector reads the next sector by INT 13h and writes it to the serial port."""
        code = bytes.fromhex("fa31c08ed88ec08ed0bc007cfb"  # segments and stack
                             "b80102bb007eb90200b600cd13"  # read sector 2 to 7E00h
                             "be007eac84c07406baf803eeebf5f4ebfd")  # its text to COM1
        text = b"HELLO FROM THE SECOND SECTOR"
        image = code.ljust(510, b"\0") + b"\x55\xaa" + text.ljust(512, b"\0")
        disk = self.file("boot.img", image.ljust(8 * MEBIBYTE, b"\0"))
        nvme = ("-drive", f"file={disk},format=raw,if=none,id=d", "-device",
                "nvme,drive=d,serial=S")
        for words in [("-M", "pc", "-hda", disk), ("-M", "q35", "-hda", disk),
                      ("-M", "q35", *nvme), ("-M", "pc", "-hdd", disk)]:
            with self.subTest(words[:3]):
                console = Console([SYSTEM, "-nographic", "-m", "64", *words])
                self.addCleanup(console.close)
                console.expect(text.decode(), 60)
                console.close()

    def test_nvme_disk_reads_writes_and_trims(self):
        content = os.urandom(8 * MEBIBYTE)
        disk, mirror = self.file("disk.raw", content), self.file("mirror.raw", content)
        self.boot("-smp", "2", "-drive", f"file={disk},format=raw,if=none,id=d", "-device",
                  "nvme,drive=d,serial=SN42")
        self.wait_for("/dev/nvme0n1")
        self.assertEqual(self.inside("cat /sys/class/nvme/nvme0/serial").strip(), "SN42")
        self.assertEqual(self.inside("cat /sys/class/nvme/nvme0/model").strip(), "QEMU NVMe Ctrl")
        # A queue for each processor, and one for the controller itself.
        self.assertEqual(self.inside("cat /sys/class/nvme/nvme0/queue_count").strip(), "3")
        self.assertEqual(self.inside("md5sum </dev/nvme0n1").split()[0], md5(content))
        self.inside("for i in 0 1 2 3 4 5 6 7; do dd if=/dev/nvme0n1 of=/dev/nvme0n1 bs=512k "
                    "skip=$i seek=$((8+i)) count=1 iflag=direct oflag=direct 2>/dev/null & done; "
                    "wait; sync")
        after = bytearray(content)
        after[4 * MEBIBYTE:] = content[:4 * MEBIBYTE]
        self.assertEqual(self.inside("md5sum </dev/nvme0n1").split()[0], md5(after))
        self.inside("blkdiscard -o 1048576 -l 1048576 /dev/nvme0n1; "
                    "blkdiscard -z -o 3145728 -l 65536 /dev/nvme0n1")
        after[MEBIBYTE:2 * MEBIBYTE] = bytes(MEBIBYTE)
        after[3 * MEBIBYTE:3 * MEBIBYTE + 65536] = bytes(65536)
        self.power_off()
        with open(mirror, "wb") as file:
            file.write(after)
        compared = self.run_program(IMG, "compare", "-f", "raw", "-F", "raw", disk, mirror)
        self.assertEqual(compared.returncode, 0, compared.stdout + compared.stderr)


if __name__ == "__main__":
    unittest.main()
