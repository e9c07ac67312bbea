"""A disk with Debian's qemu-guest-agent and the libraries that the guest does not have: made once from
Debian's packages and kept beside the guests."""

import os
import pathlib
import shutil
import subprocess
import tempfile

PACKAGES = ["qemu-guest-agent", "libglib2.0-0", "liburing2", "libnuma1"]
LIBRARIES = ["libglib-2.0.so.0", "libgmodule-2.0.so.0", "liburing.so.2", "libnuma.so.1"]
# How the agent is started from the disk, mounted at /mnt.
COMMAND = "LD_LIBRARY_PATH=/mnt /mnt/qemu-ga"


def agent_disk():
    """Its path, or None where Debian's packages cannot be had."""
    cache = pathlib.Path(os.environ.get("LIMEN_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "limen"))
    disk = cache / "agent-debian-12-1.img"
    if disk.exists():
        return disk
    work = pathlib.Path(tempfile.mkdtemp(prefix="limen-agent-"))
    try:
        run = dict(cwd=work, check=True, capture_output=True, timeout=300)
        subprocess.run(["apt-get", "download", *PACKAGES], **run)
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package.name, "root"], **run)
        content = work / "content"
        content.mkdir()
        shutil.copy(work / "root/usr/sbin/qemu-ga", content)
        for library in LIBRARIES:
            shutil.copy(next((work / "root").rglob(library)), content)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", "content", "disk.img", "16M"], **run)
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / "disk.img", str(disk) + ".new")
        os.replace(str(disk) + ".new", disk)
        return disk
    except (OSError, subprocess.SubprocessError, StopIteration):
        return None
    finally:
        shutil.rmtree(work, ignore_errors=True)
