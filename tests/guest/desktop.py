"""The guest with a desktop that scripts/lib/guest.sh makes: how it is started, and what it shows."""

from harness import SYSTEM

WIDTH, HEIGHT = 1280, 800
# A point of the panel at the top, and its colour in red, green and blue.
PANEL, LIGHT = (600, 12), b"\xf6\xf5\xf4"


def command(folder, *words):
    """A machine with the guest in `folder`, what it writes to its disk being forgotten. The serial
    port is the terminal; a graphics card and who looks at it are among `words`."""
    return [SYSTEM, "-m", "2G", "-smp", "2", "-display", "none", "-serial", "stdio", "-nic", "none",
            "-device", "qemu-xhci", "-device", "usb-tablet",
            "-kernel", f"{folder}/vmlinuz", "-initrd", f"{folder}/initrd.img",
            "-append", "root=/dev/vda rw console=tty0 console=ttyS0 quiet",
            "-drive", f"file={folder}/disk.raw,format=raw,if=virtio,snapshot=on", *words]
