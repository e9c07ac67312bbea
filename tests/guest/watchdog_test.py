#!/usr/bin/env python3
"""The i6300esb watchdog, fed and not fed by Linux's own driver."""

import time
import unittest

from full_kernel import FullKernelTest
from harness import SYSTEM, MachineTest
from monitor_test import Qmp


class WatchdogTest(FullKernelTest):
    def start(self, *words):
        path = str(self.folder / "qmp")
        self.boot("-device", "i6300esb", "-qmp", f"unix:{path},server=on,wait=off", *words)
        self.qmp = Qmp(path, timeout=60)
        self.addCleanup(self.qmp.close)
        self.inside("test -e /dev/watchdog0")
        self.assertIn("i6300ESB", self.inside("cat /sys/class/watchdog/watchdog0/identity"))

    def leave_hungry(self):
        """Sets its time to 2 s (WDIOC_SETTIMEOUT), feeds it for 4 s, and then no more."""
        self.inside("perl -e 'open(W, \">/dev/watchdog0\") or die; my $s = pack(\"i\", 2); "
                    "ioctl(W, 0xC0045706, $s) or die; "
                    "for (1 .. 8) { select(undef, undef, undef, 0.5); syswrite(W, \"x\"); }'")

    def test_the_machine_starts_over_when_nobody_feeds_it(self):
        self.start()
        self.leave_hungry()
        self.assertEqual([event for event in self.qmp.events if event["event"] == "WATCHDOG"], [])
        self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"], {"action": "reset"})
        self.assertTrue(self.qmp.wait_event("RESET")["data"]["guest"])
        self.console.expect(r":/# ", 300)

    def test_what_follows_can_be_chosen(self):
        self.start("-action", "watchdog=none")
        # A machine that stands still need not feed it.
        self.leave_hungry()
        self.qmp.command("stop")
        time.sleep(4)
        self.qmp.command("query-status")
        self.assertNotIn("WATCHDOG", [event["event"] for event in self.qmp.events])
        self.qmp.command("cont")
        self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"], {"action": "none"})

        self.qmp.command("set-action", watchdog="pause")
        self.leave_hungry()
        self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"], {"action": "pause"})
        self.assertEqual(self.qmp.command("query-status")["status"], "watchdog")
        self.qmp.command("watchdog-set-action", action="poweroff")
        self.qmp.command("cont")
        self.leave_hungry()
        self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"], {"action": "poweroff"})
        self.assertEqual(self.console.wait(30), 0)


class BadWatchdog(MachineTest):
    def test_actions_that_are_not_there(self):
        for words in [("-watchdog-action", "restart"), ("-action", "watchdog=restart")]:
            self.assert_one_line_error(self.run_program(SYSTEM, "-S", *words), "restart")


if __name__ == "__main__":
    unittest.main()
