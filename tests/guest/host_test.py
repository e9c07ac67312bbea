#!/usr/bin/env python3
"""`limen host` says what this host offers."""

import json
import os
import re
import shutil
import stat
import subprocess
import unittest
from pathlib import Path

from harness import LIMEN, MachineTest, ROOT, WITHOUT_CODE

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


class Host(MachineTest):
    def report(self, *before):
        result = self.run_program(*before, LIMEN, "host", "--json")
        self.assertEqual(result.stderr, "")
        report = json.loads(result.stdout)
        choice = report["accelerator"]["choice"]
        self.assertEqual(result.returncode, {"kvm": 0, "soft": 1}[choice])
        return report

    def check(self, report):
        """What holds on any host."""
        findings = report["findings"]
        for key, finding in findings.items():
            self.assertIn(finding["verdict"], ("ok", "warning", "missing"), key)
            if finding["verdict"] != "ok" and not finding["text"].startswith("unknown: "):
                self.assertTrue(finding["advice"], key)
        with open("/proc/cpuinfo", encoding="ascii") as file:
            cpuinfo = file.read()
        # As CPUID has it for programs; a kernel that is paravirtual may have been told another.
        self.assertTrue(findings["processor"]["value"].strip())
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE).group(1).split()
        self.assertEqual(findings["virtual-machine"]["value"] is not None, "hypervisor" in flags)
        modules = [name for name in sorted(os.listdir("/sys/module")) if name.startswith("kvm")]
        self.assertEqual(findings["kvm-modules"]["value"], modules)
        self.assertEqual(findings["map-count"]["value"],
                         int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii")))
        accelerator = report["accelerator"]
        self.assertTrue(accelerator["reason"])
        self.assertGreater(accelerator["native-ratio"]["soft"], 0)
        probe = findings.get("kvm-probe")
        usable = probe is not None and probe["value"]["usable"]
        self.assertEqual(accelerator["choice"], "kvm" if usable else "soft")
        return findings

    def test_json(self):
        findings = self.check(self.report())
        if os.path.exists("/dev/kvm") and os.access("/dev/kvm", os.R_OK | os.W_OK):
            self.assertEqual(findings["kvm-device"]["value"], "/dev/kvm")
            self.assertEqual(findings["kvm-api-version"]["value"], 12)
            self.assertTrue(findings["kvm-probe"]["value"]["runs"], findings["kvm-probe"])
        else:
            self.assertIsNone(findings["kvm-device"]["value"])

    def test_user_without_rights(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become nobody")
        program = self.folder / "limen"
        shutil.copy(LIMEN, program)
        self.folder.chmod(0o755)
        program.chmod(0o755)
        result = self.run_program(*NOBODY, str(program), "host", "--json")
        self.assertEqual(result.stderr, "")
        report = json.loads(result.stdout)
        findings = self.check(report)
        if os.path.exists("/dev/kvm") and not os.stat("/dev/kvm").st_mode & stat.S_IWOTH:
            self.assertEqual(result.returncode, 1)
            self.assertIn("may not be opened by this user", report["accelerator"]["reason"])
            self.assertNotIn("kvm-probe", findings)

    def test_text(self):
        result = self.run_program(LIMEN, "host")
        self.assertIn(result.returncode, (0, 1))
        self.assertNotIn("\x1b", result.stdout)
        for section in ("processor", "kvm", "memory", "devices", "accelerator"):
            self.assertRegex(result.stdout, rf"(?m)^{section}$")
        self.assertRegex(result.stdout, r"-accel kvm:soft +takes (kvm|soft): \S")

    def test_report_that_cannot_be_written(self):
        for words in ((), ("--json",)):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([LIMEN, "host", *words], stdout=full, timeout=60,
                                        stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual(result.returncode, 2)
            self.assertRegex(result.stderr,
                             r"\A[^\n]*cannot write to standard output: No space left[^\n]*\n\Z")

    def test_process_that_may_not_make_code(self):
        result = self.run_program(*WITHOUT_CODE, LIMEN, "host", "--json")
        if result.returncode == 77:
            self.skipTest("this kernel has no PR_SET_MDWE")
        self.assertIn(result.returncode, (0, 1))
        self.assertIsNone(json.loads(result.stdout)["accelerator"]["native-ratio"]["soft"])

    def test_mistakes(self):
        result = self.run_program(LIMEN, "host", "--jsn")
        self.assertEqual(result.returncode, 2)
        self.assertIn("unknown option '--jsn'", result.stderr)
        self.assertIn("--json", result.stderr)

    def test_every_key_is_documented(self):
        text = (ROOT / "docs" / "host.md").read_text(encoding="utf-8")
        for key in self.report()["findings"]:
            documented = "nested-MODULE" if key.startswith("nested-") else key
            self.assertIn(f"`{documented}`", text)


if __name__ == "__main__":
    unittest.main()
