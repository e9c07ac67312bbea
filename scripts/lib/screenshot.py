"""Takes the picture in README.md: screenshot.py PROGRAM GUEST_FOLDER FILE.png"""

import re
import subprocess
import sys
import time

from browser import Browser

PROGRAM, GUEST, FILE = sys.argv[1:4]

# What a person would look at first.
COMMANDS = [r"PS1='\[\e[1;34m\]\h\[\e[0m\]:\w# '", "clear",
            "uname -a", "grep PRETTY /etc/os-release", "lscpu | grep -E 'Model name|Hypervisor|^CPU.s'",
            "free -h", "df -h /", "systemctl is-system-running --wait"]


def rows(page, pattern, timeout=300):
    """Waits for a regular expression on the serial port's screen."""
    page.wait("return [...document.querySelectorAll('#panel-serial0 .xterm-rows > div')]"
              f".some((row) => /{pattern}/.test(row.textContent.trimEnd()))", timeout)


def enter(page, text):
    page.type(text)
    page.keys("Enter")


def run(page, command):
    """Enters a command and waits for the next prompt, the last on the screen."""
    enter(page, command)
    time.sleep(0.5)
    page.wait("const rows = [...document.querySelectorAll('#panel-serial0 .xterm-rows > div')]"
              ".map((row) => row.textContent.trimEnd()).filter((row) => row !== '');"
              "return /:~#$/.test(rows.at(-1))", 60)


def main():
    machine = subprocess.Popen(
        [PROGRAM, "-name", "guest=debian", "-m", "1G", "-smp", "2", "-display", "web,port=0",
         "-kernel", f"{GUEST}/vmlinuz", "-initrd", f"{GUEST}/initrd.img",
         "-append", "root=/dev/vda rw console=ttyS0 quiet",
         "-drive", f"file={GUEST}/disk.raw,format=raw,if=virtio,snapshot=on",
         "-device", "virtio-rng-pci"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    page = Browser(1120, 660)
    try:
        page.open(re.search(r"http://\S+", machine.stderr.readline())[0])
        rows(page, "login:$")
        page.click("#panel-serial0")
        enter(page, "root")
        rows(page, "Password:$")
        enter(page, "limen")
        rows(page, "[#$]$")
        for command in COMMANDS:
            run(page, command)
        enter(page, "dd if=/dev/vda of=/dev/null bs=1M iflag=direct status=progress")
        page.wait("return /[1-9].*MB.s.*↑/.test(document.getElementById('disk').textContent)")
        time.sleep(2)  # the rates are those of a whole second
        page.picture(FILE)
    finally:
        page.close()
        machine.kill()
        machine.wait()


if __name__ == "__main__":
    main()
