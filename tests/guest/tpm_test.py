#!/usr/bin/env python3
"""A TPM 2.0 in swtpm's process, as Linux and OVMF use it."""

import hashlib
import pathlib
import re
import shutil
import socket
import subprocess
import time
import unittest

from full_kernel import FullKernelTest
from harness import SYSTEM, MachineTest
from console import Console
from monitor_test import Qmp

OVMF = "/usr/share/ovmf/OVMF.fd"


def start_swtpm(test, *words):
    """swtpm with a state of its own; its control socket."""
    path = str(test.folder / "swtpm.sock")
    state = test.folder / "state"
    state.mkdir()
    test.swtpm = subprocess.Popen(["swtpm", "socket", "--tpmstate", f"dir={state}", "--ctrl",
                                   f"type=unixio,path={path}", *words],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    test.addCleanup(test.swtpm.wait, 10)
    test.addCleanup(test.swtpm.terminate)
    end = time.monotonic() + 20
    while not pathlib.Path(path).exists() and time.monotonic() < end:
        time.sleep(0.05)
    return path


def tpm_words(path, model):
    return ["-chardev", f"socket,id=chrtpm,path={path}", "-tpmdev",
            "emulator,id=tpm-tpm0,chardev=chrtpm", "-device", f"{model},tpmdev=tpm-tpm0,id=tpm0"]


@unittest.skipUnless(shutil.which("swtpm"), "Debian's package swtpm is not there")
class Tpm(FullKernelTest):
    # GetRandom and PCR_Read of PCR 0 in SHA-256, with the hexadecimal response.
    RANDOM = "8001 0000000c 0000017b 0008"
    PCR = "8001 00000014 0000017e 00000001 000b 03 010000"
    # The same of PCR 10, and PCR_Extend of it, with an empty password.
    PCR_10 = "8001 00000014 0000017e 00000001 000b 03 000400"
    EXTEND_10 = ("8002 00000041 00000182 0000000a 00000009 40000009 0000 00 0000 00000001 000b" +
                 "5a" * 32)

    def command(self, text):
        octal = "".join(f"\\{byte:03o}" for byte in bytes.fromhex(text))
        output = self.inside(
            f"exec 8<>/dev/tpm0; printf '{octal}' >/dev/piece; dd if=/dev/piece bs=4096 >&8 "
            "2>/dev/null; dd bs=4096 count=1 <&8 2>/dev/null | od -An -v -tx1 -w4096; exec 8>&-")
        # What the machine itself has to say stands on the same terminal.
        return bytes.fromhex(re.search(r"(?m)^( [0-9a-f]{2}){10,}", output).group())

    def test_linux_finds_it_by_each_interface(self):
        for model in ["tpm-tis", "tpm-crb"]:
            with self.subTest(model=model):
                shutil.rmtree(self.folder / "state", ignore_errors=True)
                path = start_swtpm(self, "--tpm2")
                qmp = str(self.folder / f"qmp-{model}")
                self.boot("-qmp", f"unix:{qmp},server=on,wait=off", *tpm_words(path, model))
                self.assertEqual(
                    self.inside("cat /sys/class/tpm/tpm0/tpm_version_major").strip(), "2")
                random = self.command(self.RANDOM)
                self.assertEqual((len(random), random[6:12]), (20, b"\0\0\0\0\0\x08"))
                self.assertNotEqual(random[12:], self.command(self.RANDOM)[12:])
                pcr = self.command(self.PCR)
                self.assertEqual(pcr[6:10], bytes(4))
                self.assertEqual(pcr[-32:], bytes(32))
                client = Qmp(qmp)
                self.addCleanup(client.close)
                self.assertEqual(client.command("query-tpm"), [
                    {"id": "tpm-tpm0", "model": model, "options": {
                        "type": "emulator", "data": {"chardev": "chrtpm"}}}])
                self.assertIn("tpm-tis", client.command("query-tpm-models"))
                # Suspend to RAM does not take from it what it holds.
                self.assertEqual(self.command(self.EXTEND_10)[6:10], bytes(4))
                extended = self.command(self.PCR_10)[-32:]  # before it a counter of updates
                self.console.type("echo mem >/sys/power/state; echo a'wa'ke\n")
                client.wait_event("SUSPEND")
                client.command("system_wakeup")
                self.console.expect(r"\bawake", 60)
                self.assertNotEqual(extended, bytes(32))
                self.assertEqual(self.command(self.PCR_10)[-32:], extended)
                self.power_off()
                self.assertEqual(self.swtpm.wait(10), 0)  # it went with the machine

    def test_a_machine_outlives_its_tpm(self):
        path = start_swtpm(self, "--tpm2")
        self.boot(*tpm_words(path, "tpm-tis"))
        self.command(self.RANDOM)
        self.swtpm.kill()
        self.swtpm.wait(10)
        self.assertEqual(self.command(self.RANDOM)[6:10], b"\0\0\1\1")  # TPM_RC_FAILURE
        self.inside("true")
        self.power_off()
        self.assertIn("is lost", self.console.text)

    def test_seabios_measures_what_it_boots(self):
        path = start_swtpm(self, "--tpm2", "--log", f"level=20,file={self.folder}/log")
        disk = self.file("disk.img", b"\xF4\xEB\xFD" + bytes(507) + b"\x55\xAA" + bytes(1 << 20))
        console = Console([SYSTEM, "-display", "none", "-nodefaults", "-chardev",
                           "stdio,id=said", "-device", "isa-debugcon,iobase=0x402,chardev=said",
                           *tpm_words(path, "tpm-tis"), "-drive", f"file={disk},format=raw"])
        self.addCleanup(console.close)
        console.expect("Booting from 0000:7c00", 60)
        log = (self.folder / "log").read_text(errors="replace")
        self.assertIn("00 00 01 82", log, "TPM2_PCR_Extend")
        # Code without the partition table.
        sector = pathlib.Path(disk).read_bytes()[:440]
        digest = hashlib.sha256(sector).hexdigest()
        self.assertIn(digest, re.sub(r"\s", "", log).lower(), "the boot sector's")

    def test_ovmf_measures(self):
        if not pathlib.Path(OVMF).exists():
            self.skipTest("Debian's package ovmf is not there")
        guest = self.debian()
        path = start_swtpm(self, "--tpm2")
        machine = Console([
            SYSTEM, "-m", "1G", "-machine", "q35", "-bios", OVMF, "-nographic", "-kernel",
            str(guest / "vmlinuz"), "-initrd", str(guest / "initrd.img"), "-append",
            "console=ttyS0 root=/dev/vda ro quiet init=/bin/bash -- -c \"cat "
            "/sys/class/tpm/tpm0/pcr-sha256/0; mount -t securityfs none /sys/kernel/security; wc -c "
            "/sys/kernel/security/tpm0/binary_bios_measurements; echo o >/proc/sysrq-trigger; "
            "while :; do :; done\"", *tpm_words(path, "tpm-crb"), "-drive",
            f"file={guest}/disk.raw,format=raw,if=virtio,snapshot=on"])
        self.addCleanup(machine.close)
        machine.expect(r"(?m)^[0-9A-F]{64}", 180)
        self.assertNotRegex(machine.text, "(?m)^0{64}")
        machine.expect(r"\d{3,} /sys/kernel/security/tpm0/binary_bios_measurements", 30)
        self.assertEqual(machine.wait(60), 0)


class BadTpm(MachineTest):
    def refused(self, *words):
        return self.run_program(SYSTEM, "-display", "none", "-S", *words)

    def test_nobody_there(self):
        path = str(self.folder / "none.sock")
        self.assert_one_line_error(self.refused(*tpm_words(path, "tpm-tis")), "tpm-tpm0", path)

    def test_somebody_else_there(self):
        path = str(self.folder / "other.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            process = subprocess.Popen([SYSTEM, "-display", "none", "-S",
                                        *tpm_words(path, "tpm-tis")], stderr=subprocess.PIPE,
                                       text=True)
            self.addCleanup(process.kill)
            connection, _ = server.accept()
            connection.recv(4)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.assertEqual(process.wait(30), 1)
            message = process.stderr.read()
            process.stderr.close()
            connection.close()
        self.assertIn("does not answer as swtpm", message)

    @unittest.skipUnless(shutil.which("swtpm"), "Debian's package swtpm is not there")
    def test_an_old_tpm(self):
        path = start_swtpm(self)
        self.assert_one_line_error(self.refused(*tpm_words(path, "tpm-tis")), "TPM 2.0", "--tpm2")

    def test_options_that_do_not_fit(self):
        self.assert_one_line_error(self.refused("-tpmdev", "passthrough,id=t"), "passthrough",
                                   "emulator")
        self.assert_one_line_error(self.refused("-tpmdev", "emulator,id=t,chardev=c"), "'c'")
        self.assert_one_line_error(self.refused("-chardev", "null,id=c", "-tpmdev",
                                                "emulator,id=t,chardev=c"), "socket")
        self.assert_one_line_error(self.refused("-device", "tpm-tis,tpmdev=t"), "-tpmdev 't'")


if __name__ == "__main__":
    unittest.main()
