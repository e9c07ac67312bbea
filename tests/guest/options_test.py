#!/usr/bin/env python3
"""Options for the process around a machine: what they do is looked at from outside."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

import harness
from console import Console
from harness import SYSTEM, MachineTest


class OptionsTest(MachineTest):
    def kernel(self, text="up\n", code=harness.HALT_FOREVER):
        return self.file("kernel", harness.multiboot(harness.say(text) + code))

    def start(self, *words):
        machine = Console([SYSTEM, "-display", "none", "-serial", "stdio", "-monitor", "none",
                           "-net", "none", *words])
        self.addCleanup(machine.close)
        return machine

    def status(self, machine, name):
        with open(f"/proc/{machine.process.pid}/status", encoding="ascii") as file:
            return re.search(rf"^{name}:\s+(.*)$", file.read(), re.MULTILINE).group(1)


class Configuration(OptionsTest):
    def test_machine_from_a_file(self):
        disk = self.file("a,b.raw", bytes(1 << 20))
        qmp = str(self.folder / "qmp")
        file = self.file("machine.cfg", f"""
# A whole machine.
[machine]
  type = "q35"
  accel = "tcg"
  kernel = "{self.kernel()}"
[memory]
  size = "64M"
[smp-opts]
  cpus = "2"
[name]
  guest = "from a file"
[drive "d0"]
  file = "{disk}"
  format = "raw"
  if = "none"
[device "disk0"]
  driver = "virtio-blk-pci"
  drive = "d0"
[netdev "n0"]
  type = "user"
[device "card0"]
  driver = "virtio-net-pci"
  netdev = "n0"
[object "r0"]
  qom-type = "rng-random"
[chardev "c0"]
  backend = "socket"
  path = "{qmp}"
  server = "on"
  wait = "off"
[mon "m0"]
  chardev = "c0"
  mode = "control"
[global]
  driver = "ICH9-LPC"
  property = "disable_s3"
  value = "1"
""".encode())
        machine = Console([SYSTEM, "-display", "none", "-serial", "stdio", "-readconfig", file])
        self.addCleanup(machine.close)
        machine.expect("up", 30)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(qmp)
            stream = client.makefile("rwb")
            stream.readline()

            def ask(command, **arguments):
                stream.write(json.dumps({"execute": command, "arguments": arguments}).encode())
                stream.flush()
                return json.loads(stream.readline())["return"]

            ask("qmp_capabilities")
            self.assertEqual(ask("query-name"), {"name": "from a file"})
            self.assertEqual(len(ask("query-cpus-fast")), 2)
            self.assertEqual(ask("query-memory-size-summary")["base-memory"], 64 << 20)
            names = [each["name"] for each in ask("qom-list", path="/machine/peripheral")]
            self.assertLessEqual({"disk0", "card0"}, set(names))
            self.assertIn("r0", [each["name"] for each in ask("qom-list", path="/objects")])

    def test_errors_name_file_and_line(self):
        for text, parts in (
                ("[machine\n", ("line 1", "parse error")),
                ("\n\nkey = \"value\"\n", ("line 3", "no group defined")),
                ("[memory]\nsize = 64M\n", ("line 2", "parse error")),
                ("[memory]\nsize = \"64M\"\n[drve \"a\"]\n", ("line 3", "no option group 'drve'")),
                ("# one\n[device \"x\"]\n driver = \"virtio-blk-pic\"\n",
                 ("line 2", "[device]", "did you mean 'virtio-blk-pci'?")),
                ("[global]\n drivr = \"x\"\n", ("line 1", "did you mean 'driver'?"))):
            file = self.file("bad.cfg", text.encode())
            result = self.run_program(SYSTEM, "-readconfig", file)
            self.assert_one_line_error(result, file, *parts)
        self.assert_one_line_error(self.run_program(SYSTEM, "-readconfig", "/nonexistent"),
                                   "Could not open '/nonexistent': No such file or directory")
        self.assert_one_line_error(self.run_program(SYSTEM, "-readconfig", str(self.folder)),
                                   "Is a directory")


class Logging(OptionsTest):
    def test_trace_writes_what_happens(self):
        log = self.folder / "trace"
        qmp = str(self.folder / "qmp")
        machine = self.start("-kernel", self.kernel(), "-qmp", f"unix:{qmp},server=on,wait=off",
                             "-trace", "*qmp*", "-D", str(log))
        machine.expect("up", 30)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(qmp)
            stream = client.makefile("rwb")
            stream.readline()
            stream.write(b'{"execute": "qmp_capabilities"}{"execute": "no-such"}')
            stream.flush()
            stream.readline()
            stream.readline()
        lines = log.read_text().splitlines()
        for line in lines:
            self.assertRegex(line, rf"^{machine.process.pid}@\d+\.\d{{6}}:\w+ mon 0x[0-9a-f]+ re")
        self.assertEqual([re.search(r":(\w+) ", line)[1] for line in lines],
                         ["handle_qmp_command", "monitor_qmp_respond"] * 2)
        self.assertIn('req: {"execute": "no-such"}', lines[2])
        self.assertIn("CommandNotFound", lines[3])

    def test_events_of_disks(self):
        guest = self.debian()
        log = self.folder / "trace"
        patterns = self.file("patterns", b"# disks\nvirtio_blk_*\nvirtio_set_status\n")
        with Console([SYSTEM, "-m", "512M", "-nographic", "-kernel", str(guest / "vmlinuz"),
                      "-initrd", str(guest / "initrd.img"), "-append",
                      "console=ttyS0 root=/dev/vda ro break=mount", "-net", "none", "-drive",
                      f"file={guest / 'disk.raw'},format=raw,if=virtio,snapshot=on", "-trace",
                      f"events={patterns},file={log}"]) as machine:
            machine.expect(r"\(initramfs\) ", 600)
        text = log.read_text()
        self.assertRegex(text, r":virtio_set_status vdev virtio-blk-pci val 15\n")
        reads = re.findall(r":virtio_blk_handle_read vdev 0x\w+ req (0x\w+) sector \d+ nsectors", text)
        self.assertTrue(reads)
        for request in reads:
            self.assertIn(f"req {request} status 0", text)
        self.assertNotIn("virtio_queue_notify", text)

    def test_words(self):
        result = self.run_program(SYSTEM, "-trace", "help")
        self.assertIn("virtio_blk_req_complete\n", result.stdout)
        result = self.run_program(SYSTEM, "-machine", "none", "-trace", "virtio_blk_req_complet",
                                  "-version")
        self.assertIn("did you mean 'virtio_blk_req_complete'?", result.stderr)
        self.assert_one_line_error(self.run_program(SYSTEM, "-trace", "virtio*,flie=x"), "file")
        kernel = self.kernel()
        self.assert_one_line_error(
            self.run_program(SYSTEM, "-nographic", "-kernel", kernel, "-trace", "*", "-D",
                             "/nonexistent/log"), "/nonexistent/log")
        self.assert_one_line_error(
            self.run_program(SYSTEM, "-nographic", "-kernel", kernel, "-d", "in_asm", "-D",
                             "/nonexistent/log"), "/nonexistent/log")

    def test_d_takes_events_and_engine_alike(self):
        log = self.folder / "log"
        machine = self.start("-kernel", self.kernel(), "-d", "in_asm,trace:virtio*", "-device",
                             "virtio-rng-pci", "-D", str(log))
        machine.expect("up", 30)
        self.assertRegex(log.read_text(), r"0x0000000000100020: ")

    def test_timestamps(self):
        stamp = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z "
        result = self.run_program(SYSTEM, "-nographic", "-kernel", "/nonexistent", "-msg",
                                  "timestamp=on")
        self.assertRegex(result.stderr, stamp + "limen-system-x86_64: error: ")


class Privileges(OptionsTest):
    @unittest.skipUnless(os.geteuid() == 0, "only root can become another user")
    def test_runs_as_another_user(self):
        for words in (("-runas", "nobody"), ("-run-with", "user=nobody"), ("-runas", "65534:65534")):
            with self.subTest(words=words):
                machine = self.start("-kernel", self.kernel(), *words)
                machine.expect("up", 30)
                self.assertEqual(self.status(machine, "Uid").split(), ["65534"] * 4)
                self.assertEqual(self.status(machine, "Gid").split(), ["65534"] * 4)
                self.assertNotIn("0", self.status(machine, "Groups").split())
                self.assertEqual(int(self.status(machine, "CapEff"), 16), 0)
                machine.close()

    @unittest.skipUnless(os.geteuid() == 0, "only root can change its root folder")
    def test_lives_in_another_root_folder(self):
        root = self.folder / "root"
        root.mkdir()
        machine = self.start("-kernel", self.kernel(), "-run-with", f"chroot={root}", "-runas",
                             "nobody")
        machine.expect("up", 30)
        self.assertEqual(os.readlink(f"/proc/{machine.process.pid}/root"), str(root))
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.wait(10), 0)

    def test_errors(self):
        kernel = self.kernel()
        words = (SYSTEM, "-display", "none", "-net", "none", "-kernel", kernel)
        self.assert_one_line_error(self.run_program(*words, "-runas", "nobody-has-that-name"),
                                   "User \"nobody-has-that-name\" doesn't exist")
        self.assert_one_line_error(self.run_program(*words, "-run-with", "usr=x"), "'user'")
        if os.geteuid() == 0:
            self.assert_one_line_error(
                self.run_program(*words, "-run-with", "chroot=/nonexistent"), "/nonexistent")
        else:
            self.assert_one_line_error(self.run_program(*words, "-runas", "root"), "Failed to set")


@unittest.skipUnless(shutil.which("gdb"), "there is no gdb")
class Sandbox(OptionsTest):
    """The real process is made to call what it never would, by a debugger."""

    KILLED = {"mount": 165, "ustat": 136, "setuid": 105, "fork": 57, "execve": 59, "unshare": 272}
    REFUSED = {"setpriority": 141, "sched_setaffinity": 203}

    def start_sandboxed(self, policies):
        machine = self.start("-kernel", self.kernel(), "-sandbox", policies)
        machine.expect("up", 30)
        self.assertEqual(self.status(machine, "Seccomp"), "2")
        return machine

    def call(self, machine, number):
        result = subprocess.run(
            ["gdb", "-nx", "-batch", "-p", str(machine.process.pid), "-ex",
             f"print (long)syscall((long){number}, 0l, 0l, 0l, 0l, 0l)"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
        if "ptrace: Operation not permitted" in result.stderr:
            self.skipTest("no debugger may attach here")
        return result.stdout + result.stderr

    def test_forbidden_calls_kill_or_fail(self):
        everything = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
        for name, number in self.KILLED.items():
            with self.subTest(call=name):
                machine = self.start_sandboxed(everything)
                output = self.call(machine, number)
                self.assertIn("SIGSYS", output)
                self.assertEqual(machine.wait(20), -signal.SIGSYS)
        machine = self.start_sandboxed(everything)
        for name, number in self.REFUSED.items():
            with self.subTest(call=name):
                self.assertIn("$1 = -1", self.call(machine, number))
        self.assertIsNone(machine.process.poll())

    def test_what_is_allowed_stays_so(self):
        machine = self.start_sandboxed("on,elevateprivileges=allow,spawn=allow")
        self.assertIn("$1 = 0", self.call(machine, 141))  # setpriority
        self.assertIsNone(machine.process.poll())


class Daemon(OptionsTest):
    def test_errors_reach_the_one_who_started_it(self):
        kernel = self.kernel()
        words = (SYSTEM, "-display", "none", "-net", "none", "-daemonize")
        self.assert_one_line_error(self.run_program(*words, "-kernel", kernel, "-serial", "stdio"),
                                   "cannot use stdio with -daemonize")
        self.assert_one_line_error(self.run_program(*words, "-kernel", "/nonexistent"),
                                   "/nonexistent")
        self.assert_one_line_error(
            self.run_program(*words, "-kernel", kernel, "-pidfile", "/nonexistent/pid"),
            "cannot create PID file", "/nonexistent/pid")

    def test_two_do_not_share_a_pid_file(self):
        pid_file = self.folder / "pid"
        words = (SYSTEM, "-display", "none", "-net", "none", "-kernel", self.kernel(), "-daemonize",
                 "-pidfile", str(pid_file))
        self.assertEqual(self.run_program(*words).returncode, 0)
        pid = int(pid_file.read_text())
        self.addCleanup(lambda: os.path.exists(f"/proc/{pid}") and os.kill(pid, signal.SIGKILL))
        self.assert_one_line_error(self.run_program(*words), "Cannot lock", str(pid_file))
        self.assertEqual(int(pid_file.read_text()), pid)
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while pid_file.exists():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)


class Memory(OptionsTest):
    def test_preallocated_memory_is_there_from_the_start(self):
        def shared(machine):
            total = 0
            for link in os.listdir(f"/proc/{machine.process.pid}/fd"):
                path = f"/proc/{machine.process.pid}/fd/{link}"
                if re.search("limen-ram|memory-backend", os.readlink(path)):
                    total = os.stat(path).st_blocks * 512
            return total

        kernel = self.kernel()
        for words, full in (
                (("-m", "64M"), False), (("-m", "64M", "-mem-prealloc"), True),
                (("-object", '{"qom-type":"memory-backend-memfd","id":"ram","size":67108864,'
                  '"prealloc":true}', "-machine", "memory-backend=ram"), True)):
            with self.subTest(words=words):
                machine = self.start("-kernel", kernel, *words)
                machine.expect("up", 30)
                (self.assertGreaterEqual if full else self.assertLess)(shared(machine), 64 << 20)
                machine.close()

    def test_huge_pages_that_are_set_aside(self):
        setting = pathlib.Path("/proc/sys/vm/nr_hugepages")
        before = setting.read_text()
        try:
            setting.write_text("40")
        except OSError:
            self.skipTest("needs root, to set huge pages aside")
        self.addCleanup(setting.write_text, before)
        if int(setting.read_text()) < 40 or "2048 kB" not in pathlib.Path(
                "/proc/meminfo").read_text().split("Hugepagesize:")[1]:
            self.skipTest("the host has no 40 huge pages of 2 MiB")

        def words(size, more=""):
            return ("-m", f"{size}M", "-object", f"memory-backend-memfd,id=ram,size={size}M,"
                    f"hugetlb=on{more}", "-machine", "memory-backend=ram")

        kernel = self.kernel()
        accelerators = ["soft"] + (["kvm"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else [])
        for accelerator in accelerators:
            with self.subTest(accelerator=accelerator):
                machine = self.start("-kernel", kernel, *words(64), "-accel", accelerator)
                machine.expect("up", 60)
                smaps = pathlib.Path(f"/proc/{machine.process.pid}/smaps").read_text()
                used = sum(map(int, re.findall(r"Shared_Hugetlb: +(\d+) kB", smaps)))
                used += sum(map(int, re.findall(r"Private_Hugetlb: +(\d+) kB", smaps)))
                self.assertGreaterEqual(used, 2048)
                machine.close()
        for refused, said in ((words(128), "vm.nr_hugepages"),
                              (words(63), "in pages of 2097152 bytes"),
                              (words(64, ",hugetlbsize=3M"), "hugetlbsize=3M")):
            self.assert_one_line_error(
                self.run_program(SYSTEM, *refused, "-kernel", kernel, "-display", "none"), said)


if __name__ == "__main__":
    unittest.main()
