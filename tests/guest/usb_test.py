#!/usr/bin/env python3
"""USB as Debian's kernel for any hardware drives it: an xHCI controller with keyboard, tablet and
storage, which come and go while the machine runs."""

import os
import pathlib
import re
import struct
import unittest

import rfb
from full_kernel import FullKernelTest
from harness import SYSTEM, MachineTest
from monitor_test import Qmp

MEBIBYTE = 1 << 20
EV_KEY, EV_REL, EV_ABS = 1, 2, 3


class UsbTest(FullKernelTest):
    def start(self, *words, machine="q35"):
        path = str(self.folder / "qmp")
        self.boot("-qmp", f"unix:{path},server=on,wait=off", *words, machine=machine)
        self.qmp = Qmp(path)
        self.addCleanup(self.qmp.close)

    def hmp(self, line):
        return self.qmp.command("human-monitor-command", **{"command-line": line})

    def event_file(self, name):
        """/dev/input/eventN of the device with that name."""
        found = self.inside(
            f"for i in $(seq 50); do grep -l '{name}' /sys/class/input/event*/device/name && break; "
            "sleep 0.2; done")
        return "/dev/input/" + re.search(r"event\d+", found).group()

    def record(self, device, name):
        """Keeps what the device tells in /dev/NAME."""
        self.inside(f"(cat {device} >/dev/{name} &) ; sleep 1")

    def events(self, name):
        """What was kept, as (type, code, value) without the separators between reports."""
        self.inside("sleep 1")
        found = []
        for line in self.inside(f"od -An -v -tx1 -w24 /dev/{name}; : >/dev/{name}").splitlines():
            data = bytes.fromhex(line)
            if len(data) == 24:
                found.append(struct.unpack("<HHi", data[16:]))
        return [event for event in found if event[0] in (EV_KEY, EV_REL, EV_ABS)]

    def test_keyboard_and_tablet(self):
        vnc = str(self.folder / "vnc")
        self.start("-device", "qemu-xhci,id=usb,p2=15,p3=15", "-device",
                   "usb-kbd,id=keys,bus=usb.0,port=2", "-device",
                   "usb-tablet,id=input0,bus=usb.0,port=1", "-device", "VGA", "-vnc", f"unix:{vnc}")
        keyboard, tablet = self.event_file("QEMU USB Keyboard"), self.event_file("QEMU USB Tablet")
        self.assertEqual(re.findall(r"Device 0\.\d+, Port (\d), Speed (\d+) Mb/s, Product ([^,]+), "
                                    r"ID: (\w+)", self.hmp("info usb")),
                         [("1", "480", "QEMU USB Tablet", "input0"),
                          ("2", "480", "QEMU USB Keyboard", "keys")])
        self.assertRegex(self.hmp("info mice"), r"\* Mouse #\d+: QEMU HID Tablet \(absolute\)")
        self.record(keyboard, "keys")
        self.record(tablet, "places")

        self.qmp.command("send-key", keys=[{"type": "qcode", "data": "shift"},
                                           {"type": "qcode", "data": "a"}])
        self.inside("sleep 1")
        events = [event for event in self.events("keys") if event[0] == EV_KEY]
        self.assertEqual(events[:2], [(EV_KEY, 42, 1), (EV_KEY, 30, 1)])
        self.assertEqual(sorted(events[2:]), [(EV_KEY, 30, 0), (EV_KEY, 42, 0)])

        move = [{"type": "abs", "data": {"axis": axis, "value": value}}
                for axis, value in [("x", 0x1234), ("y", 0x5678)]]
        button = {"type": "btn", "data": {"button": "left", "down": True}}
        self.qmp.command("input-send-event", events=[*move, button])
        events = self.events("places")
        for event in [(EV_ABS, 0, 0x1234), (EV_ABS, 1, 0x5678), (EV_KEY, 0x110, 1)]:
            self.assertIn(event, events)
        button["data"]["down"] = False
        self.qmp.command("input-send-event", events=[button])
        self.assertIn((EV_KEY, 0x110, 0), self.events("places"))

        client = rfb.Rfb(vnc)
        self.addCleanup(client.close)
        client.type("h")
        client.pointer(0, client.width - 1, 0)
        self.assertEqual([event for event in self.events("keys") if event[0] == EV_KEY],
                         [(EV_KEY, 35, 1), (EV_KEY, 35, 0)])
        self.assertIn((EV_ABS, 0, 0x7FFF), self.events("places"))
        self.power_off()

    def test_storage_comes_and_goes(self):
        content = os.urandom(4 * MEBIBYTE)
        first, second = self.file("first.raw", content), self.file("second.raw", bytes(MEBIBYTE))
        disc = self.file("disc.iso", os.urandom(MEBIBYTE))
        self.start("-usb", "-drive", f"file={first},format=raw,if=none,id=one", "-device",
                   "usb-storage,drive=one,id=stick,serial=S1", "-drive",
                   f"file={disc},format=raw,if=none,id=cd,media=cdrom", "-device",
                   "usb-storage,drive=cd", machine="pc")
        self.wait_for("/dev/sda")
        self.assertIn("5000 Mb/s", self.hmp("info usb"))
        md5 = self.inside("md5sum </dev/sda").split()[0]
        self.assertEqual(md5, self.inside("dd if=/dev/sda bs=64k iflag=direct status=none | md5sum")
                         .split()[0])
        written = os.urandom(64)
        self.inside(f"printf '{''.join(f'%sx%02x' % (chr(92), byte) for byte in written)}' "
                    ">/dev/piece; for i in 1 2 3 4 5 6 7 8; do cat /dev/piece; done >/dev/sector; "
                    "dd if=/dev/sector of=/dev/sda seek=100 conv=fsync,notrunc oflag=direct "
                    "status=none")
        now = pathlib.Path(first).read_bytes()
        self.assertTrue(now[:100 * 512] == content[:100 * 512] and now[101 * 512:] ==
                        content[101 * 512:], "nothing else has changed")
        self.assertEqual(now[100 * 512:101 * 512], written * 8)
        self.wait_for("/dev/sr0")
        self.inside("cmp -n 1048576 /dev/sr0 /dev/sr0")

        # A file system of the guest's, on a disk that is plugged in and out.
        self.qmp.command("blockdev-add", **{
            "driver": "raw", "node-name": "two", "file": {"driver": "file", "filename": second}})
        self.qmp.command("device_add", driver="usb-storage", drive="two", id="late")
        self.wait_for("/dev/sdb")
        self.inside("mke2fs -q -F /dev/sdb 256 && mkdir -p /dev/mnt && mount /dev/sdb /dev/mnt && "
                    "cp /etc/os-release /dev/mnt && cmp /etc/os-release /dev/mnt/os-release && "
                    "umount /dev/mnt")
        self.qmp.command("device_del", id="late")
        self.assertEqual(self.qmp.wait_event("DEVICE_DELETED")["data"]["device"], "late")
        self.inside("for i in $(seq 50); do test -b /dev/sdb || break; sleep 0.2; done; "
                    "! test -b /dev/sdb")
        self.assertIn(b"PRETTY_NAME", pathlib.Path(second).read_bytes())
        self.qmp.command("device_add", driver="usb-mouse", id="pointer")
        self.event_file("QEMU USB Mouse")
        self.qmp.command("device_del", id="pointer")
        self.qmp.command("device_del", id="stick")
        self.inside("for i in $(seq 50); do test -b /dev/sda || break; sleep 0.2; done; "
                    "! test -b /dev/sda")
        self.assertNotIn("rror", self.inside("dmesg | grep -i xhci"))
        self.power_off()

    def test_a_controller_that_is_plugged_in(self):
        self.start("-device", "pcie-root-port,id=slot", "-device", "qemu-xhci,id=usb,bus=slot",
                   "-device", "usb-tablet,bus=usb.0")
        self.event_file("QEMU USB Tablet")
        self.inside("echo 1 >/sys/bus/pci/rescan; lsmod | grep xhci")
        self.power_off()


class BadUsb(MachineTest):
    def refused(self, *words):
        return self.run_program(SYSTEM, "-display", "none", "-S", *words)

    def test_without_a_controller(self):
        self.assert_one_line_error(self.refused("-device", "usb-tablet"), "usb-tablet", "qemu-xhci")

    def test_a_bus_or_a_port_that_is_not_there(self):
        words = ["-device", "qemu-xhci,id=usb"]
        self.assert_one_line_error(self.refused(*words, "-device", "usb-kbd,bus=usb.1"), "usb.1",
                                   "usb.0")
        self.assert_one_line_error(self.refused(*words, "-device", "usb-kbd,port=5"), "port 5",
                                   "1 to 4")
        self.assert_one_line_error(self.refused(*words, "-device", "usb-kbd,port=1", "-device",
                                                "usb-mouse,port=1"), "port 1", "Keyboard")

    def test_storage_without_a_drive(self):
        self.assert_one_line_error(self.refused("-usb", "-device", "usb-storage"), "drive")

    def test_devices_that_are_not_there(self):
        self.assert_one_line_error(self.refused("-usbdevice", "braille"), "braille", "tablet")
        self.assert_one_line_error(self.refused("-usb", "-device", "usb-hub"), "usb-hub")


if __name__ == "__main__":
    unittest.main()
