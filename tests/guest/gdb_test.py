#!/usr/bin/env python3
"""The real gdb debugs a guest: a small one, and Debian's kernel with two processors."""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import harness
from console import Console
from harness import SYSTEM, MachineTest

LOAD = 0x100000 + 32  # where harness.multiboot() puts code


class Client:
    """What a debugger says, byte by byte, where gdb itself is too well-behaved."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.socket.connect(path)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def send(self, data):
        body = data.encode() if isinstance(data, str) else data
        self.socket.sendall(b"$" + body + b"#%02x" % (sum(body) & 0xFF))

    def receive(self):
        """The next packet."""
        data = b""
        while not re.search(rb"\$[^#]*#..", data):
            more = self.socket.recv(4096)
            if not more:
                raise EOFError(data)
            data += more
        with contextlib.suppress(OSError):  # after its last packet it may be gone
            self.socket.sendall(b"+")
        return re.search(rb"\$([^#]*)#..", data).group(1).decode()

    def ask(self, data):
        self.send(data)
        return self.receive()

    def close(self):
        self.socket.close()


@unittest.skipUnless(shutil.which("gdb"), "there is no gdb")
class GdbTest(MachineTest):
    def setUp(self):
        super().setUp()
        self.socket = str(self.folder / "gdb")

    def gdb(self, *commands, timeout=120):
        """What gdb prints when it runs these commands, connected."""
        return self.wait_for_gdb(self.start_gdb(*commands), timeout)

    def start_gdb(self, *commands):
        script = self.file("script", "\n".join(
            ["set pagination off", "set confirm off", "set tcp connect-timeout 30",
             f"target remote {self.socket}", *commands, ""]).encode())
        deadline = time.monotonic() + 20
        while not os.path.exists(self.socket) and time.monotonic() < deadline:
            time.sleep(0.05)
        return subprocess.Popen(["gdb", "-nx", "-batch", "-x", script], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)

    def wait_for_gdb(self, process, timeout=120):
        try:
            output = process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()[0]
            self.fail(f"gdb does not come to an end:\n{output}")
        self.assertNotIn("Error in sourced command file", output, output)
        return output


class SmallGuest(GdbTest):
    # A loop that counts in memory, in 32-bit code.
    LOOP = (b"\x31\xc0"                            # 5: xor eax, eax
            b"\x40"                                # 7: inc eax
            b"\xa3" + struct.pack("<I", 0x180000) +  # 8: mov [180000H], eax
            b"\x3d" + struct.pack("<I", 100000) +  # 13: cmp eax, 100000
            b"\x75\xf3")                           # 18: jne 7

    def start(self, code, *words):
        kernel = self.file("kernel", harness.multiboot(code))
        machine = Console([SYSTEM, "-nographic", "-kernel", kernel, "-gdb", f"unix:{self.socket}",
                           *words])
        self.addCleanup(machine.close)
        return machine

    def test_steps_breakpoints_and_watchpoints(self):
        for tier in ("translator", "interpreter"):
            with self.subTest(tier=tier):
                machine = self.start(self.LOOP + harness.say("done\n") + harness.POWER_OFF, "-S",
                                     "-accel", f"soft,tier={tier}")
                output = self.gdb(
                    "set architecture i386", "info registers", "stepi", "stepi", "stepi", "x/i $pc",
                    f"break *{LOAD + 13}", "continue", "continue", "print/x $eax",
                    "delete", f"hbreak *{LOAD + 20} if $eax == 100000", "continue",
                    "print $eax", "delete", "watch *(int*)0x180000 if *(int*)0x180000 == 3",
                    f"set $pc = {LOAD + 5}", "continue", "print *(int*)0x180000",
                    "set var *(int*)0x180004 = 0x12345678", "x/xw 0x180004", "delete",
                    "monitor info status", "detach")
                self.assertRegex(output, r"rip +0x100020")
                self.assertRegex(output, r"cr0 +0x[0-9a-f]+ +\[ PE ")
                self.assertIn("$1 = 0x2", output)
                self.assertIn("$2 = 100000", output)
                self.assertIn("$3 = 3", output)
                self.assertRegex(output, r"Old value = 2\s+New value = 3")
                self.assertIn("0x12345678", output)
                self.assertIn("VM status: paused", output)
                machine.expect("done", 30)
                self.assertEqual(machine.wait(30), 0)

    def test_monitor_is_the_human_one(self):
        machine = self.start(self.LOOP + harness.say("done\n") + harness.POWER_OFF, "-S", "-M", "q35",
                             "-device", "pcie-root-port,id=rp", "-name", "under gdb")
        output = self.gdb("monitor info name", "monitor info mtree", "monitor info pci",
                          "monitor x/2i $pc", "monitor p 6*7", "monitor info registers",
                          "monitor device_add virtio-rng-pci,bus=rp,id=hot", "monitor help info",
                          "monitor no-such-command", "monitor device_del nothing",
                          "monitor balloon 64", "detach")
        self.assertIn("under gdb", output)
        self.assertRegex(output, r"(?m)^0x2a$")
        self.assertRegex(output, r"EIP=00100020|RIP=0000000000100020")
        self.assertRegex(output, r"(?m)^info mtree ")
        self.assertRegex(output, r"(?m)^unknown command: 'no-such-command'$")
        self.assertIn("Error: Device 'nothing' not found", output)
        self.assertIn("Error: No balloon device has been activated", output)
        self.assertIn("PCI", output)
        self.assertNotIn("\r", output)
        machine.expect("done", 30)
        self.assertEqual(machine.wait(30), 0)

    def test_monitor_ends_the_machine(self):
        machine = self.start(b"\xeb\xfe")
        self.gdb("monitor quit")
        self.assertEqual(machine.wait(10), 0)

    def test_nothing_to_debug(self):
        result = self.run_program(SYSTEM, "-M", "none", "-nographic", "-gdb", f"unix:{self.socket}")
        self.assert_one_line_error(result, "-gdb unix:",
                                   "meaningless to attach gdb to a machine without any CPU")
        self.assertFalse(os.path.exists(self.socket))

    def test_s_listens_at_port_1234(self):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 1234)) == 0:
                self.skipTest("port 1234 is taken")
        kernel = self.file("kernel", harness.multiboot(harness.say("up") + harness.HALT_FOREVER))
        with Console([SYSTEM, "-nographic", "-kernel", kernel, "-s", "-S"]) as machine:
            time.sleep(0.5)
            self.socket = "localhost:1234"
            process = self.start_gdb("info threads", "detach")
            self.assertIn("CPU#0 [running]", self.wait_for_gdb(process))
            machine.expect("up", 30)
            second = self.run_program(SYSTEM, "-nographic", "-kernel", kernel, "-s")
            self.assert_one_line_error(second, "tcp::1234", "Address already in use")

    def test_interrupt_stops_and_the_end_is_told(self):
        machine = self.start(harness.say("up") + b"\xeb\xfe")
        machine.expect("up", 30)
        client = Client(self.socket)
        self.assertRegex(client.ask("?"), "^T05thread:")
        client.send("vCont;c")
        time.sleep(0.3)
        client.socket.sendall(b"\x03")
        self.assertRegex(client.receive(), "^T02thread:01;")
        client.send("vCont;c")
        machine.signal(signal.SIGTERM)
        self.assertEqual(client.receive(), "W00")
        self.assertEqual(machine.wait(10), 0)

    def test_kill_ends_the_machine(self):
        machine = self.start(b"\xeb\xfe")
        self.gdb("kill")
        self.assertEqual(machine.wait(10), 0)

    def test_lives_through_clients_that_vanish_and_garbage(self):
        machine = self.start(self.LOOP + b"\xeb\xe9" + harness.HALT_FOREVER)
        for data in (b"", b"$", b"$m0,", b"\xff" * 5000, b"$" + b"a" * 200000 + b"#00",
                     b"$m0,ffffffffffffffff#00", b"+" * 1000 + b"-" * 1000, b"\x03" * 100,
                     b"$vCont;c#a8$vCont;c#a8"):
            client = Client(self.socket)
            client.socket.sendall(data)
            client.close()
        # One that leaves a breakpoint behind: with it gone the guest runs on.
        client = Client(self.socket)
        self.assertEqual(client.ask(f"Z0,{LOAD + 13:x},1"), "OK")
        client.send("vCont;c")
        self.assertRegex(client.receive(), "^T05")
        client.send("vCont;c")
        self.assertRegex(client.receive(), "^T05")
        client.close()
        client = Client(self.socket)
        self.assertEqual(client.ask("qAttached"), "1")
        client.send("vCont;c")
        time.sleep(0.2)
        client.socket.sendall(b"\x03")
        self.assertRegex(client.receive(), "^T02")
        self.assertEqual(client.ask("D"), "OK")
        client.close()
        self.assertIsNone(machine.process.poll())
        machine.type("\x01x")
        self.assertEqual(machine.wait(10), 0)


class Debian(GdbTest):
    """Two processors, Debian's kernel. Its addresses come from the kernel itself, whose package has
    no table of them."""

    WANTED = ("start_kernel", "system_state", "do_sys_openat2", "init_task")

    def command(self, append, *words):
        guest = self.debian()
        return [SYSTEM, "-m", "512M", "-smp", "2", "-nographic", "-kernel", str(guest / "vmlinuz"),
                "-initrd", str(guest / "initrd.img"), "-append",
                f"console=ttyS0 nokaslr {append}", *words]

    def addresses(self):
        with Console(self.command("quiet break=top")) as console:
            console.expect(r"\(initramfs\) ", 600)
            console.type("stty -echo; PS1=\n")
            pattern = "|".join(self.WANTED)
            # There is neither grep nor sed yet.
            status, output = console.run(
                "while read address kind name module; do case $name in "
                f"{pattern}) echo $address $kind $name;; esac; done </proc/kallsyms", 300)
            self.assertEqual(status, 0, output)
        found = {line.split()[2]: int(line.split()[0], 16) for line in output.splitlines()}
        self.assertEqual(set(found), set(self.WANTED))
        return found

    def test_kernel_and_program(self):
        at = self.addresses()
        disk = str(self.folder / "disk.raw")
        subprocess.run(["cp", "--sparse=always", str(self.debian() / "disk.raw"), disk], check=True)
        console = Console(self.command("root=/dev/vda rw", "-drive",
                                       f"file={disk},format=raw,if=virtio", "-S", "-gdb",
                                       f"unix:{self.socket}"), log=str(self.folder / "console.log"))
        self.addCleanup(console.close)
        output = self.gdb(
            f"hbreak *{at['start_kernel']:#x}", "continue", "info registers", "x/3i $pc",
            "stepi", "stepi", "stepi", "info threads", "delete",
            # SYSTEM_BOOTING, SYSTEM_SCHEDULING
            f"watch *(int*){at['system_state']:#x}", "continue", "delete",
            f"break *{at['do_sys_openat2']:#x}", "continue", "info threads",
            "continue", "print/x $cs", "delete", "detach", timeout=300)
        self.assertRegex(output, rf"Breakpoint 1, 0x0*{at['start_kernel']:x} in")
        self.assertRegex(output, rf"rip +{at['start_kernel']:#x}")
        self.assertRegex(output, r"efer +0x[0-9a-f]+ +\[ SCE LME LMA NXE \]")
        self.assertRegex(output, r"gs_base +0xffffffff")
        self.assertRegex(output, rf"=> {at['start_kernel']:#x}:\t")
        self.assertRegex(output, r"Old value = 0\s+New value = 1")
        self.assertRegex(output, rf"Breakpoint 3, 0x0*{at['do_sys_openat2']:x} in")
        self.assertRegex(output, r"2 +Thread 1.2 \(CPU#1 \[(running|halted )\]\)")
        self.assertIn("$1 = 0x10", output)
        # It goes on as if nothing had been.
        console.wait_for_login(600)
        console.log_in("root", "limen", 300)
        # A program's second instruction, by its linear address, in its own address space. (At the
        # first one its page need not be there yet.)
        console.run("echo 0 > /proc/sys/kernel/randomize_va_space", 60)
        status, entry = console.run("od -A n -t x8 -j 24 -N 8 /bin/true", 60)
        self.assertEqual(status, 0)
        _, first = console.run(f"od -A n -t x1 -j {int(entry, 16)} -N 4 /bin/true", 60)
        length = {"f30f1efa": 4}.get(first.replace(" ", ""), 2)  # ENDBR64 or XOR EBP, EBP
        address = 0x555555554000 + int(entry, 16) + length
        debugger = self.start_gdb(f"break *{address:#x}", "continue", "print/x $cs", "x/i $pc",
                                  "stepi", "print/x $pc", "delete", "detach")
        time.sleep(3)
        console.type("/bin/true; echo sta''tus $?\n")
        output = self.wait_for_gdb(debugger)
        self.assertIn("$1 = 0x33", output)
        self.assertRegex(output, rf"=> {address:#x}:\t(xor +%ebp,%ebp|mov +%rdx,%r9)")
        after = int(re.search(r"\$2 = (0x[0-9a-f]+)", output).group(1), 16)
        self.assertTrue(address < after <= address + 15, output)
        console.expect("status 0", 60)
        console.type("systemctl poweroff\n")
        self.assertEqual(console.wait(300), 0)
        self.assertNotRegex(console.text, "segfault|BUG:|soft lockup")


if __name__ == "__main__":
    unittest.main()
