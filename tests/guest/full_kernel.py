"""Debian's kernel for any hardware (scripts/lib/guest.sh fetches it), with an initial RAM disk that
loads the drivers it needs and starts a shell on the guest's disk."""

import gzip
import pathlib
import os

from harness import SYSTEM, MachineTest
from console import Console
from initramfs import cpio

# In the order in which they need each other; of those that are not there (built in) nothing is said.
MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
           "virtio_blk", "scsi_common", "scsi_mod", "crct10dif_common", "crc-t10dif",
           "crct10dif_generic", "crc64", "crc64-rocksoft_generic", "crc64-rocksoft", "t10-pi",
           "libata", "libahci", "ahci", "ata_piix", "sd_mod", "cdrom", "sr_mod", "nvme-common",
           "nvme-core", "nvme", "crc16", "crc32c_generic", "mbcache", "jbd2", "ext4", "e1000",
           "usb-common", "usbcore", "xhci-hcd", "xhci-pci", "usb-storage", "uas", "hid", "hid-generic",
           "usbhid", "evdev", "watchdog", "i6300esb", "tpm", "tpm_tis_core", "tpm_tis", "tpm_crb"]

INIT = """#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in MODULES; do
  test -e /modules/$module.ko && insmod /modules/$module.ko
done
for i in 1 2 3 4 5 6 7 8 9; do test -b /dev/vda && break; sleep 1; done
mount -r -t ext4 /dev/vda /root
mount -o move /dev /root/dev
mount -o move /proc /root/proc
mount -o move /sys /root/sys
exec run-init /root /bin/bash </root/dev/console >/root/dev/console 2>&1
"""


def kernel_folder():
    cache = os.environ.get("LIMEN_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "limen")
    folders = sorted(pathlib.Path(cache).glob("kernel-debian-12-*"))
    return folders[-1] if folders else None


def initrd(base, folder):
    """The guest's own initial RAM disk `base`, with another init and the modules in `folder` on top."""
    entries = [(name, 0o40755, b"") for name in ("modules", "dev", "proc", "sys", "root")]
    entries += [("init", 0o100755, INIT.replace("MODULES", " ".join(MODULES)).encode())]
    for module in sorted((folder / "modules").glob("*.ko")):
        entries.append((f"modules/{module.name}", 0o100644, module.read_bytes()))
    return pathlib.Path(base).read_bytes() + gzip.compress(cpio(entries), 1)


class FullKernelTest(MachineTest):
    """A test with a shell under that kernel; the guest's disk is open for reading alone."""

    def boot(self, *words, machine="q35"):
        guest, folder = self.debian(), kernel_folder()
        if folder is None:
            self.skipTest("Debian's kernel for any hardware was not fetched yet")
        ramdisk = self.file("initrd.img", initrd(guest / "initrd.img", folder))
        console = Console([
            SYSTEM, "-nographic", "-M", machine, "-m", "512", "-kernel", f"{folder}/vmlinuz",
            "-initrd", ramdisk, "-append", "console=ttyS0 quiet panic=-1", "-drive",
            f"file={guest}/disk.raw,format=raw,if=virtio,readonly=on", *words])
        self.addCleanup(console.close)
        console.expect(r":/# ", 300)
        console.type("stty -echo cols 400; bind 'set enable-bracketed-paste off'; PS1=; "
                     "export TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin\n")
        self.console = console

    def inside(self, command, timeout=120):
        status, output = self.console.run(command, timeout)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output

    def wait_for(self, path):
        self.inside(f"for i in $(seq 50); do test -b {path} && break; sleep 0.2; done; "
                    f"test -b {path}")

    def power_off(self):
        self.console.type("echo o >/proc/sysrq-trigger\n")
        self.assertEqual(self.console.wait(60), 0)
