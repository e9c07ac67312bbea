"""Where scripts/bench runs its rows: shells natively and in machines, all driven in the same way."""

import os
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench_rows import TOOLS  # noqa: E402
from console import Console, ConsoleError  # noqa: E402

MEMORY = "1024"
COMMAND_LINE = "root=/dev/vda rw console=ttyS0"
ENVIRONMENT = ("export LC_ALL=C HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
               "/sbin:/bin BENCH_DISK={disk}; cd /tmp")

# Arguments: the tree, the tools, the disk. Everything is mounted in a namespace of its own.
ENTER_TREE = f"""
set -eu
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc" 2>/dev/null || mount --rbind /proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
mkdir "$1{TOOLS}"
mount --bind "$2" "$1{TOOLS}"
: >"$1/tmp/disk.raw"
mount --bind "$3" "$1/tmp/disk.raw"
exec chroot "$1" /bin/bash
"""


class Session:
    """A shell that rows run in."""

    def __init__(self, name, console, disk):
        self.name = name
        self.console = console
        self._disk = disk
        self._marker = 0
        # How far the clock inside went for a second of the host's, worst case.
        self.clock_error = 0.0

    def prepare(self, setup, timeout):
        status, output = self.console.run(f"{{ {setup}; }} 2>&1", timeout)
        if status != 0:
            raise ConsoleError(f"{self.name}: could not be set up: {output}")
        self.console.run(ENVIRONMENT.format(disk=self._disk), timeout)

    def run(self, command, timeout):
        """Runs a command; returns its exit status and output, and compares the clocks."""
        self._marker += 1
        begin, end = f"[{self._marker}[", f"]{self._marker}]"
        self.console.type(f"echo '['{self._marker}'['$EPOCHREALTIME; {{ {command}; }} 2>&1 </dev/null; "
                          f"echo ']'{self._marker}']'$? $EPOCHREALTIME\n")
        inside = float(self.console.expect(re.escape(begin) + r"([0-9.]+)\r?\n", timeout).group(1))
        start, outside = self.console.position, time.monotonic()
        match = self.console.expect(re.escape(end) + r"(\d+) ([0-9.]+)\r?\n", timeout)
        outside = time.monotonic() - outside
        inside = float(match.group(2)) - inside
        # What is short says nothing: the console itself takes milliseconds.
        if outside >= 0.5 and abs(inside - outside) > 0.02:
            self.clock_error = max(self.clock_error, abs(inside / outside - 1))
        output = self.console.text[start:match.start()].replace("\r", "")
        return int(match.group(1)), output

    def processor_seconds(self):
        """What the process behind the session has used so far."""
        try:
            with open(f"/proc/{self.console.process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.console.close()


def native_command(tree, tools, disk):
    """Debian's own programs from the guest's tree: the very same bytes as in the machines."""
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    if os.getuid() != 0:
        namespaces.append("--map-root-user")
    return namespaces + ["sh", "-c", ENTER_TREE, "sh", tree, tools, disk]


def start_native(tree, tools, disk):
    console = Console(native_command(tree, tools, disk))
    session = Session("native", console, "/tmp/disk.raw")
    try:
        session.prepare("true", 30)
    except (ConsoleError, OSError) as error:
        session.close()
        raise ConsoleError(f"cannot run Debian's programs natively: {error}: {console.text}") from error
    return session


def machine_command(program, accelerator, guest, disks, processors):
    """What both emulators are started with, word for word apart from -accel."""
    command = [
        program, "-M", "q35", "-accel", accelerator, "-cpu", "max", "-m", MEMORY, "-smp",
        str(processors), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", os.path.join(guest, "vmlinuz"), "-initrd", os.path.join(guest, "initrd.img"),
        "-append", COMMAND_LINE]
    for disk in disks:
        command += ["-drive", f"file={disk.replace(',', ',,')},format=raw,if=virtio"]
    return command


class Machine(Session):
    """A booted guest; `boot_seconds` is the time from the process's start to multi-user.target."""

    def __init__(self, name, command, log, timeout):
        super().__init__(name, Console(command, log=log), "/dev/vdc")
        try:
            self.console.expect(r"Reached target .*Multi-User System", timeout)
            self.boot_seconds = self.console.seconds
            self._log_in(timeout)
            self.prepare(f"dmesg -n 1; systemctl is-system-running --wait; mount -t tmpfs tmpfs /tmp && "
                         f"mkdir {TOOLS} && mount -o ro /dev/vdb {TOOLS}", timeout)
        except BaseException:
            self.close()
            raise

    def _log_in(self, timeout):
        """The prompt may have come already, or be in the middle of something: an empty line asks again."""
        for _ in range(max(1, round(timeout / 15))):
            self.console.type("\n")
            try:
                self.console.expect(r"\w login: ", 15)
            except ConsoleError:
                if self.console.process.poll() is not None:
                    raise
                continue
            self.console.log_in("root", "limen", timeout)
            return
        raise ConsoleError(f"{self.name}: no login prompt")

    def memory_mib(self):
        """What the process has in memory now, without the guest's RAM and translated code."""
        with open(f"/proc/{self.console.process.pid}/smaps") as file:
            return memory_beside(file, ("/memfd:limen-ram", "/dev/zero (deleted)"))

    def close(self):
        """Ends the machine in a way that lets it print its statistics into the log."""
        if self.console.process.poll() is None:
            self.console.signal()
            try:
                self.console.wait(10)
            except ConsoleError:
                pass
        super().close()


def memory_beside(smaps, names):
    """MiB (proportional set size) of the mappings that are neither called so nor, by their
    protection key, translated code, which is shared memory without a file where the host has no such
    keys."""
    kilobytes, size, counts = 0, 0, True
    for line in smaps:
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counts = not any(name in line for name in names)
            size = 0
        elif field := re.match(r"Pss:\s+(\d+) kB", line):
            size = int(field.group(1)) if counts else 0
            kilobytes += size
        elif re.match(r"ProtectionKey:\s+[1-9]", line):
            kilobytes -= size
    return kilobytes / 1024


def make_tools_disk(folder, image):
    """An ext4 image of a folder."""
    if os.path.exists(image):
        os.remove(image)
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, image], check=True,
                   stdout=subprocess.DEVNULL)


def make_scratch_disk(image, megabytes=128):
    """A disk to read and write, without holes."""
    block = bytes(range(256)) * 4096
    with open(image, "wb") as file:
        for _ in range(megabytes):
            file.write(block)


def copy_disk(source, target):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


def program_version(program):
    path = shutil.which(program) or program
    output = subprocess.run([path, "-version"], capture_output=True, text=True).stdout
    return output.splitlines()[0] if output else "unknown"
