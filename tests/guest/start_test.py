#!/usr/bin/env python3
"""What a machine loads when it starts, and what only when it is needed (cmake/DelayLoad.cmake)."""

import os
import pathlib
import re
import subprocess
import unittest
from unittest import mock

import harness
from harness import SYSTEM
from monitor_test import MonitorTest

DELAYED = {"vncserver", "gnutls", "websockets", "slirp", "archive", "ncursesw", "seccomp", "zstd"}


class Start(MonitorTest):
    def loaded(self):
        maps = pathlib.Path(f"/proc/{self.machine.process.pid}/maps").read_text()
        return set(re.findall(r"/lib(\w+)(?:-[\d.]+)?\.so", maps)) & DELAYED

    def run_until_up(self, *words):
        self.start(harness.HALT_FOREVER, "-nic", "none", *words)
        self.machine.expect("up", 30)

    def without(self, library):
        """An environment in which a file stands in the library's place."""
        self.file(library, b"no library")
        return mock.patch.dict(os.environ, LD_LIBRARY_PATH=str(self.folder))

    def test_plain_machine_loads_nothing_that_it_does_not_need(self):
        disk = self.file("disk", bytes(1 << 20))
        self.run_until_up("-drive", f"file={disk},format=raw,if=virtio")
        self.assertEqual(self.loaded(), set())

    def test_user_network_is_loaded_when_it_is_plugged_in_a_sandbox(self):
        self.run_until_up("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
                          "resourcecontrol=deny")
        self.assertEqual(self.loaded(), {"seccomp"})
        self.qmp().command("netdev_add", type="user", id="net")
        self.assertEqual(self.loaded(), {"seccomp", "slirp"})

    def test_vnc_server_is_loaded(self):
        self.run_until_up("-vnc", f"unix:{self.folder / 'vnc'}")
        # It brings GnuTLS with it.
        self.assertEqual(self.loaded() - {"gnutls"}, {"vncserver"})

    def test_web_server_is_loaded(self):
        self.run_until_up("-display", "web,addr=127.0.0.1,port=0")
        self.assertIn("websockets", self.loaded())

    def test_seed_is_written_by_its_library(self):
        subprocess.run([str(pathlib.Path(SYSTEM).parent / "limen-img"), "seed", "--hostname", "guest",
                        str(self.folder / "seed.iso")], check=True, capture_output=True)
        self.assertIn(b"CD001", (self.folder / "seed.iso").read_bytes())

    def test_library_that_cannot_be_loaded_is_named(self):
        kernel = self.file("kernel", harness.multiboot(harness.HALT_FOREVER))
        for library in ("libslirp.so.0", "libZydis.so.4.0"):
            with self.subTest(library), self.without(library):
                run = self.run_program(SYSTEM, "-accel", "soft", "-display", "none", "-kernel", kernel, "-nic",
                                       "user")
                self.assert_one_line_error(run, f"{library}: ")
            (self.folder / library).unlink()

    def test_machine_outlives_a_plugged_network_whose_library_is_missing(self):
        with self.without("libslirp.so.0"):
            self.run_until_up()
        qmp = self.qmp()
        answer = qmp.ask({"execute": "netdev_add", "arguments": {"type": "user", "id": "net"}})
        self.assertIn("libslirp.so.0", answer["error"]["desc"])
        self.assertTrue(qmp.command("query-status")["running"])

    @unittest.skipUnless(os.geteuid() == 0, "chroot wants root")
    def test_libraries_are_loaded_before_their_files_are_out_of_reach(self):
        (self.folder / "root").mkdir()
        self.run_until_up("-run-with", f"chroot={self.folder / 'root'}")
        self.qmp().command("netdev_add", type="user", id="net")
        self.assertIn("slirp", self.loaded())


if __name__ == "__main__":
    unittest.main()
