#!/usr/bin/env python3
"""VNC, from the outside: clients of ours and a real one at a machine, keys and mouse in a Linux."""

import os
import shutil
import socket
import ssl
import struct
import subprocess
import time
import unittest

import rfb
from harness import SYSTEM, MachineTest
from console import Console
from monitor_test import Qmp


class Vnc(MachineTest):
    def start(self, *options):
        """A machine that does nothing, with a VNC server and a control monitor."""
        self.qmp_path = str(self.folder / "qmp.sock")
        self.vnc_path = str(self.folder / "vnc.sock")
        machine = [] if "-M" in options or "-vga" in options else ["-M", "none"]
        self.process = subprocess.Popen(
            [SYSTEM, *machine, "-qmp", f"unix:{self.qmp_path},server=on,wait=off", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.stop)
        end = time.monotonic() + 30
        while not os.path.exists(self.qmp_path):
            if self.process.poll() is not None:
                self.fail(self.process.stderr.read())
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.qmp = Qmp(self.qmp_path, timeout=60)
        self.addCleanup(self.qmp.close)

    def stop(self):
        self.process.kill()
        self.process.communicate()

    def client(self, where=None, **options):
        client = rfb.Rfb(where or self.vnc_path, **options)
        self.addCleanup(client.close)
        return client

    def alive(self):
        self.assertIsNone(self.process.poll())
        self.assertIn("status", self.qmp.command("query-status"))

    def test_clients_come_and_go(self):
        self.start("-name", "guest=shown", "-vnc", f"unix:{self.folder}/vnc.sock")
        first = self.client()
        self.assertEqual((first.width, first.height), (640, 480))
        self.assertEqual(first.name, "Limen (shown)")
        first.request()
        first.update()
        self.assertTrue(any(first.pixels), "the screen's own text")
        second = self.client()
        second.request()
        second.update()
        self.assertEqual(first.pixels, second.pixels)
        self.assertEqual(self.qmp.wait_event("VNC_CONNECTED")["data"]["server"]["family"], "unix")
        self.qmp.wait_event("VNC_INITIALIZED")
        servers = self.qmp.command("query-vnc-servers")
        self.assertEqual([server["id"] for server in servers], ["default"])
        self.assertEqual(len(servers[0]["clients"]), 2)
        self.assertEqual(self.qmp.command("query-vnc")["auth"], "none")
        self.assertRegex(self.qmp.command("human-monitor-command", **{"command-line": "info vnc"}),
                         r"default:\s+Server: :\S+ \(unix\)\s+Auth: none \(Sub: none\)\s+Client:")
        second.close()
        self.qmp.wait_event("VNC_DISCONNECTED")
        self.client(shared=False)
        self.assertTrue(first.closed())
        self.alive()

    def test_passwords(self):
        self.start("-object", "secret,id=s,data=letmein", "-vnc",
                   f"unix:{self.folder}/vnc.sock,password-secret=s")
        self.client(password="letmein")
        begin = time.monotonic()
        with self.assertRaisesRegex(rfb.Refused, "Authentication failed"):
            self.client(password="wrong")
        self.assertGreater(time.monotonic() - begin, 0.9)
        self.qmp.command("change-vnc-password", password="other")
        with self.assertRaises(rfb.Refused):
            self.client(password="letmein")
        self.client(password="other")
        self.qmp.command("expire_password", protocol="vnc", time="now")
        with self.assertRaises(rfb.Refused):
            self.client(password="other")
        self.qmp.command("expire_password", protocol="vnc", time="never")
        self.qmp.command("human-monitor-command",
                         **{"command-line": "change vnc password third"})
        self.client(password="third")
        self.process.terminate()
        self.assertIn("gave a wrong password", self.process.communicate(timeout=30)[1])

    def test_bad_clients_are_dropped(self):
        self.start("-vnc", f"unix:{self.folder}/vnc.sock")
        good = self.client()
        for garbage in [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 4096, os.urandom(4096)]:
            wild = self.client(join=False)
            try:
                wild.socket.sendall(garbage)
            except ConnectionError:
                pass
            self.assertTrue(wild.closed())
            late = self.client()
            late.socket.sendall(b"\xEE" + garbage)
            self.assertTrue(late.closed())
        stuck = self.client()
        for _ in range(64):  # 75 MiB that it does not read
            stuck.request()
        good.request()
        good.update()
        self.assertTrue(any(good.pixels))
        self.alive()
        end = time.monotonic() + 60
        while len(self.qmp.command("query-vnc")["clients"]) > 1:
            self.assertLess(time.monotonic(), end, "a client that does not read stays")
            time.sleep(0.5)

    def test_ports(self):
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1] - 5900
        if number < 0:
            self.skipTest("a port below 5900")
        result = self.run_program(SYSTEM, "-M", "none", "-vnc", f"127.0.0.1:{number}")
        self.assert_one_line_error(result, f"-vnc 127.0.0.1:{number}: ",
                                   "Failed to find an available port: Address already in use")
        self.start("-vnc", f"127.0.0.1:{number},to={number + 50}")
        port = int(self.qmp.command("query-vnc")["service"])
        self.assertGreater(port, number + 5900)
        self.client(("127.0.0.1", port))
        taken.close()

    def test_options_that_are_wrong(self):
        for words, parts in [
                (["-vnc", "nowhere"], ["nowhere", "unix:PATH"]),
                (["-vnc", ":0,sasl=on"], ["sasl=on"]),
                (["-vnc", ":0,colour=red"], ["colour"]),
                (["-display", "gtk"], ["'gtk' is not available"]),
                (["-display", "vns"], ["'vns'"]),
                (["-vnc", f"unix:{self.folder}/v,tls-creds=t"], ["TLS credentials", "'t'"]),
                (["-k", "de"], ["'de'", "en-us"])]:
            self.assert_one_line_error(self.run_program(SYSTEM, "-M", "none", *words), *parts)

    def test_without_a_screen_no_port_is_opened(self):
        self.start()
        self.assertEqual(self.qmp.command("query-vnc"), {"enabled": False})
        self.assertEqual(self.qmp.command("query-vnc-servers"), [])

    def test_without_options_a_server_says_where_it_is(self):
        self.start("-vga", "std", "-nic", "none", "-m", "64M")
        line = self.process.stdout.readline()
        self.assertRegex(line, r"^VNC server running on 127\.0\.0\.1:59\d\d$")
        client = self.client(("127.0.0.1", int(line.rpartition(":")[2])))
        self.assertGreater(client.width, 0)

    def test_the_firmwares_screen_is_what_screendump_shows(self):
        self.start("-vga", "std", "-nic", "none", "-m", "64M", "-vnc",
                   f"unix:{self.folder}/vnc.sock")
        client = self.client()
        client.encodings(rfb.RAW, rfb.DESKTOP_SIZE)
        client.request()
        client.update()
        dump = self.folder / "screen.ppm"
        # Its cursor blinks for ever: what is there after a while is looked at.
        end = time.monotonic() + 10
        while time.monotonic() < end:
            client.request(True)
            client.update()
        self.qmp.command("stop")
        client.request()
        client.update()
        self.qmp.command("screendump", filename=str(dump))
        magic, width, height, _, pixels = dump.read_bytes().split(maxsplit=4)
        del magic
        # The blank behind the header's last number may look like more of it.
        pixels = dump.read_bytes()[-3 * int(width) * int(height):]
        self.assertEqual((client.width, client.height), (int(width), int(height)))
        seen = bytearray(3 * client.width * client.height)
        for at, to in ((2, 0), (1, 1), (0, 2)):
            seen[to::3] = client.pixels[at::4]
        different = sum(a != b for a, b in zip(seen, pixels))
        self.assertLess(different, 3 * 200, "all but a cursor")
        self.assertGreater(sum(byte != 0 for byte in seen), 5000, "SeaBIOS has written")

    def test_websocket(self):
        self.start("-vnc", "127.0.0.1:90,to=300,websocket=on")
        endpoints = self.qmp.command("query-vnc-servers")[0]["server"]
        port = next(int(each["service"]) for each in endpoints if each["websocket"])
        client = socket.create_connection(("127.0.0.1", port))
        self.addCleanup(client.close)
        client.settimeout(30)
        client.sendall(b"GET /websockify HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                       b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                       b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n")
        data = b""
        while b"RFB 003.008\n" not in data:
            data += client.recv(4096)
        self.assertIn(b"101 Switching Protocols", data)
        self.assertIn(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", data)

    def test_tls(self):
        if not shutil.which("openssl"):
            self.skipTest("there is no openssl")
        run = lambda *words: subprocess.run(words, cwd=self.folder, check=True,
                                            capture_output=True)
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem",
            "-out", "ca-cert.pem", "-subj", "/CN=test authority", "-days", "2")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server-key.pem", "-out",
            "server.csr", "-subj", "/CN=localhost")
        run("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca-cert.pem", "-CAkey",
            "ca-key.pem", "-CAcreateserial", "-out", "server-cert.pem", "-days", "2")
        self.start("-object", f"tls-creds-x509,id=t,dir={self.folder},endpoint=server,"
                   "verify-peer=off", "-vnc", f"unix:{self.folder}/vnc.sock,tls-creds=t")
        self.assertEqual(self.qmp.command("query-vnc-servers")[0]["vencrypt"], "x509-none")
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(60)
        plain.connect(self.vnc_path)
        self.addCleanup(plain.close)
        self.assertEqual(plain.recv(12), b"RFB 003.008\n")
        plain.sendall(b"RFB 003.008\n")
        self.assertEqual(plain.recv(2), b"\x01\x13")
        plain.sendall(b"\x13")
        self.assertEqual(plain.recv(2), b"\0\2")
        plain.sendall(b"\0\2")
        self.assertEqual(plain.recv(6), b"\0\1" + struct.pack(">I", 260))
        plain.sendall(struct.pack(">I", 260))
        self.assertEqual(plain.recv(1), b"\1")
        context = ssl.create_default_context(cafile=str(self.folder / "ca-cert.pem"))
        context.check_hostname = False
        secure = context.wrap_socket(plain)
        self.assertEqual(secure.recv(4), b"\0\0\0\0")
        secure.sendall(b"\1")
        start = b""
        while len(start) < 24:
            start += secure.recv(4096)
        self.assertEqual(struct.unpack(">HH", start[:4]), (640, 480))

    def test_a_real_client_sees_the_picture(self):
        if not shutil.which("vncsnapshot"):
            self.skipTest("there is no vncsnapshot")
        self.start("-vnc", "127.0.0.1:60,to=400")
        port = int(self.qmp.command("query-vnc")["service"])
        picture = self.folder / "picture.jpg"
        # Its Tight waits for ever where the server ends an update by LastRect.
        for encodings in ["hextile", "zlib", "raw"]:
            result = self.run_program("vncsnapshot", "-allowblank", "-encodings", encodings,
                                      f"127.0.0.1:{port - 5900}", str(picture))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("640x480", result.stderr + result.stdout)
            self.assertGreater(picture.stat().st_size, 2000)
            picture.unlink()


class InLinux(MachineTest):
    def in_guest(self, command):
        status, output = self.machine.run(command, 180)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output.strip()

    def test_keys_and_mouse_reach_linux(self):
        guest = self.debian()
        path = str(self.folder / "vnc.sock")
        self.machine = Console([
            SYSTEM, "-m", "512M", "-nographic", "-nic", "none", "-kernel", str(guest / "vmlinuz"),
            "-initrd", str(guest / "initrd.img"), "-append", "root=/dev/vda rw console=ttyS0",
            "-snapshot", "-drive", f"file={guest}/disk.raw,format=raw,if=virtio", "-vnc",
            f"unix:{path}"])
        self.addCleanup(self.machine.close)
        self.machine.wait_for_login(600)
        self.machine.log_in("root", "limen", 300)
        self.in_guest("modprobe evdev; modprobe psmouse; udevadm settle; sleep 3")
        devices = self.in_guest("cat /proc/bus/input/devices")
        self.assertIn("AT Translated Set 2 keyboard", devices)
        client = rfb.Rfb(path)
        self.addCleanup(client.close)
        keyboard = "/dev/input/by-path/platform-i8042-serio-0-event-kbd"
        self.in_guest(f"(timeout 100 head -c 576 {keyboard} >/root/keys) & sleep 2")
        client.type("Hi")  # Shift, H, I, each pressed and released
        client.scan_code(0xC8, True)
        client.scan_code(0xC8, False)
        self.in_guest("sleep 3; sync")
        codes = self.events("/root/keys")
        self.assertEqual([event for event in codes if event[0] == 1],
                         [(1, 42, 1), (1, 35, 1), (1, 42, 0), (1, 35, 0), (1, 23, 1), (1, 23, 0),
                          (1, 103, 1), (1, 103, 0)])
        if "Mouse" not in devices:
            return  # a kernel without psmouse
        self.assertIn("ImExPS/2", devices)
        mouse = "/dev/input/by-path/platform-i8042-serio-1-event-mouse"
        self.in_guest(f"(timeout 100 cat {mouse} >/root/mouse) & sleep 2")
        client.pointer(0, 100, 100)
        client.pointer(0, 110, 95)
        client.pointer(1, 110, 95)
        client.pointer(0, 110, 95)
        client.pointer(8, 110, 95)
        client.pointer(0, 110, 95)
        self.in_guest("sleep 3; sync")
        events = self.events("/root/mouse")
        for wanted in [(2, 0, 10), (2, 1, -5), (1, 272, 1), (1, 272, 0), (2, 8, 1)]:
            self.assertIn(wanted, events)

    def events(self, file):
        """struct input_event: (type, code, value)."""
        words = self.in_guest(f"od -An -v -tx1 -w24 {file}")
        found = []
        for line in words.splitlines():
            data = bytes.fromhex(line)
            if len(data) == 24:
                found.append(struct.unpack("<HHi", data[16:]))
        return found


if __name__ == "__main__":
    unittest.main()
