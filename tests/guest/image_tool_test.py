#!/usr/bin/env python3
"""limen-img and `limen image`, with qemu-img as the judge where it is there."""

import json
import os
import shutil
import unittest

from harness import IMG, LIMEN, MachineTest


class ImageTool(MachineTest):
    def setUp(self):
        super().setUp()
        self.image = str(self.folder / "disk.img")

    def do(self, *words):
        result = self.run_program(*words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_create_is_sparse(self):
        for words in ([IMG, "create", "-f", "raw"], [LIMEN, "image", "create"]):
            with self.subTest(words=words):
                self.do(*words, self.image, "20G")
                self.assertEqual(os.path.getsize(self.image), 20 << 30)
                self.assertLess(os.stat(self.image).st_blocks * 512, 1 << 20)
                os.unlink(self.image)

    @unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img here")
    def test_info_agrees_with_qemu_img(self):
        self.do(IMG, "create", "-q", self.image, "3M")
        ours = json.loads(self.do(IMG, "info", "--output=json", self.image))
        theirs = json.loads(self.do("qemu-img", "info", "--output=json", "-f", "raw", self.image))
        for key in ("virtual-size", "filename", "format", "actual-size"):
            self.assertEqual(ours[key], theirs[key], key)

    def test_resize(self):
        self.do(IMG, "create", "-q", self.image, "1M")
        self.do(IMG, "resize", self.image, "+1M")
        self.assertEqual(os.path.getsize(self.image), 2 << 20)
        self.assert_one_line_error(self.run_program(IMG, "resize", self.image, "1M"), "shrink")
        self.do(LIMEN, "image", "resize", "--shrink", self.image, "-1M")
        self.assertEqual(os.path.getsize(self.image), 1 << 20)

    def refused(self, *words, parts):
        self.assert_one_line_error(self.run_program(IMG, *words), *parts)

    def test_errors_leave_nothing(self):
        elsewhere = str(self.folder / "no" / "disk.img")
        self.refused("create", self.image, "big", parts=["big"])
        self.refused("create", "-f", "rwa", self.image, "1M", parts=["rwa", "raw"])
        self.refused("cretae", self.image, "1M", parts=["cretae", "create"])
        self.refused("info", self.image, parts=[self.image])
        self.refused("resize", "--shirnk", self.image, "1", parts=["--shirnk", "--shrink"])
        self.refused("create", elsewhere, "1M", parts=[elsewhere])
        self.assertEqual(os.listdir(self.folder), [])


if __name__ == "__main__":
    unittest.main()
