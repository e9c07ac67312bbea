"""What tests of whole systems share: a machine whose screen can be read, and CDs to start from."""

import concurrent.futures
import pathlib
import re
import subprocess
import tempfile
import time

from harness import SYSTEM, MachineTest
from console import Console  # found by way of harness
from monitor_test import Qmp
from picture import Picture

OVMF = "/usr/share/ovmf/OVMF.fd"
THROUGH_OVMF = ["-machine", "q35", "-bios", OVMF]
TEXT_SCREEN, COLUMNS, ROWS = 0xB8000, 80, 25


class Machine(Console):
    """One whose serial port is the terminal, and whose screen can be looked at."""

    def __init__(self, folder, *words):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self._socket = self.folder / "qmp"
        self._qmp = None
        super().__init__([SYSTEM, "-display", "none", "-serial", "stdio", "-qmp",
                          f"unix:{self._socket},server=on,wait=off", *words])

    def close(self):
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        super().close()

    def monitor(self, command):
        """What the human monitor answers."""
        if self._qmp is None:
            self._qmp = Qmp(str(self._socket))
        return self._qmp.command("human-monitor-command", **{"command-line": command})

    def screen(self):
        """The lines of the VGA's text screen."""
        words = re.findall(r" 0x([0-9a-f]{4})\b",
                           self.monitor(f"xp /{COLUMNS * ROWS}xh {TEXT_SCREEN:#x}"))
        text = "".join(chr(int(word, 16) & 0x7F) for word in words)
        return "\n".join(text[at:at + COLUMNS].rstrip() for at in range(0, len(text), COLUMNS))

    def picture(self):
        path = self.folder / "screen.ppm"
        self.monitor(f"screendump {path}")
        return Picture(path)

    def expect_on_screen(self, pattern, timeout):
        deadline = time.monotonic() + timeout
        while not re.search(pattern, text := self.screen()):
            if time.monotonic() > deadline:
                raise AssertionError(f"'{pattern}' is not on the screen:\n{text}")
            time.sleep(0.2)
        return text

    def expect_picture(self, what, shows, timeout):
        """Waits until `shows` is true of the picture, which is of `what`; returns it."""
        deadline = time.monotonic() + timeout
        while not shows(picture := self.picture()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} is not on the screen of "
                                     f"{picture.width} by {picture.height}")
            time.sleep(0.5)
        return picture


class SystemTest(MachineTest):
    def start(self, *words):
        machine = Machine(self.folder, *words)
        self.addCleanup(machine.close)
        return machine

    def package_file(self, path):
        if not pathlib.Path(path).exists():
            self.skipTest(f"{path} is not there")
        return str(path)


def side_by_side(**functions):
    """Runs each at the same time as the others; the first error is raised with its name."""
    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        futures = {name: pool.submit(function) for name, function in functions.items()}
    for name, future in futures.items():
        if (error := future.exception()) is not None:
            raise AssertionError(f"{name}: {error}") from error


def grub_cd(path, configuration, **files):
    """A CD image with GRUB for both firmwares, the text of its grub.cfg, and `files` at the top."""
    with tempfile.TemporaryDirectory(prefix="limen-cd-") as folder:
        grub = pathlib.Path(folder) / "boot" / "grub"
        grub.mkdir(parents=True)
        (grub / "grub.cfg").write_text(configuration)
        made = subprocess.run(["grub-mkrescue", "-o", str(path), folder,
                               *[f"/{name}={file}" for name, file in files.items()]],
                              text=True, capture_output=True, check=False)
    if made.returncode != 0:
        raise AssertionError(f"grub-mkrescue: {made.stderr}")
    return str(path)
