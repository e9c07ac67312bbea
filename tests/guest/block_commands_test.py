#!/usr/bin/env python3
"""Disks that a QMP client plugs, changes and takes away while Debian uses them; qemu-img is the judge of
what is in the files afterwards.

One boot for all of it, of Debian's disk with a shell in init's place."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import time
import unittest

from harness import SYSTEM, MachineTest
from console import Console
from monitor_test import Qmp

MEBIBYTE = 1 << 20
CHUNK = 256 << 10
CHUNKS = 48
# Random chunks one after the other, and what they are.
WRITER = (f"(for n in $(seq 0 {CHUNKS - 1}); do head -c {CHUNK} /dev/urandom >/tmp/chunk; "
          f"sha256sum </tmp/chunk >>/tmp/sums; dd if=/tmp/chunk of=/dev/vdb bs={CHUNK} seek=$n "
          "oflag=direct status=none; echo $n >/tmp/at; sleep 0.05; done; echo ended >/tmp/at) & true")


@unittest.skipUnless(shutil.which("qemu-img") and shutil.which("xorriso"),
                     "needs qemu-img and xorriso")
class BlockCommands(MachineTest):
    def disc(self, name, text):
        folder = self.folder / name
        folder.mkdir()
        (folder / "text").write_text(text)
        path = str(self.folder / f"{name}.iso")
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", name.upper(), "-o", path,
                        str(folder)], check=True, capture_output=True)
        return path

    def boot(self):
        guest = self.debian()
        path = str(self.folder / "qmp.sock")
        self.console = Console([
            SYSTEM, "-M", "q35", "-m", "512M", "-smp", "2", "-display", "none", "-no-reboot",
            "-serial", "stdio",
            "-kernel", str(guest / "vmlinuz"), "-initrd", str(guest / "initrd.img"), "-append",
            "console=ttyS0 quiet root=/dev/vda ro init=/bin/bash", "-drive",
            f"file={guest}/disk.raw,format=raw,if=virtio,readonly=on", "-device",
            "pcie-root-port,id=rp1,chassis=1", "-device", "virtio-scsi-pci,id=scsi0", "-drive",
            f"file={self.discs[0]},media=cdrom,if=none,id=cdrom,format=raw", "-device",
            "scsi-cd,id=cd0,drive=cdrom", "-qmp", f"unix:{path},server=on,wait=off"])
        self.addCleanup(self.console.close)
        self.console.expect(r":/# ", 300)
        self.console.type("stty -echo cols 400; bind 'set enable-bracketed-paste off'; PS1=; "
                          "export TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin\n")
        self.inside("mount -t tmpfs tmpfs /tmp; modprobe -a virtio_blk sd_mod sr_mod isofs")
        self.qmp = Qmp(path, timeout=120)
        self.addCleanup(self.qmp.close)

    def inside(self, command):
        status, output = self.console.run(command, 120)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output

    def wait_inside(self, condition):
        self.inside(f"n=0; until {condition}; do n=$((n+1)); [ $n -lt 120 ] || exit 1; sleep 0.25; "
                    "done")

    def image(self, *words):
        result = self.run_program("qemu-img", *words)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def refuse(self, command, text, **arguments):
        reply = self.qmp.ask({"execute": command, "arguments": arguments})
        self.assertIn(text, reply.get("error", {}).get("desc", f"no error: {reply}"))

    def test_all(self):
        self.discs = [self.disc("first", "one\n"), self.disc("second", "two\n")]
        self.boot()
        self.plug_and_resize()
        self.snapshots_while_it_writes()
        self.limits()
        self.change_discs()
        self.scsi_units_come_and_go()
        self.unplug()
        self.console.type("echo o >/proc/sysrq-trigger\n")
        self.assertEqual(self.console.wait(60), 0)
        self.assertNotRegex(self.console.text, "I/O error, dev [vs]d|BUG:|soft lockup")

    def plug_and_resize(self):
        self.disk = str(self.folder / "disk.qcow2")
        self.image("create", "-q", "-f", "qcow2", self.disk, "16M")
        self.qmp.command("blockdev-add", driver="file", filename=self.disk,
                         **{"node-name": "storage"})
        self.qmp.command("blockdev-add", driver="qcow2", file="storage",
                         **{"node-name": "format"})
        self.refuse("blockdev-add", "Duplicate nodes with node-name='format'", driver="null-co",
                    **{"node-name": "format"})
        self.qmp.command("device_add", driver="virtio-blk-pci", id="hot", bus="rp1",
                         drive="format")
        self.wait_inside("[ -b /dev/vdb ]")
        self.assertEqual(self.inside("blockdev --getsize64 /dev/vdb"), str(16 * MEBIBYTE))
        self.qmp.command("block_resize", size=32 * MEBIBYTE, **{"node-name": "format"})
        self.wait_inside(f"[ $(blockdev --getsize64 /dev/vdb) = {32 * MEBIBYTE} ]")
        self.inside("echo at the end | dd of=/dev/vdb bs=512 seek=65535 conv=sync,fsync")
        self.refuse("blockdev-del", "Node format is in use", **{"node-name": "format"})

    def snapshots_while_it_writes(self):
        self.snapshots = [str(self.folder / f"snapshot{n}.qcow2") for n in (1, 2)]
        self.inside("echo 0 >/tmp/at")
        self.inside(WRITER)
        below = "format"
        for number, path in enumerate(self.snapshots):
            self.wait_inside(f"[ $(cat /tmp/at) -ge {6 + 12 * number} ]")
            name = f"overlay{number}"
            self.qmp.command("blockdev-snapshot-sync", **{
                "node-name": below, "snapshot-file": path, "snapshot-node-name": name})
            below = name
        self.refuse("blockdev-snapshot-sync", "is in use by node", **{
            "node-name": below, "snapshot-file": self.disk, "snapshot-node-name": "no"})
        self.wait_inside("[ $(cat /tmp/at) = ended ]")
        self.sums = [line.split()[0] for line in self.inside("cat /tmp/sums").splitlines()]
        self.assertEqual(len(self.sums), CHUNKS)
        seen = self.inside(
            f"for n in $(seq 0 {CHUNKS - 1}); do dd if=/dev/vdb bs={CHUNK} skip=$n count=1 "
            "iflag=direct status=none | sha256sum; done")
        self.assertEqual([line.split()[0] for line in seen.splitlines()], self.sums)
        info = self.qmp.command("query-block")
        info = next(each["inserted"] for each in info if "hot" in each.get("qdev", ""))
        self.assertEqual((info["node-name"], info["backing_file_depth"]), ("overlay1", 2))

    def limits(self):
        none = {key: 0 for key in ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")}
        read = "dd if=/dev/vdb of=/dev/null bs=64k count=48 iflag=direct status=none"
        self.qmp.command("block_set_io_throttle", id="hot", **{**none, "bps_rd": MEBIBYTE})
        begin = time.monotonic()
        self.inside(read)
        self.assertGreater(time.monotonic() - begin, 2)
        # Lifted while requests wait.
        self.qmp.command("block_set_io_throttle", id="hot", **{**none, "bps_rd": 1000})
        self.inside(f"({read}; echo read >/tmp/at) & sleep 1")
        self.assertEqual(self.inside("cat /tmp/at"), "ended")
        self.qmp.command("block_set_io_throttle", id="hot", **none)
        self.wait_inside("[ $(cat /tmp/at) = read ]")
        self.refuse("block_set_io_throttle", "cannot be used at the same time", id="hot",
                    **{**none, "bps": 1, "bps_rd": 1})

    def change_discs(self):
        self.inside("mount -o ro /dev/sr0 /mnt")
        self.assertEqual(self.inside("cat /mnt/text"), "one")
        self.refuse("blockdev-change-medium", "is locked and force was not specified", id="cd0",
                    filename=self.discs[1])
        self.inside("umount /mnt")
        self.qmp.events.clear()
        self.qmp.command("blockdev-change-medium", id="cd0", filename=self.discs[1], format="raw")
        for is_open in (True, False):
            self.assertEqual(self.qmp.wait_event("DEVICE_TRAY_MOVED")["data"],
                             {"device": "cdrom", "id": "cd0", "tray-open": is_open})
        self.inside("mount -o ro /dev/sr0 /mnt")
        self.assertEqual(self.inside("cat /mnt/text"), "two")
        self.inside("umount /mnt")
        self.qmp.command("eject", id="cd0")
        self.assertNotEqual(self.console.run("mount -o ro /dev/sr0 /mnt", 60)[0], 0)
        self.refuse("eject", "is not removable", device="virtio0")

    def scsi_units_come_and_go(self):
        path = self.file("unit.raw", b"a unit\n" + bytes(MEBIBYTE - 7))
        self.qmp.command("blockdev-add", **{"driver": "raw", "node-name": "unit", "file": {
            "driver": "file", "filename": path}})
        self.qmp.command("device_add", **{"driver": "scsi-hd", "id": "unit0", "drive": "unit",
                                          "bus": "scsi0.0", "scsi-id": 4, "lun": 2})
        self.wait_inside("[ -b /dev/sda ]")
        self.assertEqual(self.inside("head -n 1 /dev/sda"), "a unit")
        self.qmp.command("block_resize", size=2 * MEBIBYTE, **{"node-name": "unit"})
        self.wait_inside(f"[ $(blockdev --getsize64 /dev/sda) = {2 * MEBIBYTE} ]")
        self.inside("echo grown | dd of=/dev/sda bs=512 seek=4095 conv=sync,fsync")
        self.qmp.command("device_del", id="unit0")
        self.assertEqual(self.qmp.wait_event("DEVICE_DELETED")["data"]["device"], "unit0")
        self.wait_inside("[ ! -b /dev/sda ]")
        self.qmp.command("blockdev-del", **{"node-name": "unit"})
        content = pathlib.Path(path).read_bytes()
        self.assertEqual(len(content), 2 * MEBIBYTE)
        self.assertEqual(content[4095 * 512:].rstrip(b"\0"), b"grown\n")

    def unplug(self):
        self.qmp.command("device_del", id="hot")
        self.assertEqual(self.qmp.wait_event("DEVICE_DELETED")["data"]["device"], "hot")
        for name in ("format", "storage"):
            self.qmp.command("blockdev-del", **{"node-name": name})
        self.assertEqual(self.qmp.command("query-named-block-nodes", flat=True)[1:], [])
        # The machine runs on, and does not hold the files any more.
        for path in (self.disk, *self.snapshots):
            self.image("check", "-q", "-f", "qcow2", path)
        held = [os.readlink(each) for each in
                pathlib.Path(f"/proc/{self.console.process.pid}/fd").iterdir()]
        self.assertFalse([path for path in held if "snapshot" in path or "disk.qcow2" in path])
        whole = str(self.folder / "whole.raw")
        self.image("convert", "-f", "qcow2", "-O", "raw", self.snapshots[1], whole)
        self.image("compare", "-q", "-f", "qcow2", "-F", "raw", self.snapshots[1], whole)
        with open(whole, "rb") as file:
            for number, wanted in enumerate(self.sums):
                self.assertEqual(hashlib.sha256(file.read(CHUNK)).hexdigest(), wanted, number)
            file.seek(65535 * 512)
            self.assertEqual(file.read().rstrip(b"\0"), b"at the end\n")
        # Each overlay took a part of what was written.
        self.assertIn(os.path.basename(self.snapshots[0]), self.image("info", self.snapshots[1]))
        for path in (self.disk, *self.snapshots):
            self.assertGreater(os.path.getsize(path), MEBIBYTE)


if __name__ == "__main__":
    unittest.main()
