#!/usr/bin/env python3
"""Boots the same guest with Limen and with QEMU's TCG, and compares.

The last line says how it went: `bench: boot: limen 98.1 s, tcg 31.0 s, 3.16 times`.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from console import Console  # noqa: E402

PROGRAMS = {"limen": "soft", "tcg": "tcg"}


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def boot(name, program, words):
    """Seconds on the clock and of processor time until systemd says that the system runs."""
    with tempfile.TemporaryDirectory(dir=words.work) as folder:
        disk = os.path.join(folder, "disk.raw")
        subprocess.run(["cp", "--sparse=always", "--reflink=auto",
                        os.path.join(words.guest, "disk.raw"), disk], check=True)
        before = processor_seconds()
        with Console([
                program, "-M", "q35", "-accel", PROGRAMS[name], "-cpu", words.cpu, "-m",
                words.memory, "-kernel", os.path.join(words.guest, "vmlinuz"), "-initrd",
                os.path.join(words.guest, "initrd.img"), "-append",
                "root=/dev/vda rw console=ttyS0", "-drive", f"file={disk},format=raw,if=virtio",
                "-nographic", "-no-reboot"]) as console:
            console.wait_for_login(words.timeout)
            login = console.seconds
            console.log_in("root", "limen", words.timeout)
            console.run("systemctl is-system-running --wait", words.timeout)
            running = console.seconds
            console.close()
        used = processor_seconds() - before
    print(f"==> {name}: login prompt after {login:.1f} s, running after {running:.1f} s, "
          f"{used:.1f} s of processor time", flush=True)
    return running, used


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limen", required=True)
    parser.add_argument("--tcg", default="qemu-system-x86_64")
    parser.add_argument("--guest", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--cpu", default="max")
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1200)
    words = parser.parse_args()
    if not shutil.which(words.tcg):
        print(f"bench: error: no {words.tcg} here to compare with")
        return 1
    best = {name: (float("inf"), float("inf")) for name in PROGRAMS}
    for _ in range(words.rounds):
        for name in PROGRAMS:
            best[name] = min(best[name], boot(name, getattr(words, name), words))
    wall = {name: seconds for name, (seconds, _) in best.items()}
    used = {name: seconds for name, (_, seconds) in best.items()}
    print(f"bench: boot, processor time: limen {used['limen']:.1f} s, tcg {used['tcg']:.1f} s, "
          f"{used['limen'] / used['tcg']:.2f} times")
    print(f"bench: boot: limen {wall['limen']:.1f} s, tcg {wall['tcg']:.1f} s, "
          f"{wall['limen'] / wall['tcg']:.2f} times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
