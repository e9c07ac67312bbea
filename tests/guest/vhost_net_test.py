#!/usr/bin/env python3
"""vhost=on: the kernel moves the frames of a guest under `-accel kvm` (docs/network.md), on upstream KVM and
vhost-net in the machine of kvm_host.py."""

import hashlib
import re
import shlex
import shutil
import unittest

import kvm_host
from full_kernel import kernel_folder
from harness import SYSTEM
from initramfs import Initramfs

INSIDE = "/bin/limen-system-x86_64"
# In the order in which they need each other: the host's, and the guest's.
HOST_MODULES = ["tun", "tap", "vhost_iotlb", "vhost", "vhost_net"]
GUEST_MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
                 "failover", "net_failover", "virtio_net"]
# The guest serves what it has, and runs a line of shell a connection.
GUEST_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in MODULES; do
  test ! -e /modules/$module.ko || insmod /modules/$module.ko
done
for number in 0 1; do
  ip addr add 10.78.$number.2/24 dev eth$number && ip link set eth$number up
done
httpd -h /
echo "network up" >/dev/ttyS0
while true; do nc -l -p 7 -e /bin/sh; done
"""
UP = """#!/bin/sh
ip addr add 10.78.${1#tap}.1/24 dev $1 && ip link set $1 up
"""
GUEST = """#!/bin/sh
echo "$2" | nc 10.78.$1.2 7
"""
# Waits for the answer's end.
MONITOR = """#!/bin/sh
(echo "$1"; sleep 0.2) | nc 127.0.0.1 4444 | tail -n +3
"""
# Waits for the guest's network after start number $1.
WAIT_UP = """#!/bin/sh
for i in $(seq 600); do
  test "$(grep -c 'network up' /tmp/serial 2>/dev/null)" = "$1" && exit 0
  sleep 0.1
done
cat /tmp/limen.out /tmp/serial
exit 1
"""
# What a kernel need not find out.
QUICK = "quiet panic=-1 mitigations=off cryptomgr.notests lpj=2000000 tsc=reliable"
BLOB = bytes(range(251)) * 8192
BLOB_SUM = hashlib.md5(BLOB).hexdigest()
MEBIBYTES = 12


def modules(names):
    """(name in an initial RAM disk, file) of each that is not built in."""
    for name in names:
        module = kernel_folder() / "modules" / f"{name}.ko"
        if module.exists():
            yield f"/modules/{name}.ko", module


def guest_initrd():
    files = Initramfs()
    for path in ("/proc", "/sys", "/dev"):
        files.add_folder(path)
    files.add_program("/bin/busybox", shutil.which("busybox"))
    for name, module in modules(GUEST_MODULES):
        files.add_file(name, module)
    files.add("/init", GUEST_INIT.replace("MODULES", " ".join(GUEST_MODULES)), executable=True)
    return files.archive()


class VhostNet(kvm_host.KvmHostTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        files = cls.host.files
        files.add_program(INSIDE, SYSTEM)
        for name, module in modules(HOST_MODULES):
            files.add_file(name, module)
        for name, script in (("up", UP), ("guest", GUEST), ("monitor", MONITOR), ("wait_up", WAIT_UP)):
            files.add(f"/bin/{name}", script, executable=True)
        files.add("/guest/vmlinux", kvm_host.uncompressed((kernel_folder() / "vmlinuz").read_bytes()))
        files.add("/guest/initrd", guest_initrd())
        files.add("/guest/blob", BLOB)

    def exchange(self, number):
        """The blob to the guest and back."""
        there = f"wget -q -O /blob http://10.78.{number}.1/blob; md5sum </blob"
        self.assertEqual(self.inside(f"guest {number} '{there}'"), f"{BLOB_SUM}  -")
        back = f"wget -q -O - http://10.78.{number}.2/blob | md5sum"
        self.assertEqual(self.inside(back), f"{BLOB_SUM}  -")

    def thread_wake_ups(self, name):
        """How often the threads of Limen with that name have waited for something."""
        return int(self.inside(
            f"for task in /proc/$(pidof limen-system-x86_64)/task/*; do grep -q '^{name}$' $task/comm && "
            "awk '/^voluntary/ { print $2 }' $task/status; done; true"))

    def interrupts(self):
        """What the guest counted, by the name of the source."""
        lines = self.inside("guest 0 'cat /proc/interrupts'").splitlines()
        rows = [re.match(r" *(\d+): +(\d+) .* (\S*virtio\S*)$", line) for line in lines]
        return {row[3]: int(row[2]) for row in rows if row}

    def test_frames_go_by(self):
        # Without the device it is a warning, or an error where it is required.
        netdev = "tap,id=n0,ifname=tap0,script=no,downscript=no"
        status, output = self.host.run(
            f"{INSIDE} -accel kvm -kernel /guest/vmlinux -display none -netdev {netdev},vhostforce=on", 30)
        self.assertEqual(status, 1)
        self.assertIn("vhost=on: could not open /dev/vhost-net: No such file or directory", output)
        self.assertEqual(self.inside("ls /sys/class/net"), "lo")
        self.inside("; ".join(f"insmod {name}" for name, _ in modules(HOST_MODULES)))

        # Two cards: one whose notifications are events both ways, and one that has neither MSI-X (its table
        # is too small for the driver) nor events of the accelerator's.
        machine = [INSIDE, "-accel", "kvm", "-machine", "q35", "-m", "192", "-nodefaults", "-display", "none",
                   "-serial", "file:/tmp/serial", "-monitor", "tcp:127.0.0.1:4444,server=on,wait=off",
                   "-kernel", "/guest/vmlinux", "-initrd", "/guest/initrd", "-append", QUICK]
        for number, properties in enumerate(("", ",vectors=1,ioeventfd=off")):
            machine += ["-netdev", f"tap,id=n{number},ifname=tap{number},script=/bin/up,downscript=no,vhost=on",
                        "-device", f"virtio-net-pci,id=card{number},netdev=n{number}{properties}"]
        self.inside(f"httpd -h /guest; touch /tmp/serial; setsid {shlex.join(machine)} >/tmp/limen.out 2>&1 & "
                    "wait_up 1", 90)
        self.assertEqual(self.inside("cat /tmp/limen.out"), "")
        self.assertEqual(self.inside("monitor 'info network' | grep -c 'type=tap.*,vhost=on'"), "2")
        self.assertEqual(self.inside("ps | grep -c '\\[vhost-[0-9]*\\]'"), "2")

        with self.subTest("this process has no part in it"):
            before = self.thread_wake_ups("network")
            self.exchange(0)
            self.assertLess(self.thread_wake_ups("network") - before, 20)
            self.assertGreater(self.interrupts()["virtio0-input.0"], 100)
        with self.subTest("INTx, and notifications that come to this process"):
            self.exchange(1)
            self.assertGreater(self.interrupts()["virtio1"], 100)

        with self.subTest("in the middle of a transfer"):
            self.inside(f"guest 0 'dd if=/dev/zero of=/big bs=1M count={MEBIBYTES}'")
            size = "echo size $(wc -c </tmp/big)"
            sizes = self.inside(
                "wget -q -O /tmp/big http://10.78.0.2/big & "
                f"for i in $(seq 100); do test -s /tmp/big && break; sleep 0.01; done; monitor stop; {size}; "
                f"sleep 0.3; {size}; monitor cont; sleep 0.1; monitor 'set_link card0 off'; {size}; sleep 0.3; "
                f"{size}; monitor 'set_link card0 on'; wait; cmp /tmp/big -n {MEBIBYTES << 20} /dev/zero; "
                f"{size}; rm /tmp/big")
            stopped, still, down, still_down, whole = map(int, re.findall(r"size (\d+)", sizes))
            self.assertEqual(stopped, still)
            self.assertEqual(down, still_down)
            self.assertLess(down, whole)
            self.assertEqual(whole, MEBIBYTES << 20)

        with self.subTest("another driver"):
            self.inside("monitor system_reset; wait_up 2", 90)
            self.exchange(0)
            self.exchange(1)

        self.inside("monitor quit; for i in $(seq 50); do pidof limen-system-x86_64 || break; sleep 0.1; done")
        self.assertEqual(self.inside("ls /sys/class/net; ps | grep '\\[vhost-[0-9]*\\]' || true"), "lo")


if __name__ == "__main__":
    unittest.main()
