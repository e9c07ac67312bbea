#!/usr/bin/env python3
"""A desktop from kernel to panel: Xfce on virtio-gpu, read from the screen, used with mice and keys.

desktop.ppm is what it looks like: a pixel for 20 by 20 of the screen's, their mean. A test that finds
something else keeps what it found, and says where."""

import pathlib
import tempfile
import time
import unittest

import rfb
from harness import MachineTest, desktop_guest_folder
from console import Console
from desktop import HEIGHT, LIGHT, PANEL, WIDTH, command
from display_test import Picture
from monitor_test import Qmp

BLOCK = 20
EXPECTED = pathlib.Path(__file__).with_name("desktop.ppm")
CLOCK = [(column, row) for column in range(57, 64) for row in range(2)]  # blocks with date and name
TOLERANCE = 6  # of 255, for a block's mean
WHITE = b"\xff\xff\xff"
# Places on the panel's menu: its button, and its items from above.
MENU_X, MENU_Y, ITEMS_Y = 60, 12, (44, 69, 94, 119, 145, 171, 197)
TERMINAL, MAIL = 0, 2
SCALE = 0x7FFF  # of QMP's absolute positions


def blocks(picture):
    """The mean colours of its blocks, row by row: a third of the bytes of `desktop.ppm`'s each."""
    means = bytearray()
    row_bytes = 3 * picture.width
    for top in range(0, picture.height, BLOCK):
        rows = picture.pixels[top * row_bytes:(top + BLOCK) * row_bytes]
        sums = [[0] * 3 for _ in range(picture.width // BLOCK)]
        for y in range(BLOCK):
            for colour in range(3):
                line = rows[y * row_bytes + colour:(y + 1) * row_bytes:3]
                for column, total in enumerate(sums):
                    total[colour] += sum(line[column * BLOCK:(column + 1) * BLOCK])
        means += bytes(round(part / BLOCK**2) for total in sums for part in total)
    return means


def differing_blocks(picture):
    expected, columns = Picture(EXPECTED), WIDTH // BLOCK
    return [(at // 3 % columns, at // 3 // columns)
            for at, (a, b) in enumerate(zip(blocks(picture), expected.pixels))
            if abs(a - b) > TOLERANCE]


class Desktop(MachineTest):
    def start(self):
        folder = desktop_guest_folder()
        if folder is None:
            self.skipTest("the disk with a desktop was not made yet")
        self.machine = Console(command(
            folder, "-vga", "virtio", "-vnc", f"unix:{self.folder}/vnc", "-qmp",
            f"unix:{self.folder}/qmp,server=on,wait=off"))
        self.addCleanup(self.machine.close)
        self.qmp = Qmp(f"{self.folder}/qmp", timeout=60)
        self.addCleanup(self.qmp.close)
        self.client = rfb.Rfb(f"{self.folder}/vnc")
        self.addCleanup(self.client.close)

    def screen(self):
        path = str(self.folder / "screen.ppm")
        self.qmp.command("screendump", filename=path)
        return Picture(path)

    def wait_until(self, what, holds, seconds):
        """Waits until holds(screen) is true, and returns the screen."""
        deadline = time.monotonic() + seconds
        while True:
            picture = self.screen()
            if holds(picture):
                return picture
            if time.monotonic() > deadline:
                with tempfile.NamedTemporaryFile(prefix="limen-desktop-", suffix=".png",
                                                 delete=False) as kept:
                    self.qmp.command("screendump", filename=kept.name, format="png")
                self.fail(f"not within {seconds} s: {what}; the screen is kept in {kept.name}")
            time.sleep(0.3)

    def wait_for_the_desktop(self, seconds):
        def is_there(picture):
            if (picture.width, picture.height) != (WIDTH, HEIGHT):
                return False
            if picture.pixel(*PANEL) != LIGHT:
                return False
            return not set(differing_blocks(picture)) - set(CLOCK)
        self.wait_until("the desktop of desktop.ppm", is_there, seconds)

    def items(self, picture):
        """The colours of the menu's items: to the right of their text, where arrows may be."""
        return [picture.pixel(168, y) for y in ITEMS_Y]

    def chosen_items(self, picture):
        """Those that are blue, as the one under the pointer is."""
        return [number for number, (red, _, blue) in enumerate(self.items(picture))
                if red < 100 and blue > 200]

    def move_tablet(self, x, y):
        self.qmp.command("input-send-event", events=[
            {"type": "abs", "data": {"axis": axis, "value": (2 * at + 1) * SCALE // (2 * size)}}
            for axis, at, size in (("x", x, WIDTH), ("y", y, HEIGHT))])

    def click_tablet(self):
        for down in (True, False):
            self.qmp.command("input-send-event", events=[
                {"type": "btn", "data": {"button": "left", "down": down}}])

    def monitor(self, command):
        self.assertEqual(self.qmp.command("human-monitor-command", **{"command-line": command}), "")

    def pointer_shape(self, other_than=None, seconds=30):
        """What VNC clients are to show; waits for another than `other_than`."""
        deadline = time.monotonic() + seconds
        while self.client.cursor is None or self.client.cursor == other_than:
            self.assertLess(time.monotonic(), deadline, "no such pointer")
            self.client.request(incremental=True)
            self.client.update()
        return self.client.cursor

    def test_xfce(self):
        self.start()
        self.machine.expect("login: ", 300)
        self.wait_for_the_desktop(300)
        self.client.encodings(rfb.RAW, rfb.RICH_CURSOR, rfb.DESKTOP_SIZE)
        self.client.request()
        arrow = self.pointer_shape()
        width, height, (hot_x, hot_y), _, mask = arrow
        self.assertEqual((width, height), (64, 64))
        self.assertGreater(sum(byte.bit_count() for byte in mask), 40, "an arrow")
        self.assertTrue(mask[hot_y * 8 + hot_x // 8] & 0x80 >> hot_x % 8, "its tip")

        # A tablet, by a monitor.
        self.move_tablet(MENU_X, MENU_Y)
        self.click_tablet()
        self.wait_until("the menu", lambda picture: set(self.items(picture)) == {WHITE}, 30)
        self.move_tablet(MENU_X, ITEMS_Y[MAIL])
        self.wait_until("the item under the pointer is chosen",
                        lambda picture: self.chosen_items(picture) == [MAIL], 10)
        # The PS/2 mouse beside it: how far the guest goes for a movement is its own business.
        self.monitor("mouse_set 0")
        chosen, moves = MAIL, 0
        while chosen <= MAIL:
            self.assertLess(moves := moves + 1, 20, "the mouse does not move the pointer down")
            self.monitor("mouse_move 0 5")
            time.sleep(0.5)  # for the guest to follow
            chosen = self.chosen_items(self.wait_until(
                "an item is chosen", lambda picture: len(self.chosen_items(picture)) == 1, 10))[0]
        self.monitor("mouse_set 1")

        # The tablet by VNC: a terminal.
        for buttons in (0, 1, 0):
            self.client.pointer(buttons, MENU_X, ITEMS_Y[TERMINAL])
        middle = (WIDTH // 2, HEIGHT // 2)
        self.wait_until("a terminal", lambda picture: picture.pixel(*middle) == b"\0\0\0", 60)
        self.client.pointer(0, *middle)
        self.pointer_shape(other_than=arrow)
        self.client.type("exit\n")
        # No button of the panel may look as if the pointer was over it.
        self.wait_for_the_desktop(30)
        self.qmp.command("system_powerdown")
        self.assertEqual(self.machine.wait(120), 0)


if __name__ == "__main__":
    unittest.main()
