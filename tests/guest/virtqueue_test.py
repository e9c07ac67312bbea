#!/usr/bin/env python3
"""A kernel whose virtqueues are malformed: the device stops, the machine lives."""

import os
import unittest

from harness import SYSTEM, MachineTest


class Virtqueue(MachineTest):
    def test_malformed_queues_stop_the_device_alone(self):
        for tier in ("translator", "interpreter"):
            with self.subTest(tier=tier):
                result = self.run_program(
                    SYSTEM, "-accel", f"soft,tier={tier}", "-m", "16M", "-nographic", "-device",
                    "virtio-rng-pci", "-kernel", os.environ["LIMEN_GUEST_PROGRAMS"] + "/virtqueue")
                self.assertEqual(result.returncode, 0, result.stderr)
                lines = result.stdout.splitlines()
                self.assertEqual(lines[-1:], ["after a reset: works"], result.stdout)
                self.assertEqual(len(lines), 9)
                for line in lines[:-1]:
                    self.assertRegex(line, "^[a-zA-Z ]+: needs reset$")


if __name__ == "__main__":
    unittest.main()
