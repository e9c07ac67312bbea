"""The smallest machine that is of use, one processor, one disk, one network card: what it costs beside its
guest's memory is what Limen costs."""

import harness

GUEST_MIB = 128
# Says one byte, with its fourth instruction, and idles.
KERNEL = harness.pvh(harness.say("A") + harness.HALT_FOREVER)
DISK_SIZE = 64 << 20


def command(program, accelerator, netdev, kernel, disk, said):
    """The command that starts it. `kernel`: a file with KERNEL, `disk`: one of DISK_SIZE, `said`: a file for
    what the guest says; `netdev`: back end, named "net"."""
    return [program, "-accel", accelerator, "-M", "microvm", "-m", str(GUEST_MIB), "-nodefaults",
            "-display", "none", "-kernel", str(kernel),
            "-chardev", f"file,id=said,path={said}", "-serial", "chardev:said",
            "-drive", f"file={disk},format=raw,if=none,id=disk", "-device", "virtio-blk-device,drive=disk",
            "-netdev", netdev, "-device", "virtio-net-device,netdev=net"]


def memory_beside_guest(smaps):
    """Resident, in MiB, without the mapping that is as large as the guest's RAM. `smaps`: the text of the
    process's /proc/PID/smaps."""
    total = size = 0
    for line in smaps.splitlines():
        name, _, value = line.partition(":")
        if name == "Size":
            size = int(value.split()[0])
        elif name == "Rss" and size < GUEST_MIB << 10:
            total += int(value.split()[0])
    return total / 1024
