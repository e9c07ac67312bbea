#!/usr/bin/env python3
"""Disks of every kind as Debian's drivers see them: SCSI disks and CD-ROMs, I/O threads, limits,
snapshots, modes of caching.

The guest is Debian's disk with a shell in init's place."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import time
import unittest

from harness import SYSTEM, MachineTest
from console import Console

MEBIBYTE = 1 << 20
HELLO = "hello from the disc\n"


class Disks(MachineTest):
    def boot(self, *words, root="/dev/vda", root_device=("-device", "virtio-blk-pci,drive=root")):
        guest = self.debian()
        console = Console([
            SYSTEM, "-m", "512M", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel",
            str(guest / "vmlinuz"), "-initrd", str(guest / "initrd.img"), "-append",
            f"console=ttyS0 quiet root={root} ro init=/bin/bash", "-drive",
            f"file={guest}/disk.raw,format=raw,if=none,id=root,readonly=on", *root_device, *words])
        self.addCleanup(console.close)
        console.expect(r":/# ", 300)
        console.type("stty -echo cols 400; bind 'set enable-bracketed-paste off'; PS1=; "
                     "export TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin\n")
        self.run_inside(console, "test -d /sys/block && test -e /proc/interrupts")
        return console

    def run_inside(self, console, command):
        status, output = console.run(command, 120)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output

    def power_off(self, console):
        console.type("echo o >/proc/sysrq-trigger\n")
        self.assertEqual(console.wait(60), 0)

    def disk(self, name, mebibytes):
        path = self.file(name)
        os.truncate(path, mebibytes * MEBIBYTE)
        return path

    def disc(self):
        if shutil.which("xorriso") is None:
            self.skipTest("xorriso is not installed")
        (self.folder / "disc").mkdir()
        (self.folder / "disc" / "hello.txt").write_text(HELLO)
        path = str(self.folder / "disc.iso")
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "LIMENCD", "-o", path,
                        str(self.folder / "disc")], check=True, capture_output=True)
        return path

    def test_scsi(self):
        """The root file system on a SCSI disk, another disk, a disc."""
        data, disc = self.disk("data.img", 16), self.disc()
        console = self.boot(
            "-drive", f"file={data},format=raw,if=none,id=d,cache=none", "-device",
            "scsi-hd,drive=d,bus=scsi0.0,scsi-id=5,lun=3,serial=SN42,wwn=0x5000c50015ea71ac",
            "-drive", f"file={disc},format=raw,if=none,media=cdrom,id=c", "-device",
            "scsi-cd,drive=c,bus=scsi0.0", root="/dev/sda",
            root_device=("-device", "virtio-scsi-pci,id=scsi0", "-device",
                         "scsi-hd,drive=root,bus=scsi0.0"))

        def run(command):
            return self.run_inside(console, command)

        run("test -e /sys/class/scsi_disk/0:0:5:3")
        self.assertEqual(run("lsblk -dno MODEL,SERIAL /dev/sdb").split(),
                         ["QEMU", "HARDDISK", "SN42"])
        self.assertEqual(run("cat /sys/block/sdb/device/wwid"), "naa.5000c50015ea71ac")
        self.assertEqual(run("cat /sys/block/sda/ro /sys/block/sdb/ro").split(), ["1", "0"])
        self.assertEqual(run("cat /sys/block/sdb/queue/write_cache"), "write back")
        self.assertEqual(run("cat /sys/class/scsi_disk/0:0:5:3/provisioning_mode"), "unmap")
        run("yes durable | dd of=/dev/sdb bs=512 seek=7 count=3 iflag=fullblock oflag=direct "
            "conv=fdatasync")
        run("yes 12345678 | head -c 4M | dd of=/dev/sdb bs=1M seek=4 iflag=fullblock oflag=direct")
        run("blkdiscard -f -o 5M -l 1M /dev/sdb; blkdiscard -f -z -o 6M -l 512K /dev/sdb")
        # The disc, mounted and by its blocks.
        run("mount -t iso9660 -o ro /dev/sr0 /mnt")
        self.assertEqual(run("cat /mnt/hello.txt"), HELLO.strip())
        run("umount /mnt")
        with open(disc, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        self.assertEqual(run("sha256sum </dev/sr0").split()[0], digest)
        self.assertNotEqual(console.run("dd if=/dev/zero of=/dev/sr0 count=1", 60)[0], 0)
        self.power_off(console)
        with open(data, "rb") as file:
            content = file.read()
        wanted = bytearray(16 * MEBIBYTE)
        wanted[7 * 512:10 * 512] = b"durable\n" * 192
        wanted[4 * MEBIBYTE:8 * MEBIBYTE] = (b"12345678\n" * (4 * MEBIBYTE))[:4 * MEBIBYTE]
        wanted[5 * MEBIBYTE:6 * MEBIBYTE + MEBIBYTE // 2] = bytes(MEBIBYTE * 3 // 2)
        self.assertTrue(content == wanted)

    def test_io_thread_with_several_queues(self):
        """Two processors write at once through an I/O thread; everything arrives."""
        data = self.disk("data.img", 32)
        console = self.boot(
            "-smp", "2", "-object", "iothread,id=io0", "-blockdev",
            f"driver=file,node-name=f,filename={data},cache.direct=on,aio=io_uring", "-blockdev",
            '{"driver":"raw","node-name":"disk","file":"f"}', "-device",
            "virtio-blk-pci,drive=disk,iothread=io0,queue-size=128,logical_block_size=4096,"
            "physical_block_size=4096,serial=IO")
        self.assertEqual(self.run_inside(console, "ls /sys/block/vdb/mq").split(), ["0", "1"])
        self.assertEqual(
            self.run_inside(console, "cat /sys/block/vdb/queue/logical_block_size"), "4096")
        self.run_inside(
            console, "for i in 0 1; do (yes $i$i$i$i$i$i$i | head -c 16M | taskset -c $i dd "
            "of=/dev/vdb bs=64k seek=$((i*256)) iflag=fullblock oflag=direct conv=notrunc) & done; "
            "wait; sync")
        tasks = pathlib.Path(f"/proc/{console.process.pid}/task")
        threads = [(task / "comm").read_text().strip() for task in tasks.iterdir()]
        self.assertIn("IO io0", threads)
        self.power_off(console)
        with open(data, "rb") as file:
            for digit in (b"0", b"1"):
                line = digit * 7 + b"\n"
                self.assertTrue(file.read(16 * MEBIBYTE) == line * (2 * MEBIBYTE))

    def test_every_mode_of_caching_and_asking(self):
        """What the guest writes in each mode is in the file in the end."""
        modes = [("writeback", "threads"), ("none", "native"), ("none", "io_uring"),
                 ("writethrough", "io_uring"), ("directsync", "threads"), ("unsafe", "io_uring")]
        disks = [self.disk(f"{cache}-{aio}.img", 4) for cache, aio in modes]
        words = []
        for path, (cache, aio) in zip(disks, modes):
            words += ["-drive", f"file={path},if=virtio,format=raw,cache={cache},aio={aio},detect-zeroes=on"]
        console = self.boot(*words)
        for number, (cache, _) in enumerate(modes):
            name = f"vd{'bcdefg'[number]}"
            self.assertEqual(self.run_inside(console, f"cat /sys/block/{name}/queue/write_cache"),
                             "write through" if cache in ("writethrough", "directsync")
                             else "write back")
            self.run_inside(console, f"yes {name}{name}x | head -c 3M | dd of=/dev/{name} bs=4k "
                                     "iflag=fullblock oflag=direct conv=fsync")
            # An odd sector, into a buffer that is not aligned to the host's blocks.
            self.run_inside(console, f"dd if=/dev/{name} of=/dev/{name} bs=512 skip=3 seek=6145 "
                                     "count=1 iflag=direct oflag=direct")
        self.power_off(console)
        for number, path in enumerate(disks):
            name = f"vd{'bcdefg'[number]}"
            with open(path, "rb") as file:
                content = file.read()
            pattern = f"{name}{name}x\n".encode()
            wanted = (pattern * 3 * MEBIBYTE)[:3 * MEBIBYTE]
            self.assertTrue(content[:3 * MEBIBYTE] == wanted, modes[number])
            self.assertTrue(content[6145 * 512:6146 * 512] == wanted[3 * 512:4 * 512])

    def test_snapshot_leaves_the_image_as_it_was(self):
        data = self.file("data.img", b"\xaa" * (4 * MEBIBYTE))
        console = self.boot("-snapshot", "-drive", f"file={data},if=virtio,format=raw")
        self.run_inside(console, "dd if=/dev/zero of=/dev/vdb bs=64k seek=16 count=16 oflag=direct")
        self.run_inside(console, "echo 3 >/proc/sys/vm/drop_caches")
        self.assertEqual(
            self.run_inside(console, "dd if=/dev/vdb bs=1M count=3 status=none | tr -d '\\252' | "
                                     "wc -c"), str(MEBIBYTE))
        self.power_off(console)
        with open(data, "rb") as file:
            self.assertTrue(file.read() == b"\xaa" * (4 * MEBIBYTE))

    def test_limits_hold(self):
        data = self.disk("data.img", 32)
        console = self.boot("-drive", f"file={data},if=virtio,format=raw,throttling.bps-total=4M,"
                                      "throttling.iops-total=100000")
        started = time.monotonic()
        self.run_inside(console, "dd if=/dev/vdb of=/dev/null bs=256k count=48 iflag=direct")
        seconds = time.monotonic() - started
        # 12 MiB at 4 MiB a second, of which a tenth of a second's go at once.
        self.assertGreater(seconds, 2.5)
        self.power_off(console)


if __name__ == "__main__":
    unittest.main()
