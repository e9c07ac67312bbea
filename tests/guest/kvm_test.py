#!/usr/bin/env python3
"""Machines on this host's own /dev/kvm, whatever stands behind it."""

import os
import unittest

import harness
from monitor_test import MonitorTest

POPCNT = b"\xf3\x0f\xb8\xc0"


@unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "/dev/kvm is not there")
class Kvm(MonitorTest):
    def test_what_the_kernel_cannot_emulate_stops_the_machine_to_be_looked_at(self):
        machine = self.start(POPCNT + harness.say("it can\n") + harness.HALT_FOREVER,
                             "-accel", "kvm", "-S")
        qmp = self.qmp()
        qmp.command("cont")
        machine.expect("up", 30)
        if machine.expect("it can|INTERNAL_ERROR", 30).group() == "it can":
            self.skipTest("this /dev/kvm runs every instruction")
        qmp.wait_event("STOP")
        self.assertEqual(qmp.command("query-status")["status"], "internal-error")
        # The registers and the instruction, as a person reads them.
        machine.expect("code at 0x[0-9a-f]+: f3 0f b8 c0", 10)
        machine.expect("RIP=", 10)
        registers = qmp.command("human-monitor-command", **{"command-line": "info registers"})
        self.assertRegex(registers, "RIP=0000000000100[0-9a-f]{3}")
        self.assertIn("Resetting", qmp.ask({"execute": "cont"})["error"]["desc"])
        qmp.command("system_reset")
        qmp.command("cont")
        machine.expect("up", 30)


if __name__ == "__main__":
    unittest.main()
