"""Takes the pictures in README.md and docs: screenshot.py console|desktop PROGRAM GUEST_FOLDER FILE.png"""

import re
import subprocess
import sys
import time

from browser import Browser

WHAT, PROGRAM, GUEST, FILE = sys.argv[1:5]

# What a person would look at first.
COMMANDS = [r"PS1='\[\e[1;34m\]\h\[\e[0m\]:\w# '", "clear",
            "uname -a", "grep PRETTY /etc/os-release", "lscpu | grep -E 'Model name|Hypervisor|^CPU.s'",
            "free -h", "df -h /", "systemctl is-system-running --wait"]
DESKTOP_COMMANDS = ["uname -r", "ls -l /dev/dri", "free -m"]  # nothing that needs Shift
SIZES = {"console": (1120, 660), "desktop": (1280, 1014)}  # of the browser's window


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


def console(page):
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


def desktop(page):
    def wait_for_colour(x, y, colour, timeout):
        """At a place of the guest's screen."""
        page.wait("const canvas = document.querySelector('#panel-screen canvas');"
                  f"return canvas && String(canvas.getContext('2d').getImageData({x}, {y}, 1, 1)"
                  f".data.slice(0, 3)) === '{colour}'", timeout)

    wait_for_colour(600, 12, "246,245,244", 300)  # the panel
    time.sleep(15)  # what comes behind it
    left, top, scale = page.run(
        "const canvas = document.querySelector('#panel-screen canvas');"
        "const box = canvas.getBoundingClientRect();"
        "return [box.left, box.top, box.width / canvas.width]")

    def click(x, y):
        page.click_at(round(left + x * scale), round(top + y * scale))

    click(568, 776)  # the terminal's button
    wait_for_colour(640, 400, "0,0,0", 120)
    time.sleep(5)
    for command in DESKTOP_COMMANDS:
        enter(page, command)
        time.sleep(3)


def main():
    options = ["-append", "root=/dev/vda rw console=ttyS0 quiet"]
    if WHAT == "desktop":
        options = ["-append", "root=/dev/vda rw quiet", "-vga", "virtio", "-device", "qemu-xhci",
                   "-device", "usb-tablet"]
    machine = subprocess.Popen(
        [PROGRAM, "-name", "guest=debian", "-m", "1G", "-smp", "2", "-display", "web,port=0",
         "-kernel", f"{GUEST}/vmlinuz", "-initrd", f"{GUEST}/initrd.img", *options,
         "-drive", f"file={GUEST}/disk.raw,format=raw,if=virtio,snapshot=on",
         "-device", "virtio-rng-pci"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    page = Browser(*SIZES[WHAT])
    try:
        page.open(re.search(r"http://\S+", machine.stderr.readline())[0])
        {"console": console, "desktop": desktop}[WHAT](page)
        page.picture(FILE)
    finally:
        page.close()
        machine.kill()
        machine.wait()


if __name__ == "__main__":
    main()
