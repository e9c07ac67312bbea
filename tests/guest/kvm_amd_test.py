#!/usr/bin/env python3
"""`-accel kvm` on upstream KVM with AMD-V: the tests of room kvm, and Debian's kernel for clouds to user space
(docs/kvm.md, "Testing"). First of all, that the machine they run in does what it promises."""

import hashlib
import json
import shlex
import shutil
import signal
import subprocess
import tempfile
import unittest

import kvm_host
import small_machine
from full_kernel import kernel_folder
from harness import BIN, SYSTEM, guest_folder
from initramfs import Initramfs

INSIDE = "/bin/limen-system-x86_64"
UNIT_TESTS = BIN / "test_kvm"
API_VERSION = r"""
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
int main() { printf("%d\n", ioctl(open("/dev/kvm", O_RDWR), KVM_GET_API_VERSION, 0)); }
"""
# Waits for a file of the last program that is a processor of KVM's, and shows it.
SHOW_VCPU = "while kill -0 $! && ! ls -l /proc/$!/fd | grep kvm-vcpu; do sleep 0.1; done"
# What the guests of Limen do.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo "user space reached"
dmesg | grep "Hypervisor detected"
echo "processors: $(nproc)"
poweroff -f
"""


# Those of a guest with a disk, in the order in which they need each other.
DISK_MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
                "virtio_blk"]
READ_DISK = """for module in MODULES; do
  test ! -e /modules/$module.ko || insmod /modules/$module.ko
done
dd if=/dev/vda bs=64k 2>/dev/null | md5sum
poweroff -f
"""
DISK = bytes(range(251)) * 8192


def guest_initrd(modules=()):
    """Busybox and that init; with modules, one that reads a disk."""
    files = Initramfs()
    for path in ("/proc", "/sys", "/dev"):
        files.add_folder(path)
    files.add_program("/bin/busybox", shutil.which("busybox"))
    init = INIT
    if modules:
        init = INIT.replace("poweroff -f\n", READ_DISK.replace("MODULES", " ".join(modules)))
        for name in modules:
            module = kernel_folder() / "modules" / f"{name}.ko"
            if module.exists():  # else it is built in
                files.add_file(f"/modules/{name}.ko", module)
    files.add("/init", init, executable=True)
    return files.archive()


def compiled(source):
    """A C program; the caller closes it."""
    program = tempfile.NamedTemporaryFile()
    subprocess.run(["cc", "-x", "c", "-o", program.name, "-"], input=source, text=True, check=True)
    return program


class KvmAmd(kvm_host.KvmHostTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        files = cls.host.files
        files.add_program(INSIDE, SYSTEM)
        with compiled(API_VERSION) as program:
            files.add_program("/bin/api_version", program.name)
        if UNIT_TESTS.exists():
            files.add_program("/bin/test_kvm", UNIT_TESTS)
        for library in kvm_host.LATE_LIBRARIES:
            files.add_library(library)
        files.add("/guest/small", small_machine.KERNEL)
        if guest_folder() is not None:
            files.add_file("/guest/vmlinuz", guest_folder() / "vmlinuz")
            files.add("/guest/initrd", guest_initrd())
        files.add_file("/guest/vmlinuz-full", kernel_folder() / "vmlinuz")
        files.add("/guest/initrd-disk", guest_initrd(DISK_MODULES))
        files.add("/guest/disk.img", DISK)

    def test_kvm_is_upstreams_with_nested_paging(self):
        self.assertEqual(self.inside("test -c /dev/kvm && api_version", 30), "12")
        self.assertEqual(self.inside("cat /sys/module/kvm_amd/parameters/npt", 30), "Y")

    def test_programs_of_this_host_run_there(self):
        here = subprocess.run([SYSTEM, "--version"], capture_output=True, text=True, check=True)
        self.assertEqual(self.inside(f"{INSIDE} --version", 30), here.stdout.strip())

    def test_status_and_output_come_back(self):
        self.assertEqual(self.host.run("echo out; echo error >&2; exit 42", 30), (42, "out\nerror"))
        self.assertEqual(self.host.run("kill -KILL $$", 30)[0], 128 + signal.SIGKILL)

    def test_a_command_and_its_children_have_a_time_limit(self):
        with self.assertRaises(subprocess.TimeoutExpired) as caught:
            self.host.run("echo begun; sleep 1000 & sleep 1000", 2)
        self.assertIn("begun", caught.exception.output)
        self.assertEqual(self.host.run("ps | grep -c '[s]leep 1000'", 30), (1, "0"))

    def test_a_machine_that_hangs_is_started_anew(self):
        self.inside("touch /first", 30)
        self.host.answer_seconds, usual = 1, self.host.answer_seconds
        self.host.machine_process.send_signal(signal.SIGSTOP)
        try:
            self.assertEqual(self.host.run("test ! -e /first && echo anew", 5), (0, "anew"))
        finally:
            self.host.answer_seconds = usual

    def test_unit_tests(self):
        self.inside("test_kvm --gtest_brief=1", 300)

    def test_host_report_takes_kvm(self):
        output = self.inside(f"ln -s {INSIDE} /tmp/limen && /tmp/limen host --json", 60)
        report = json.loads(output)
        self.assertEqual(report["accelerator"]["choice"], "kvm", report["accelerator"])
        findings = report["findings"]
        self.assertEqual(findings["virtualization"]["value"], "svm")
        self.assertEqual(findings["kvm-modules"]["value"], ["kvm", "kvm_amd"])
        self.assertEqual(findings["nested-kvm_amd"]["value"], True)
        self.assertTrue(findings["kvm-probe"]["value"]["usable"], findings["kvm-probe"])

    def test_memory_beside_the_guests(self):
        machine = shlex.join(small_machine.command(
            INSIDE, "kvm", "user,id=net", "/guest/small", "/tmp/disk", "/tmp/said"))
        # The kernel there gives huge pages to whoever has room for one.
        self.inside("echo always >/sys/kernel/mm/transparent_hugepage/enabled")
        smaps = self.inside(
            f"truncate -s {small_machine.DISK_SIZE} /tmp/disk; {machine} & "
            "while kill -0 $! && ! grep -q A /tmp/said; do sleep 0.1; done; sleep 1; cat /proc/$!/smaps; kill $!")
        self.assertIn(" kB", smaps)
        mebibytes = small_machine.memory_beside_guest(smaps)
        self.assertLess(mebibytes, 8, smaps)

    def test_debians_kernel_to_user_space_and_power_off(self):
        if guest_folder() is None:
            self.skipTest("the guest disk was not made yet")
        for board, processors, chips in (("microvm", 1, "on"), ("pc", 1, "off"), ("pc", 2, "split"),
                                         ("q35", 2, "on")):
            with self.subTest(board=board, kernel_irqchip=chips):
                machine = shlex.join([
                    INSIDE, "-accel", f"kvm,kernel-irqchip={chips}", "-machine", board, "-smp",
                    str(processors), "-m", "256",
                    "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel",
                    "/guest/vmlinuz", "-initrd", "/guest/initrd", "-append",
                    "console=ttyS0 quiet panic=-1"])
                output = self.inside(f"{machine} & {SHOW_VCPU}; wait $!", 120)
                self.assertIn("anon_inode:kvm-vcpu:0", output)
                self.assertIn("user space reached", output)
                self.assertIn("Hypervisor detected: KVM", output)
                self.assertIn(f"processors: {processors}", output)

    def test_a_disk_whose_notifications_are_events(self):
        machine = shlex.join([
            INSIDE, "-accel", "kvm", "-machine", "q35", "-m", "256", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-kernel", "/guest/vmlinuz-full", "-initrd",
            "/guest/initrd-disk", "-append", "console=ttyS0 quiet panic=-1", "-drive",
            "file=/guest/disk.img,format=raw,if=virtio"])
        output = self.inside(machine, 120)
        self.assertIn(f"{hashlib.md5(DISK).hexdigest()}  -", output)

    def test_soft_says_what_that_processor_lacks(self):
        status, output = self.host.run(f"{INSIDE} -accel soft -kernel /guest/vmlinuz", 30)
        self.assertEqual(status, 1, output)
        self.assertIn("error: accelerator 'soft' needs a processor and a kernel with XSAVE", output)


if __name__ == "__main__":
    unittest.main()
