#!/usr/bin/env python3
"""The bash completion completes, and knows every option that the programs have."""

import re
import unittest

from harness import BIN, IMG, LIMEN, ROOT, SYSTEM, MachineTest

SCRIPT = ROOT / "completions" / "limen.bash"


class Completion(MachineTest):
    def complete(self, function, *words):
        """What is offered for the last of `words`."""
        quoted = " ".join(f"'{word}'" for word in words)
        result = self.run_program(
            "bash", "-c",
            f". '{SCRIPT}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; {function}; "
            'printf "%s\\n" "${COMPREPLY[@]}"', cwd=self.folder)
        self.assertEqual(result.stderr, "")
        return result.stdout.split()

    def limen(self, *words):
        return self.complete("_limen", "limen", *words)

    def system(self, *words):
        return self.complete("_limen_system", "limen-system-x86_64", *words)

    def img(self, *words):
        return self.complete("_limen_img", "limen-img", *words)

    def test_commands_and_values(self):
        self.assertEqual(self.limen("ru"), ["run"])
        self.assertEqual(self.limen("run", "--mem"), ["--memory"])
        self.assertEqual(self.limen("image", "cr"), ["create"])
        self.assertEqual(self.system("-M", ""), ["pc", "q35", "microvm", "none", "help"])
        self.assertEqual(self.system("--device", "virtio-blk-p"), ["virtio-blk-pci"])
        self.assertEqual(self.limen("run", "--device", "h"), ["help"])
        self.assertEqual(self.img("res"), ["resize"])

    def test_files(self):
        self.file("vmlinuz")
        self.assertEqual(self.limen("run", "--kernel", "vml"), ["vmlinuz"])
        self.assertEqual(self.system("-kernel", "vml"), ["vmlinuz"])
        self.assertEqual(self.img("info", "vml"), ["vmlinuz"])

    def test_every_option_of_limen_run_is_offered(self):
        text = self.run_program(LIMEN, "run", "--help").stdout
        known = set(re.findall(r"^ +(?:-\w,)?(--[a-z-]+)", text, re.MULTILINE))
        self.assertGreater(len(known), 8)
        self.assertEqual(known - set(self.limen("run", "--")), set())

    def test_every_option_of_the_system_program_is_offered(self):
        text = self.run_program(SYSTEM, "-help").stdout
        known = set(re.findall(r"^  (-[a-zA-Z_-]+)", text, re.MULTILINE)) - {"-M", "-h"}
        self.assertGreater(len(known), 20)
        self.assertEqual(known - set(self.system("-")), set())

    def test_every_device_is_offered(self):
        text = self.run_program(SYSTEM, "-device", "help").stdout
        known = {line.split()[0] for line in text.splitlines()}
        self.assertEqual(known - set(self.system("-device", "")), set())

    def test_image_commands_are_offered(self):
        text = self.run_program(IMG, "--help").stdout
        for command in ("check", "convert", "create", "info", "resize", "snapshot"):
            self.assertIn(f"limen-img {command}", text)
            self.assertIn(command, self.img(""))

    def test_programs_and_completion_are_installed(self):
        result = self.run_program("cmake", "--install", str(BIN.parent), "--prefix",
                                  str(self.folder))
        self.assertEqual(result.returncode, 0, result.stderr)
        for name in ("limen", "limen-system-x86_64", "limen-img"):
            version = self.run_program(str(self.folder / "bin" / name), "--version")
            self.assertIn("Limen", version.stdout)
            installed = self.folder / "share" / "bash-completion" / "completions" / name
            self.assertEqual(installed.read_text(), SCRIPT.read_text())


if __name__ == "__main__":
    unittest.main()
