#!/usr/bin/env python3
"""Debian's installer to its first dialog: by network and CD; on the serial port and on a screen."""

import pathlib
import unittest

from systems import OVMF, THROUGH_OVMF, SystemTest, grub_cd, side_by_side

IMAGES = pathlib.Path("/usr/lib/debian-installer/images/12")
FIRST_DIALOG = "Select a language"
# The dialog as it should look: how bright each square of that many dots is, from 0 to f.
PICTURE = pathlib.Path(__file__).parent / "pictures" / "select_a_language.txt"
SQUARE = 20
# Where the first dialog offers English and below it Esperanto, as x and y.
ENGLISH, ESPERANTO = (1000, 454), (1000, 477)
MENU = """
if [ $grub_platform = pc ]; then
  serial --unit=0 --speed=115200
  terminal_input serial console
  terminal_output serial console
fi
menuentry "installer" {
  linux /linux
  initrd /initrd.gz
}
"""


def is_first_dialog(picture):
    """A few squares may differ: the mouse pointer, or fonts of another version."""
    wanted = PICTURE.read_text().split()
    seen = picture.brightness(SQUARE)
    if (len(seen), len(seen[0])) != (len(wanted), len(wanted[0])):
        return False
    differ = sum(abs(int(digit, 16) - value // 16) > 1
                 for digits, values in zip(wanted, seen) for digit, value in zip(digits, values))
    return differ <= 10


def is_selected(picture, place):
    """A row that is selected is dark green, the others are white."""
    red, green, _ = picture.pixel(*place)
    return green > red + 32


class Installer(SystemTest):
    def files(self, architecture, interface):
        folder = IMAGES / architecture / interface / "debian-installer" / architecture
        self.package_file(folder)
        return folder

    def tftp(self, architecture):
        """A folder for network boot: the installer, and configurations with next to no menu."""
        files = self.files(architecture, "text")
        name = f"debian-installer/{architecture}"
        root = self.folder / architecture
        boot = root / name
        (boot / "grub").mkdir(parents=True)
        (root / "pxelinux.cfg").mkdir()
        for file in files.iterdir():
            if file.is_file():
                (boot / file.name).symlink_to(file)
        for file in ("pxelinux.0", "boot-screens/ldlinux.c32"):
            (root / pathlib.Path(file).name).symlink_to(files / file)
        for folder in (files / "grub").glob("*-efi"):
            (boot / "grub" / folder.name).symlink_to(folder)
        (root / "pxelinux.cfg" / "default").write_text(
            f"DEFAULT installer\nLABEL installer\nKERNEL {name}/linux\n"
            f"APPEND initrd={name}/initrd.gz console=ttyS0\n")
        (boot / "grub" / "grub.cfg").write_text(
            f'menuentry "installer" {{\n  linux /{name}/linux console=ttyS0\n'
            f"  initrd /{name}/initrd.gz\n}}\n")
        return root

    def network_boot(self, folder, file, *words, card="virtio-net-pci"):
        return self.start("-m", "1G", "-boot", "n", "-device", f"{card},netdev=n", "-netdev",
                          f"user,id=n,tftp={folder},bootfile=/{file}", *words)

    def test_by_network_boot_through_seabios(self):
        def dialog(folder):
            with self.network_boot(folder, "pxelinux.0") as machine:
                machine.expect(FIRST_DIALOG, 400)

        folders = {name: self.tftp(name) for name in ("amd64", "i386")}
        side_by_side(**{name: lambda folder=folder: dialog(folder)
                        for name, folder in folders.items()})

    def test_by_network_boot_through_ovmf(self):
        """By OVMF's own way to the dialog, with the signed loaders; by iPXE's ROM to GRUB, which it
        has to load itself: to the signed loader it gives a wrong size of the second one."""
        self.package_file(OVMF)
        folder = self.tftp("amd64")

        def own():
            with self.network_boot(folder, "debian-installer/amd64/bootnetx64.efi", *THROUGH_OVMF,
                                   card="virtio-net-pci,romfile=") as machine:
                machine.expect("Start PXE over IPv4", 60)
                machine.expect("GNU GRUB", 60)
                machine.type("\r")
                machine.expect(FIRST_DIALOG, 400)

        def rom():
            with self.network_boot(folder, "debian-installer/amd64/grubx64.efi",
                                   *THROUGH_OVMF) as machine:
                machine.expect("iPXE.*Open Source Network Boot Firmware", 60)
                machine.expect("GNU GRUB", 60)
                machine.expect("installer", 20)

        side_by_side(own=own, rom=rom)

    def test_graphical_from_cd_through_both_firmwares(self):
        self.package_file(OVMF)
        self.package_file("/usr/lib/grub/x86_64-efi")
        files = self.files("amd64", "gtk")
        cd = grub_cd(self.folder / "cd.iso", MENU,
                     **{name: files / name for name in ("linux", "initrd.gz")})

        def dialog(*words):
            with self.start("-m", "1G", "-net", "none", "-cdrom", cd, *words) as machine:
                machine.expect("GNU GRUB", 60)
                machine.type("\r")
                picture = machine.expect_picture("the first dialog", is_first_dialog, 400)
                self.assertTrue(is_selected(picture, ENGLISH))
                self.assertFalse(is_selected(picture, ESPERANTO))
                machine.monitor("sendkey down")
                picture = machine.expect_picture(
                    "the next row, selected by a key,",
                    lambda picture: is_selected(picture, ESPERANTO), 60)
                self.assertFalse(is_selected(picture, ENGLISH))

        side_by_side(seabios=dialog, ovmf=lambda: dialog(*THROUGH_OVMF))


if __name__ == "__main__":
    unittest.main()
