"""What the tests of whole machines share: the programs, a folder of their own, small guests."""

import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("LIMEN_BIN", ROOT / "build" / "bin"))
SYSTEM = str(BIN / "limen-system-x86_64")
LIMEN = str(BIN / "limen")
IMG = str(BIN / "limen-img")
# In front of a program's words: it may not make code (PR_SET_MDWE, Linux 6.3). Ends with 77 where the kernel
# has no such thing.
WITHOUT_CODE = [sys.executable, "-c", "import ctypes, os, sys\n"
                "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit(77)\n"
                "os.execv(sys.argv[1], sys.argv[1:])"]

sys.path.insert(0, str(ROOT / "scripts" / "lib"))


def _guest_folder(pattern):
    cache = os.environ.get("LIMEN_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "limen")
    folders = sorted(pathlib.Path(cache).glob(pattern))
    return folders[-1] if folders else None


def guest_folder():
    """Where scripts/run keeps kernel, initrd and disk; None if it did not run yet."""
    return _guest_folder("debian-12-*")


def cloud_guest_folder():
    """The same of the cloud image."""
    return _guest_folder("debian-cloud-12-*")


def installed_guest_folder():
    """The same of the disks that firmware starts."""
    return _guest_folder("debian-installed-12-*")


def desktop_guest_folder():
    """The same of the guest with a desktop."""
    return _guest_folder("debian-desktop-12-*")


class MachineTest(unittest.TestCase):
    """A test with an empty folder of its own."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="limen-guest-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def file(self, name, content=b""):
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def debian(self):
        folder = guest_folder()
        if folder is None:
            self.skipTest("the guest disk was not made yet")
        return folder

    def run_program(self, *words, timeout=60, **options):
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL, **options)

    def assert_one_line_error(self, result, *parts):
        """Exit status 1 and one line on standard error that has all of `parts`."""
        lines = result.stderr.strip().splitlines()
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertIn("error: ", lines[0])
        for part in parts:
            self.assertIn(part, lines[0])
        self.assertFalse(lines[0].endswith("."), lines[0])


# Code of small 32-bit guests, by hand: no assembler is needed to run the tests.
def outb(port, value):
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def outw(port, value):
    return (b"\x66\xba" + struct.pack("<H", port) + b"\x66\xb8" + struct.pack("<H", value) +
            b"\x66\xef")


HALT_FOREVER = b"\xfa\xf4\xeb\xfd"
POWER_OFF = outw(0x604, 5 << 10 | 1 << 13) + HALT_FOREVER
RESET = outb(0xCF9, 0x0E) + HALT_FOREVER
# LIDT of an empty table, then INT3: neither it nor the double fault has a handler.
TRIPLE_FAULT = b"\x6a\x00\x6a\x00\x0f\x01\x1c\x24\xcc"


def say(text, port=0x3F8):
    """Code that writes `text` to the first serial port."""
    return b"".join(outb(port, byte) for byte in text.encode())


def multiboot(code):
    """A Multiboot 0.6.96 kernel at 1 MiB that runs `code` with a stack."""
    load, header_size = 0x100000, 32
    code = b"\xbc" + struct.pack("<I", 0x200000) + code
    end = load + header_size + len(code)
    magic, flags = 0x1BADB002, 1 << 16
    return struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, load, load, end, end,
                       load + header_size) + code


def pvh(code):
    """A 64-bit ELF with a PVH entry note (the Xen ABI's x86/HVM direct boot) that runs `code`, which
    is 32-bit, at 1 MiB with a stack."""
    load, note_at, code_at = 0x100000, 0x200, 0x1000
    code = b"\xbc" + struct.pack("<I", 0x200000) + code
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", load)  # XEN_ELFNOTE_PHYS32_ENTRY
    header = b"\x7fELF" + struct.pack("<BBBB8xHHIQQQIHHHHHH", 2, 1, 1, 0, 2, 62, 1, load, 64, 0, 0,
                                      64, 56, 2, 0, 0, 0)
    segments = [(1, 5, code_at, load, load, len(code), len(code), 0x1000),
                (4, 4, note_at, 0, 0, len(note), len(note), 4)]
    header += b"".join(struct.pack("<IIQQQQQQ", *segment) for segment in segments)
    return header.ljust(note_at, b"\0") + note.ljust(code_at - note_at, b"\0") + code
