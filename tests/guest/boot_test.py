#!/usr/bin/env python3
"""Debian boots to a login prompt, works, and powers off: scripts/run --check."""

import unittest

from harness import ROOT, MachineTest


class Boot(MachineTest):
    def test_debian(self):
        self.debian()
        result = self.run_program(str(ROOT / "scripts" / "run"), "--check", timeout=1150)
        print(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout.splitlines()[-1],
                         r"^boot: ok: login prompt after [0-9.]+ s, power-off clean$")


if __name__ == "__main__":
    unittest.main()
