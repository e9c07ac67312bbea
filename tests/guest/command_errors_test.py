#!/usr/bin/env python3
"""Bad input: one clear line, exit status 1, nothing left behind."""

import os
import pathlib
import subprocess
import unittest

import harness
from harness import IMG, LIMEN, SYSTEM, MachineTest


class CommandErrors(MachineTest):
    def system(self, *words):
        return self.run_program(SYSTEM, "-nographic", *words)

    def kernel(self):
        return self.file("kernel", harness.multiboot(harness.POWER_OFF))

    def refused_kernel(self, path, *parts):
        self.assert_one_line_error(self.system("-kernel", path), path, *parts)

    def test_unknown_option(self):
        self.assert_one_line_error(self.system("-nogrphic"), "-nogrphic", "-nographic")

    def test_unknown_device(self):
        result = self.system("-kernel", self.kernel(), "-device", "virtio-blk-pic")
        self.assert_one_line_error(result, "virtio-blk-pic", "virtio-blk-pci")

    def test_unknown_property(self):
        result = self.system("-kernel", self.kernel(), "-device", "virtio-rng-pci,maxbytes=2")
        self.assert_one_line_error(result, "maxbytes", "max-bytes")

    def test_unknown_drive_property(self):
        result = self.system("-kernel", self.kernel(), "-drive", "file=x,cahce=none")
        self.assert_one_line_error(result, "cahce", "cache")

    def test_missing_kernel(self):
        self.refused_kernel(str(self.folder / "vmlinuz"))

    def test_kernel_that_is_a_folder(self):
        self.refused_kernel(str(self.folder), "directory")

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_unreadable_kernel(self):
        path = self.kernel()
        os.chmod(path, 0)
        self.refused_kernel(path)

    def test_empty_kernel(self):
        self.refused_kernel(self.file("kernel"))

    def test_corrupt_kernel(self):
        self.refused_kernel(self.file("kernel", b"\x00\x01\x02\x03" * 5000))

    def test_truncated_kernel(self):
        whole = harness.multiboot(harness.POWER_OFF * 500)
        self.refused_kernel(self.file("kernel", whole[:len(whole) // 2]))

    def test_truncated_linux_kernel(self):
        image = (self.debian() / "vmlinuz").read_bytes()
        for size in (300, 1 << 14, 1 << 20):
            with self.subTest(size=size):
                self.refused_kernel(self.file("vmlinuz", image[:size]))

    def test_initrd_that_does_not_fit(self):
        path = str(self.folder / "initrd")
        with open(path, "wb") as file:
            file.truncate(200 << 20)
        result = self.system("-m", "128M", "-kernel", str(self.debian() / "vmlinuz"), "-initrd",
                             path)
        self.assert_one_line_error(result, path)

    def test_missing_initrd(self):
        path = str(self.folder / "initrd")
        result = self.system("-kernel", str(self.debian() / "vmlinuz"), "-initrd", path)
        self.assert_one_line_error(result, path)

    def test_memory(self):
        kernel = self.kernel()
        for size, part in (("0", "needs memory"), ("lots", "not a size"), ("-1", "not a size"),
                           ("100P", "this host has"), ("4K", "memory")):
            with self.subTest(size=size):
                self.assert_one_line_error(self.system("-kernel", kernel, "-m", size), part)

    def test_missing_disk_leaves_nothing(self):
        kernel, path = self.kernel(), str(self.folder / "disk.img")
        result = self.run_program(SYSTEM, "-display", "none", "-kernel", kernel, "-serial",
                                  f"file:{self.folder}/serial.log", "-drive", f"file={path}")
        self.assert_one_line_error(result, path)
        self.assertEqual(os.listdir(self.folder), ["kernel"])

    def test_disk_that_is_not_whole_sectors(self):
        path = self.file("disk.img", b"x" * 1000)
        result = self.system("-kernel", self.kernel(), "-drive", f"file={path},format=raw")
        self.assert_one_line_error(result, path, "512")

    def test_disk_that_is_a_folder(self):
        result = self.system("-kernel", self.kernel(), "-drive", f"file={self.folder}")
        self.assert_one_line_error(result, str(self.folder), "directory")

    def test_disk_of_another_machine(self):
        disk = self.file("disk.img", bytes(1 << 20))
        kernel = self.file("halting", harness.multiboot(harness.say("up\n") + harness.HALT_FOREVER))
        words = [SYSTEM, "-display", "none", "-serial", "stdio", "-kernel", kernel, "-drive",
                 f"file={disk},format=raw"]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as first:
            try:
                self.assertEqual(first.stdout.readline(), b"up\n")
                self.assert_one_line_error(self.run_program(*words), disk)
                self.assert_one_line_error(self.run_program(IMG, "resize", disk, "2M"), disk)
            finally:
                first.terminate()
        self.assertEqual(first.returncode, 0)

    def test_kvm_is_refused_with_the_cause(self):
        disk = self.folder / "disk.img"
        words = ["-accel", "kvm", "-kernel", self.kernel(), "-drive",
                 f"file={disk},format=qcow2,if=virtio"]
        device = pathlib.Path("/dev/kvm")
        if not device.exists():
            self.assert_one_line_error(self.system(*words), "/dev/kvm is not there", "-accel soft")
            return
        if device.stat().st_mode & 0o006 != 0o006 and os.geteuid() == 0:
            nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
            result = self.run_program(*nobody, SYSTEM, "-display", "none", *words)
            self.assert_one_line_error(result, "/dev/kvm may not be opened by this user", "-accel soft")
        if os.access(device, os.R_OK | os.W_OK):
            self.assert_one_line_error(self.system("-cpu", "host,+nosuch", *words[:4]), "nosuch")
        self.assert_one_line_error(self.system("-accel", "kvm,kernel-irqchip=half"),
                                   "kernel-irqchip=half")
        self.assertFalse(disk.exists())

    def test_process_that_may_not_make_code(self):
        result = self.run_program(*harness.WITHOUT_CODE, SYSTEM, "-nographic", "-kernel", self.kernel())
        if result.returncode == 77:
            self.skipTest("this kernel has no PR_SET_MDWE")
        self.assert_one_line_error(result, "may not make code", "tier=interpreter")

    def test_unknown_processor_and_feature(self):
        kernel = self.kernel()
        self.assert_one_line_error(self.system("-kernel", kernel, "-cpu", "hots"), "hots", "host")
        self.assert_one_line_error(self.system("-kernel", kernel, "-cpu", "max,+avx3"), "avx3")

    def test_limen_run(self):
        run = [LIMEN, "run", "--kernel", self.kernel()]
        self.assert_one_line_error(self.run_program(LIMEN), "a command is missing", "run, image")
        self.assert_one_line_error(self.run_program(LIMEN, "image"), "a command is missing", "resize")
        self.assert_one_line_error(self.run_program(LIMEN, "rnu"), "rnu", "run")
        self.assert_one_line_error(self.run_program(LIMEN, "run"), "--kernel")
        self.assert_one_line_error(self.run_program(*run, "--memroy", "1G"), "--memroy", "--memory")
        self.assert_one_line_error(self.run_program(*run, "--memory", "x"), "--memory x")
        self.assert_one_line_error(self.run_program(*run, "--cpus", "two"), "--cpus two")
        self.assert_one_line_error(self.run_program(*run, "--cpus", "9999999999"), "too many", "64")
        self.assert_one_line_error(self.run_program(*run, "--console", "stdoi"), "stdoi", "stdio")
        self.assert_one_line_error(self.run_program(*run, "--device", "virtio-rgn"), "virtio-rgn")
        for words in ("22", "2222:", "0:22", "a:22", "2222:65536", "1:2:3:4x", "2222:22/sctp"):
            self.assert_one_line_error(self.run_program(*run, "--publish", words),
                                       f"--publish {words}", "GUEST_PORT")
        self.assert_one_line_error(
            self.run_program(*run, "--network", "none", "--publish", "2222:22"), "not 'none'")
        self.assert_one_line_error(self.run_program(*run, "--network", "usr"), "--network usr")

    def test_help_everywhere(self):
        for words in ([SYSTEM, "-help"], [SYSTEM, "--version"], [SYSTEM, "-device", "help"],
                      [SYSTEM, "-cpu", "help"], [LIMEN, "--help"], [LIMEN, "run", "--help"],
                      [LIMEN, "run", "--device", "help"],
                      [LIMEN, "run", "--device", "pc-testdev,help"], [LIMEN, "image", "--help"], [LIMEN, "image", "create", "--help"],
                      [LIMEN, "host", "--help"], [IMG, "--help"],
                      [IMG, "create", "--help"]):
            with self.subTest(words=words):
                result = self.run_program(*words)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertGreater(len(result.stdout), 20)
                self.assertEqual(result.stderr, "")


if __name__ == "__main__":
    unittest.main()
