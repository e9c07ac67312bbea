#!/usr/bin/env python3
"""Boots the guest twice, looks at it from inside, and powers it off.

The last line says how it went: `boot: ok: login prompt after 31.2 s, power-off clean`.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from console import Console, ConsoleError  # noqa: E402

COMMAND_LINE = "root=/dev/vda rw console=ttyS0"


def say(text):
    print(f"==> {text}", flush=True)


# What a kernel says of a machine that is not sound.
COMPLAINTS = re.compile(r"segfault|general protection|BUG:|soft lockup|rcu.*stall|"
                        r"unable to handle|invalid opcode|clocksource.*unstable")


class Check:
    def __init__(self, words):
        self.words = words
        self.boots = 0

    def command(self):
        words = self.words
        return [
            words.program, "-M", "q35", "-accel", words.accel, "-cpu", words.cpu, "-m", words.memory,
            "-kernel", os.path.join(words.guest, "vmlinuz"),
            "-initrd", os.path.join(words.guest, "initrd.img"), "-append", COMMAND_LINE,
            "-drive", f"file={words.disk},format=raw,if=virtio", "-device", "virtio-rng-pci",
            "-nographic", "-no-reboot", "-smp", str(words.smp),
        ]

    def boot(self):
        """A console with a shell, and the time to the login prompt."""
        self.boots += 1
        log = os.path.join(self.words.logs, f"console-{self.boots}.log")
        say(f"boot {self.boots}: waiting for the login prompt (console: {log})")
        console = Console(self.command(), log=log,
                          echo=sys.stdout if self.words.show_console else None)
        try:
            console.wait_for_login(self.words.timeout)
            seconds = console.seconds
            say(f"login prompt after {seconds:.1f} s "
                f"({console.processor_seconds:.1f} s of processor time)")
            console.log_in("root", "limen", self.words.timeout / 4)
        except BaseException:
            console.close()
            raise
        return console, seconds

    def expect_output(self, console, command, wanted):
        status, output = console.run(command, self.words.timeout)
        say(f"{command}: {output.splitlines()[-1] if output else ''} (status {status})")
        if status != 0 or (wanted and wanted not in output):
            raise ConsoleError(f"'{command}' gave status {status} and: {output}")
        return output

    def power_off(self, console):
        console.type("systemctl poweroff\n")
        status = console.wait(self.words.timeout / 2)
        if status != 0:
            raise ConsoleError(f"exit status {status} after power-off")
        if "Power down" not in console.text:
            raise ConsoleError("the machine ended before the guest powered off")
        complaint = COMPLAINTS.search(console.text)
        if complaint:
            line = console.text[console.text.rfind("\n", 0, complaint.start()) + 1:]
            raise ConsoleError(f"the kernel says: {line.splitlines()[0]}")
        say(f"powered off after {console.seconds:.1f} s")

    def run(self):
        token = secrets.token_hex(16)
        console, seconds = self.boot()
        with console:
            self.expect_output(console, "systemctl is-system-running --wait", "running")
            self.expect_output(console, "systemd-analyze", "")
            self.expect_output(console, "uname -r", "cloud-amd64")
            self.expect_output(console, "lsblk", "vda")
            self.expect_output(console, f"echo {token} >/root/written && sync", "")
            self.power_off(console)
        console, _ = self.boot()
        with console:
            self.expect_output(console, "cat /root/written", token)
            self.power_off(console)
        fsck = subprocess.run(["e2fsck", "-fn", self.words.disk], capture_output=True, text=True)
        if fsck.returncode != 0:
            raise ConsoleError(f"the file system is not clean: {fsck.stdout}{fsck.stderr}")
        return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="limen-system-x86_64, or QEMU's")
    parser.add_argument("--accel", default="soft")
    parser.add_argument("--cpu", default="max")
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--smp", type=int, default=1, help="processors")
    parser.add_argument("--guest", required=True, help="folder with vmlinuz and initrd.img")
    parser.add_argument("--disk", required=True, help="disk image, written to")
    parser.add_argument("--logs", required=True, help="folder for what the console says")
    parser.add_argument("--timeout", type=float, default=900, help="seconds to the login prompt")
    parser.add_argument("--show-console", action="store_true")
    words = parser.parse_args()
    check = Check(words)
    started = time.monotonic()
    try:
        seconds = check.run()
    except (ConsoleError, OSError, KeyboardInterrupt) as error:
        log = os.path.join(words.logs, f"console-{check.boots}.log")
        if os.path.exists(log):
            with open(log, errors="replace") as file:
                print("".join(file.readlines()[-25:]))
        print(f"boot: failed after {time.monotonic() - started:.1f} s: {error or 'interrupted'}")
        return 1
    print(f"boot: ok: login prompt after {seconds:.1f} s, power-off clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
