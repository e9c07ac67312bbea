#!/usr/bin/env python3
"""limen-img with qcow2, judged by qemu-img: what one writes the other reads, verb by verb."""

import itertools
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import time
import unittest

from harness import IMG, MachineTest

COPIED = 1 << 63


@unittest.skipUnless(shutil.which("qemu-img") and shutil.which("qemu-io"), "no qemu-utils here")
class Qcow2Image(MachineTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(12)

    def path(self, name):
        return str(self.folder / name)

    def run_here(self, *words, status=0):
        result = self.run_program(*words, cwd=self.folder, timeout=300)
        self.assertEqual(result.returncode, status, f"{words}: {result.stdout}{result.stderr}")
        return result

    def img(self, *words, status=0):
        return self.run_here(IMG, *words, status=status).stdout

    def qemu(self, *words, status=0):
        return self.run_here("qemu-img", *words, status=status).stdout

    def io(self, image, *commands):
        words = itertools.chain.from_iterable(("-c", command) for command in commands)
        self.run_here("qemu-io", *words, image)

    def sound(self, image):
        self.qemu("check", "-f", "qcow2", image)

    def same(self, one, other):
        """As qemu-img sees it, and as limen-img does."""
        self.qemu("compare", one, other)
        self.img("compare", one, other)

    def refused(self, *words, parts):
        self.assert_one_line_error(self.run_program(IMG, *words, cwd=self.folder), *parts)

    def source(self, name="source.raw", size=6 << 20):
        """Random bytes, text that can be compressed, and holes."""
        with open(self.path(name), "wb") as file:
            file.write(self.random.randbytes(size // 6))
            file.seek(size // 3)
            file.write(b"all work and no play makes a dull disk. " * (size // 160))
            file.truncate(size + 512)
        return name

    OPTIONS = [
        "", "cluster_size=512", "cluster_size=2M", "compat=0.10", "compat=v3,lazy_refcounts=on",
        "refcount_bits=1", "refcount_bits=2", "refcount_bits=4", "refcount_bits=8", "refcount_bits=32",
        "refcount_bits=64,cluster_size=512", "extended_l2=on", "extended_l2=on,cluster_size=16k",
        "compression_type=zstd", "preallocation=metadata", "preallocation=falloc", "preallocation=full",
        "data_file=data.raw", "data_file=data.raw,data_file_raw=on",
        "data_file=data.raw,extended_l2=on,preallocation=metadata",
    ]

    def test_convert_with_every_option_both_ways(self):
        source = self.source()
        for options in self.OPTIONS:
            kinds = [["-S", "4k"], ["-W"]]
            if "data_file" not in options and "preallocation" not in options:
                kinds.append(["-c"])
            for kind in kinds:
                with self.subTest(options=options, kind=kind):
                    words = ["convert", "-O", "qcow2", *kind, *(["-o", options] if options else []), source]
                    for name in ("ours.qcow2", "data.raw"):
                        if os.path.exists(self.path(name)):
                            os.unlink(self.path(name))
                    self.img(*words, "ours.qcow2")
                    self.sound("ours.qcow2")
                    self.same("ours.qcow2", source)
                    self.assertEqual(self.img("check", "ours.qcow2"), self.qemu("check", "ours.qcow2"))
                    self.img("convert", "-O", "raw", "ours.qcow2", "back.raw")
                    self.run_here("cmp", "back.raw", source)
                    if kind != ["-W"]:
                        self.qemu(*words, "theirs.qcow2")
                        self.same("theirs.qcow2", source)
                        self.assertEqual(self.img("check", "theirs.qcow2"), self.qemu("check", "theirs.qcow2"))

    def test_create_and_info_say_the_same(self):
        for options in ["", *self.OPTIONS]:
            with self.subTest(options=options):
                words = ["create", "-f", "qcow2", *(["-o", options] if options else []), "x.qcow2", "10M"]
                theirs = [self.qemu(*words)]
                theirs += [self.qemu("info", *more, "x.qcow2") for more in ([], ["--output=json"])]
                ours = [self.img(*words)]
                ours += [self.img("info", *more, "x.qcow2") for more in ([], ["--output=json"])]
                self.sound("x.qcow2")
                if "compat" not in options and "refcount" not in options:
                    self.assertEqual(ours[0], theirs[0])
                strip = lambda text: [line for line in text.splitlines() if "disk size" not in line]
                self.assertEqual(strip(ours[1]), strip(theirs[1]))
                ours, theirs = json.loads(ours[2]), json.loads(theirs[2])
                del ours["actual-size"], theirs["actual-size"]
                self.assertEqual(ours, theirs)

    def chain(self):
        """base.raw <- mid.qcow2 <- top.qcow2, of growing sizes; and flat.raw, what it shows."""
        self.source("base.raw", 3 << 20)
        self.img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "mid.qcow2", "5M")
        self.img("create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2", "7M")
        self.io("mid.qcow2", "write -P 1 1M 100k", "write -z 2M 64k", "write -P 2 4M 5k")
        self.io("top.qcow2", "write -P 4 1050k 100k", "discard 0 64k", "write -P 9 6M 4k")
        self.qemu("convert", "-O", "raw", "top.qcow2", "flat.raw")

    def test_chain_is_read_and_described_alike(self):
        self.chain()
        self.same("top.qcow2", "flat.raw")
        for words in (["map"], ["map", "--output=json"], ["check"], ["info", "--backing-chain"],
                      ["info", "--backing-chain", "--output=json"], ["measure", "-O", "qcow2"],
                      ["measure", "-O", "qcow2", "-o", "cluster_size=4k"],
                      ["measure", "-O", "raw", "--output=json"]):
            with self.subTest(words=words):
                self.assertEqual(self.img(*words, "top.qcow2"), self.qemu(*words, "top.qcow2"))
        for options in ("cluster_size=64k", "cluster_size=512,refcount_bits=64", "extended_l2=on",
                        "preallocation=full"):
            words = ["measure", "-O", "qcow2", "-o", options, "--size", "20G"]
            if options.startswith("cluster_size=512"):
                words[-1] = "1G"
            self.assertEqual(self.img(*words), self.qemu(*words))

    def test_rebase(self):
        self.chain()
        shutil.copy(self.path("top.qcow2"), self.path("alone.qcow2"))
        self.img("rebase", "-b", "base.raw", "-F", "raw", "top.qcow2")
        self.sound("top.qcow2")
        self.same("top.qcow2", "flat.raw")
        self.img("rebase", "-b", "", "alone.qcow2")
        os.rename(self.path("base.raw"), self.path("moved.raw"))
        self.same("alone.qcow2", "flat.raw")
        self.img("rebase", "-u", "-b", "moved.raw", "-F", "raw", "top.qcow2")
        self.same("top.qcow2", "flat.raw")
        self.sound("alone.qcow2")

    def test_commit(self):
        self.chain()
        shutil.copy(self.path("top.qcow2"), self.path("keep.qcow2"))
        self.img("commit", "-d", "keep.qcow2")
        self.same("mid.qcow2", "flat.raw")
        self.img("commit", "top.qcow2")
        for image in ("mid.qcow2", "top.qcow2"):
            self.sound(image)
            self.same(image, "flat.raw")
        self.assertIn("present\": false", self.img("map", "--output=json", "top.qcow2"))
        self.img("commit", "-b", "base.raw", "mid.qcow2")
        self.run_here("cmp", "base.raw", "flat.raw")

    def test_commit_past_an_image_between(self):
        self.chain()
        self.img("commit", "-b", "base.raw", "top.qcow2")
        self.run_here("cmp", "base.raw", "flat.raw")

    def test_snapshots(self):
        self.source()
        self.img("convert", "-c", "-O", "qcow2", "source.raw", "x.qcow2")
        self.img("snapshot", "-c", "one", "x.qcow2")
        self.sound("x.qcow2")
        self.io("x.qcow2", "write -P 7 1M 2M", "discard 3M 1M")
        self.qemu("convert", "-O", "raw", "x.qcow2", "two.raw")
        self.qemu("snapshot", "-c", "two", "x.qcow2")
        self.img("snapshot", "-c", "three", "x.qcow2")
        self.sound("x.qcow2")
        self.assertEqual(self.img("snapshot", "-l", "x.qcow2"), self.qemu("snapshot", "-l", "x.qcow2"))
        self.assertEqual(self.img("info", "x.qcow2"), self.qemu("info", "x.qcow2"))
        self.img("convert", "-l", "one", "-O", "raw", "x.qcow2", "one.raw")
        self.run_here("cmp", "one.raw", "source.raw")
        self.img("snapshot", "-a", "one", "x.qcow2")
        self.sound("x.qcow2")
        self.same("x.qcow2", "source.raw")
        self.img("snapshot", "-a", "two", "x.qcow2")
        self.same("x.qcow2", "two.raw")
        for name in ("three", "one", "two"):
            self.img("snapshot", "-d", name, "x.qcow2")
            self.sound("x.qcow2")
        self.same("x.qcow2", "two.raw")
        self.refused("snapshot", "-a", "gone", "x.qcow2", parts=["could not apply snapshot 'gone'"])

    def test_resize(self):
        self.source()
        for options in ("cluster_size=64k", "cluster_size=512", "extended_l2=on"):
            self.img("convert", "-O", "qcow2", "-o", options, "source.raw", "x.qcow2")
            self.img("resize", "x.qcow2", "+1G")
            self.sound("x.qcow2")
            self.img("compare", "x.qcow2", "source.raw")
            self.refused("resize", "x.qcow2", "1M", parts=["--shrink"])
            self.img("resize", "--shrink", "x.qcow2", str((1 << 20) + 512))
            self.sound("x.qcow2")
            self.img("resize", "--preallocation=falloc", "x.qcow2", "4M")
            self.sound("x.qcow2")
            with open(self.path("source.raw"), "rb") as file:
                expected = file.read((1 << 20) + 512).ljust(4 << 20, b"\0")
            self.file("expected.raw", expected)
            self.same("x.qcow2", "expected.raw")

    def test_compare_has_qemus_exit_codes(self):
        self.file("a.raw", bytes(1 << 20))
        self.file("b.raw", bytes(700000) + b"x" + bytes((1 << 20) - 700001))
        for words, status in ((["a.raw", "a.raw"], 0), (["a.raw", "b.raw"], 1), (["a.raw", "gone"], 2)):
            self.qemu("compare", *words, status=status)
            self.img("compare", *words, status=status)
        self.assertEqual(self.img("compare", "a.raw", "b.raw", status=1),
                         self.qemu("compare", "a.raw", "b.raw", status=1))
        self.img("create", "-q", "a2.raw", "2M")
        self.img("compare", "a.raw", "a2.raw")
        self.img("compare", "-s", "a.raw", "a2.raw", status=1)

    def test_several_inputs_backing_and_existing_output(self):
        self.source("a.raw", 1 << 20)
        self.source("b.raw", 2 << 20)
        self.img("convert", "-O", "qcow2", "a.raw", "b.raw", "both.qcow2")
        with open(self.path("both.raw"), "wb") as file:
            for name in ("a.raw", "b.raw"):
                with open(self.path(name), "rb") as part:
                    file.write(part.read())
        self.same("both.qcow2", "both.raw")
        self.chain()
        self.img("convert", "-O", "qcow2", "-B", "mid.qcow2", "-F", "qcow2", "top.qcow2", "thin.qcow2")
        self.same("thin.qcow2", "flat.raw")
        self.assertLess(os.stat(self.path("thin.qcow2")).st_blocks * 512, 1 << 20)
        self.img("create", "-q", "-f", "qcow2", "there.qcow2", "8M")
        self.io("there.qcow2", "write -P 5 0 8M")
        self.img("convert", "-n", "-O", "qcow2", "flat.raw", "there.qcow2")
        self.sound("there.qcow2")
        self.run_here("qemu-io", "-r", "-c", "read -P 5 7M 1M", "there.qcow2")
        self.qemu("convert", "-O", "raw", "there.qcow2", "there.raw")
        self.run_here("cmp", "-n", str(7 << 20), "there.raw", "flat.raw")

    def test_progress_ends_at_all(self):
        self.source()
        self.assertRegex(self.img("convert", "-p", "-O", "qcow2", "source.raw", "x.qcow2"),
                         r"(?s)^ +\(\d+\.\d\d/100%\)\n.*\(100\.00/100%\)\n$")

    def test_bench_and_dd(self):
        self.img("create", "-q", "-f", "qcow2", "x.qcow2", "16M")
        self.assertIn("Run completed in ", self.img("bench", "-c", "4000", "-w", "--pattern=7",
                                                    "--flush-interval=500", "x.qcow2"))
        self.sound("x.qcow2")
        self.run_here("qemu-io", "-r", "-c", "read -P 7 0 4000k", "x.qcow2")
        self.img("dd", "if=x.qcow2", "of=part.raw", "bs=1M", "count=2", "skip=1")
        with open(self.path("part.raw"), "rb") as file:
            self.assertEqual(file.read(), b"\7" * (2 << 20))

    def patch(self, offset, data):
        with open(self.path("x.qcow2"), "r+b") as file:
            file.seek(offset)
            file.write(data)

    def tables(self):
        """Offsets of the L1 table and of the first L2 table."""
        with open(self.path("x.qcow2"), "rb") as file:
            file.seek(40)
            l1, = struct.unpack(">Q", file.read(8))
            file.seek(l1)
            return l1, struct.unpack(">Q", file.read(8))[0] & ~COPIED

    def test_corruption_stops_writing_and_is_marked(self):
        for name, entry in (("unaligned", COPIED | 0x50200), ("beyond the end", COPIED | 0x7F0000000),
                            ("refcount table", COPIED | 0x10000), ("qcow2_header", None),
                            ("L2 table offset", "l1"), ("active L2 table", "self")):
            with self.subTest(name=name):
                self.img("create", "-q", "-f", "qcow2", "x.qcow2", "1G")
                self.io("x.qcow2", "write -P 1 0 64k", "write -P 2 600M 64k")
                l1, l2 = self.tables()
                if entry == "l1":
                    self.patch(l1, struct.pack(">Q", COPIED | 0x123400))
                elif entry == "self":
                    self.patch(l2, struct.pack(">Q", COPIED | l2))
                elif entry is None:
                    # The refcount of the header's cluster says that it is free.
                    self.patch(0x20000, b"\0\0")
                else:
                    self.patch(l2, struct.pack(">Q", entry))
                work = ["bench", "-q", "-w", "-c", "1", "-o", "64k" if entry is None else "0", "x.qcow2"]
                result = self.run_here(IMG, *work, status=1)
                self.assertIn("Marking image", result.stderr)
                self.assertIn("0x" if entry is None else name, result.stderr)
                self.assertTrue(json.loads(self.img("info", "--output=json", "x.qcow2"))
                                ["format-specific"]["data"]["corrupt"])
                self.assertIn("cannot be opened read/write", self.run_here(IMG, *work, status=1).stderr)
                self.img("check", "x.qcow2", status=2)

    def test_check_finds_and_repairs(self):
        self.source()
        self.img("convert", "-O", "qcow2", "source.raw", "x.qcow2")
        self.patch(0x20000 + 2 * 40, struct.pack(">3H", 3, 0, 2))
        theirs = json.loads(self.qemu("check", "--output=json", "x.qcow2", status=2))
        ours = json.loads(self.img("check", "--output=json", "x.qcow2", status=2))
        self.assertEqual(ours, theirs)
        shutil.copy(self.path("x.qcow2"), self.path("y.qcow2"))
        self.assertIn("Double checking", self.img("check", "-r", "all", "x.qcow2"))
        self.sound("x.qcow2")
        self.same("x.qcow2", "source.raw")
        # A refcount table that points nowhere.
        self.patch(0x10000, bytes(8))
        self.img("check", "-r", "all", "x.qcow2")
        self.sound("x.qcow2")
        self.same("x.qcow2", "source.raw")
        # Clusters that nobody uses.
        self.img("convert", "-O", "qcow2", "source.raw", "x.qcow2")
        os.truncate(self.path("x.qcow2"), 500 << 16)
        self.patch(0x20000 + 2 * 400, struct.pack(">2H", 1, 1))
        self.img("check", "x.qcow2", status=3)
        self.qemu("check", "x.qcow2", status=3)
        self.img("check", "-r", "leaks", "x.qcow2")
        self.sound("x.qcow2")
        self.assertEqual(self.img("check", "source.raw", status=63), "")

    def test_a_dirty_image_is_counted_again(self):
        self.source()
        self.img("convert", "-O", "qcow2", "-o", "lazy_refcounts=on", "source.raw", "x.qcow2")
        self.patch(72, struct.pack(">Q", 1))
        self.patch(0x20000 + 2 * 6, bytes(40))
        self.qemu("check", "x.qcow2", status=2)
        self.img("bench", "-q", "-w", "-c", "1", "-o", "5M", "x.qcow2")
        self.sound("x.qcow2")
        self.assertFalse(json.loads(self.img("info", "--output=json", "x.qcow2"))["dirty-flag"])

    def test_bad_input_is_named(self):
        create = ["create", "-q", "-f", "qcow2"]
        self.refused(*create, "-o", "cluster_size=3000", "x.qcow2", "1M", parts=["cluster_size=3000", "power of two"])
        self.refused(*create, "-o", "clustersize=4k", "x.qcow2", "1M", parts=["clustersize", "cluster_size"])
        self.refused(*create, "-o", "refcount_bits=3", "x.qcow2", "1M", parts=["refcount_bits=3"])
        self.refused(*create, "-o", "compat=0.10,lazy_refcounts=on", "x.qcow2", "1M", parts=["lazy_refcounts"])
        self.refused(*create, "-o", "lazy_refcounts=maybe", "x.qcow2", "1M", parts=["maybe", "'on' or 'off'"])
        self.refused(*create, "-o", "encrypt.format=luks", "x.qcow2", "1M", parts=["encrypt.format"])
        self.refused(*create, "-b", "gone", "-F", "raw", "x.qcow2", parts=["gone"])
        self.assertEqual(os.listdir(self.folder), [])
        self.source()
        self.refused(*create, "-b", "source.raw", "x.qcow2", parts=["without backing format", "raw"])
        self.refused("convert", "-O", "vmdk", "source.raw", "x", parts=["vmdk"])
        self.qemu("create", "-f", "vmdk", "x.vmdk", "1M")
        self.qemu("create", "-f", "vdi", "x.vdi", "1M")
        self.qemu("create", "-f", "vhdx", "x.vhdx", "1M")
        for kind in ("vmdk", "vdi", "vhdx"):
            self.refused("info", f"x.{kind}", parts=[f"{kind} format", "not supported"])
        self.img(*create, "x.qcow2", "1M")
        self.patch(72, struct.pack(">Q", 1 << 40))
        self.refused("info", "x.qcow2", parts=["unsupported qcow2 feature", "10000000000"])
        self.img(*create, "x.qcow2", "1M")
        self.patch(32, struct.pack(">I", 2))
        self.refused("info", "x.qcow2", parts=["encrypted", "LUKS"])
        self.img(*create, "-b", "b.qcow2", "-F", "qcow2", "-u", "a.qcow2", "1M")
        self.img(*create, "-u", "-b", "a.qcow2", "-F", "qcow2", "b.qcow2", "1M")
        self.refused("map", "a.qcow2", parts=["infinite loop", "a.qcow2"])
        os.unlink(self.path("b.qcow2"))
        self.refused("map", "a.qcow2", parts=["b.qcow2", "No such file"])

    def test_a_file_of_too_many_clusters_is_not_counted(self):
        self.img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "x.qcow2", "1M")
        os.truncate(self.path("x.qcow2"), (1 << 26) * 512 + 1)  # all but its start is a hole
        self.refused("check", "x.qcow2", parts=["67108865 clusters", "67108864 at most"])
        os.truncate(self.path("x.qcow2"), 1 << 20)
        self.img("check", "x.qcow2")

    def test_an_image_in_use_is_left_alone(self):
        self.img("create", "-q", "-f", "qcow2", "x.qcow2", "1M")
        peer = subprocess.Popen(["qemu-io", "x.qcow2"], cwd=self.folder, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        try:
            peer.stdin.write(b"write 0 64k\n")
            peer.stdin.flush()
            peer.stdout.readline()
            self.refused("snapshot", "-c", "s", "x.qcow2", parts=["lock"])
            self.refused("info", "x.qcow2", parts=["lock"])
            self.img("info", "-U", "x.qcow2")
        finally:
            peer.stdin.close()
            peer.wait()
            peer.stdout.close()

    def test_a_killed_convert_leaves_a_sound_image(self):
        self.source(size=24 << 20)
        choices = (["-c"], ["-o", "cluster_size=4k"], ["-o", "refcount_bits=64,cluster_size=512"], ["-W"], [])
        started = time.monotonic()
        self.img("convert", "-O", "qcow2", "-c", "source.raw", "x.qcow2")
        whole = time.monotonic() - started
        cut = 0
        for kill in range(60):
            choice = choices[kill % len(choices)]
            if os.path.exists(self.path("x.qcow2")):
                os.unlink(self.path("x.qcow2"))
            process = subprocess.Popen([IMG, "convert", "-t", "writeback", "-O", "qcow2", *choice, "source.raw", "x.qcow2"],
                                       cwd=self.folder)
            time.sleep(self.random.random() * min(whole, 1.0))
            process.send_signal(signal.SIGKILL)
            cut += process.wait() != 0
            if not os.path.exists(self.path("x.qcow2")):
                continue
            with open(self.path("x.qcow2"), "rb") as file:
                if file.read(4) != b"QFI\xfb":
                    continue  # before the header was there: no image at all
            result = self.run_program("qemu-img", "check", "-f", "qcow2", "x.qcow2", cwd=self.folder)
            self.assertIn(result.returncode, (0, 3), f"{choice}: {result.stdout}{result.stderr}")
        self.assertGreater(cut, 10)


if __name__ == "__main__":
    unittest.main()
