"""A cloud image and cloud-init: the seed that `limen image seed` and `limen run` make, the root that is
found in a partition table."""

import shutil
import socket
import subprocess
import time
import unittest

import harness
from console import Console

PASSWORD = "correct horse"
USER_DATA = f"""#cloud-config
users:
- name: ada
  gecos: Ada Lovelace
  shell: /bin/bash
  lock_passwd: false
  plain_text_passwd: {PASSWORD}
  ssh_authorized_keys: ["@KEY@"]
"""


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


class CloudTest(harness.MachineTest):
    def cloud_image(self):
        folder = harness.cloud_guest_folder()
        if folder is None:
            self.skipTest("the cloud image was not made yet")
        disk = str(self.folder / "disk.raw")
        subprocess.run(["cp", "--sparse=always", str(folder / "disk.raw"), disk], check=True)
        return ["--disk", disk, "--kernel", str(folder / "vmlinuz"), "--initrd",
                str(folder / "initrd.img")]

    def user_data(self, key="ssh-ed25519 AAAA ada@example"):
        return self.file("user-data", USER_DATA.replace("@KEY@", key).encode())

    def test_a_guest_gets_user_key_and_name_from_its_seed(self):
        machine = Console([harness.LIMEN, "run", *self.cloud_image(), "--user-data",
                           self.user_data(), "--hostname", "web-7"])
        self.addCleanup(machine.close)
        machine.wait_for_login(600)
        # The account is made before the login prompt stands.
        machine.log_in("ada", PASSWORD, 120)
        status, output = machine.run("hostname", 60)
        self.assertEqual((status, output.strip()), (0, "web-7"))
        status, output = machine.run("cat .ssh/authorized_keys; getent passwd ada", 60)
        self.assertEqual(status, 0)
        self.assertIn("ssh-ed25519 AAAA ada@example", output)
        self.assertIn("Ada Lovelace", output)
        status, output = machine.run("cloud-init status --wait", 300)
        self.assertIn("status: done", output)
        self.assertEqual(status, 0)

    def test_one_logs_in_over_ssh(self):
        if shutil.which("ssh") is None:
            self.skipTest("ssh is not there")
        key, port = str(self.folder / "key"), free_port()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        public = (self.folder / "key.pub").read_text().strip()
        machine = Console([harness.LIMEN, "run", *self.cloud_image(), "--user-data",
                           self.user_data(public), "--hostname", "web-7", "--publish",
                           f"{port}:22"])
        self.addCleanup(machine.close)
        machine.wait_for_login(600)
        command = ["ssh", "-i", key, "-p", str(port), "-o", "StrictHostKeyChecking=no", "-o",
                   "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
                   "-o", "ConnectTimeout=20", "ada@127.0.0.1", "id -un; hostname"]
        deadline = time.monotonic() + 300
        while True:  # the server starts beside the login prompt
            result = self.run_program(*command)
            if result.returncode == 0 or time.monotonic() > deadline:
                break
            time.sleep(2)
        self.assertEqual((result.returncode, result.stdout.split()), (0, ["ada", "web-7"]),
                         result.stderr)

    def test_a_seed_is_an_image_that_others_read(self):
        seed = str(self.folder / "seed.iso")
        made = self.run_program(harness.LIMEN, "image", "seed", "--user-data", self.user_data(),
                                "--hostname", "web-7", seed)
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        if shutil.which("blkid") is None:
            self.skipTest("blkid is not there")
        found = self.run_program("blkid", "-p", "-o", "export", seed)
        self.assertIn("LABEL=cidata", found.stdout)
        self.assertIn("TYPE=iso9660", found.stdout)

    def test_bad_seeds_and_disks_are_named(self):
        other = self.file("other", b"users: []\n")
        result = self.run_program(harness.LIMEN, "image", "seed", "--user-data", other,
                                  str(self.folder / "x.iso"))
        self.assert_one_line_error(result, "begins with 'users: []'")
        self.assertFalse((self.folder / "x.iso").exists())
        result = self.run_program(harness.LIMEN, "run", "--kernel", other, "--hostname", "a_b")
        self.assert_one_line_error(result, "'a_b' is no host name")
        disk = self.file("disk.raw", b"\0" * 512 + b"EFI PART\0\0\1\0\4" + b"\0" * 8192)
        result = self.run_program(harness.LIMEN, "run", "--kernel", other, "--disk", disk)
        self.assert_one_line_error(result, "disk.raw", "damaged partition table", "4 bytes")


if __name__ == "__main__":
    unittest.main()
