#!/usr/bin/env python3
"""A machine with AMD-V that runs upstream KVM (kvm.ko and kvm_amd.ko of Debian's kernel), for programs that
want /dev/kvm. Everything is in its initial RAM disk: it has no devices but two serial ports, one for
commands, one for what the kernel says. Who provides the machine is a parameter.

By hand, a program of this host in that machine, with its exit status:

    tests/guest/kvm_host.py [--timeout SECONDS] PROGRAM [ARGUMENT...]
"""

import argparse
import lzma
import pathlib
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from full_kernel import kernel_folder
from initramfs import Initramfs
from console import Console, ConsoleError  # found by way of harness

# In the order in which they need each other.
MODULES = ["irqbypass", "kvm", "ccp", "kvm-amd"]
KERNEL_ARGUMENTS = "console=ttyS1 quiet loglevel=4 panic=-1 mitigations=off"
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
ip link set lo up
for module in MODULES; do insmod /modules/$module.ko; done
commands </dev/ttyS0 >/dev/ttyS0 2>&1
poweroff -f
"""
# Shell commands from a terminal, one a line. Not in process 1, where orphans end: a signal of that (SIGCHLD)
# makes this shell forget what it has read of a line.
COMMANDS = """#!/bin/sh
stty raw -echo
echo ready
while read -r line; do eval "$line"; done
"""
# within SECONDS COMMAND: runs a shell command in a session of its own; all of it is killed when its time
# is over, and /run/late tells of that.
WITHIN = """#!/bin/sh
rm -f /run/late
setsid sh -c "$2" </dev/null &
command=$!
setsid sh -c "sleep $1; touch /run/late; kill -KILL -$command" 2>/dev/null &
watch=$!
wait $command
status=$?
# It may not have its session yet.
kill -KILL -$watch 2>/dev/null || kill -KILL $watch
exit $status
"""
BOOT_SECONDS = 90
# What Limen's programs load when they need it.
LATE_LIBRARIES = ["libZydis.so.4.0", "libslirp.so.0"]


def qemu_tcg(kernel, initrd, append, log):
    """The command of a machine by QEMU's own engine. One processor: with more, either the machine or its
    guests stop at times (QEMU 7.2). Without XSAVE: this engine does not intercept XSETBV, so that KVM has
    a stale XCR0."""
    return ["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-cpu", "max,-xsave", "-smp", "1",
            "-m", "1024", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-serial",
            f"file:{log}", "-kernel", kernel, "-initrd", initrd, "-append", append]


def uncompressed(kernel):
    """The ELF file in a bzImage, which KVM's machine starts in half the time (Documentation/x86/boot.rst:
    payload_offset and payload_length, from the end of the real-mode part). The kernel itself where that is
    not packed by XZ."""
    sectors = kernel[0x1F1] or 4
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = kernel[start:start + length]
    if not payload.startswith(b"\xfd7zXZ\0"):
        return kernel
    return lzma.LZMADecompressor().decompress(payload)


def missing():
    """What of this host is missing for such a machine, in words; None if nothing is."""
    for program in ("qemu-system-x86_64", "busybox"):
        if shutil.which(program) is None:
            return f"{program} is not there"
    folder = kernel_folder()
    if folder is None or not (folder / "modules" / "kvm-amd.ko").exists():
        return "Debian's kernel with kvm_amd was not fetched yet (scripts/test does)"
    return None


class KvmHost:
    """The machine. Put into `files` what its commands need, then `run` them; it starts with the first. One
    that hangs or breaks down is started anew, once for each command."""

    def __init__(self, machine=qemu_tcg):
        """`machine`: gives the command that starts it, as qemu_tcg does."""
        self.files = Initramfs()
        self.answer_seconds = 30  # beyond a command's own time: a machine that takes longer hangs
        self.machine_process = None
        self._machine = machine
        self._console = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="limen-kvm-host-"))
        self._log = self.folder / "kernel.log"
        for module in MODULES:
            self.files.add_file(f"/modules/{module}.ko", kernel_folder() / "modules" / f"{module}.ko")
        for path in ("/proc", "/sys", "/dev", "/tmp", "/run"):
            self.files.add_folder(path)
        for names in ("/etc/passwd", "/etc/group"):
            self.files.add_file(names, names)
        self.files.add_program("/bin/busybox", shutil.which("busybox"))
        self.files.add("/init", INIT.replace("MODULES", " ".join(MODULES)), executable=True)
        self.files.add("/bin/commands", COMMANDS, executable=True)
        self.files.add("/bin/within", WITHIN, executable=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the machine."""
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, command, timeout):
        """Runs a shell command; returns its exit status and output. Raises subprocess.TimeoutExpired where
        the command took longer than `timeout` seconds, and ConsoleError, with the kernel's last words,
        where the machine hung twice."""
        try:
            return self._run(command, timeout)
        except ConsoleError as error:
            print(f"kvm_host: starting anew: {self._end(error)}", file=sys.stderr)
        try:
            return self._run(command, timeout)
        except ConsoleError as error:
            raise ConsoleError(self._end(error)) from error

    def _run(self, command, timeout):
        if self._console is None:
            self._start()
        answer = timeout + self.answer_seconds
        status, output = self._console.run(f"within {timeout} {shlex.quote(command)}", answer)
        if status == 128 + 9 and self._console.run("test -e /run/late", answer)[0] == 0:
            raise subprocess.TimeoutExpired(command, timeout, output)
        return status, output

    def _start(self):
        kernel, initrd = self.folder / "vmlinux", self.folder / "initrd"
        if not initrd.exists():
            kernel.write_bytes(uncompressed((kernel_folder() / "vmlinuz").read_bytes()))
            initrd.write_bytes(self.files.archive())
        self._console = Console(
            self._machine(str(kernel), str(initrd), KERNEL_ARGUMENTS, str(self._log)))
        self.machine_process = self._console.process
        self._console.expect("ready\n", BOOT_SECONDS)

    def _stop(self):
        if self._console is not None:
            self._console.close()
            self._console = None

    def _end(self, error):
        """Ends the machine after an error; returns that with what the machine said last."""
        said = self._console.text[self._console.position:]
        self._stop()
        kernel = self._log.read_text(errors="replace") if self._log.exists() else ""
        last = "\n".join([*said.splitlines()[-10:], *kernel.splitlines()[-20:]])
        return f"{error}; the machine said last:\n{last}"


class KvmHostTest(unittest.TestCase):
    """What is shown in one such machine, whose files a class adds to."""

    @classmethod
    def setUpClass(cls):
        if why := missing():
            raise unittest.SkipTest(why)
        cls.host = KvmHost()
        cls.addClassCleanup(cls.host.close)

    def inside(self, command, timeout=60):
        status, output = self.host.run(command, timeout)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output


def main():
    parser = argparse.ArgumentParser(description="Runs a program in a machine that has upstream KVM.")
    parser.add_argument("--timeout", type=int, default=120, help="in seconds (default: %(default)s)")
    parser.add_argument("program")
    parser.add_argument("argument", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if why := missing():
        sys.exit(f"error: {why}")
    path = f"/bin/{pathlib.Path(options.program).name}"
    with KvmHost() as host:
        host.files.add_program(path, options.program)
        for library in LATE_LIBRARIES:
            host.files.add_library(library)
        try:
            status, output = host.run(shlex.join([path, *options.argument]), options.timeout)
        except subprocess.TimeoutExpired as error:
            sys.exit(f"{error.output}\nerror: not done after {options.timeout} s")
    print(output)
    sys.exit(status)


if __name__ == "__main__":
    main()
