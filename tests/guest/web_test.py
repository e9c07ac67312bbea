#!/usr/bin/env python3
"""The console in the browser: a real Chromium at real machines, and clients that mean no good."""

import base64
import http.client
import os
import pathlib
import re
import socket
import struct
import subprocess
import time
import unittest

from harness import SYSTEM, MachineTest, multiboot
import browser
from picture import Picture
from monitor_test import Qmp

# Says on the first serial port, in hexadecimal digits, what the keyboard controller has.
SCAN_CODES = bytes.fromhex(
    "b060e664"  #     the controller's command byte:
    "b041e660"  #     translation on, both ports enabled
    "b0f4e660"  #     the keyboard: reports keys from now on; its answer is fa
    "e464"      # 0:  in al, 64h
    "a801"      #     test al, 1
    "74fa"      #     jz 0
    "e460"      #     in al, 60h
    "88c3"      #     mov bl, al
    "c0e804"    #     shr al, 4
    "e80d000000"  #   call digit
    "88d8"      #     mov al, bl
    "240f"      #     and al, 0fh
    "e804000000"  #   call digit
    "ebe3"      #     jmp 0
    "9090"
    "3c0a"      # digit: cmp al, 10
    "7202"      #     jb +2
    "0427"      #     add al, 'a' - '0' - 10
    "0430"      #     add al, '0'
    "66baf803"  #     mov dx, 3f8h
    "ee"        #     out dx, al
    "c3")


class Machine:
    """A machine with a console in the browser, and a control monitor."""

    def __init__(self, test, *options, display="web,port=0"):
        self.test = test
        self.path = str(test.folder / f"qmp{time.monotonic_ns()}.sock")
        self.process = subprocess.Popen(
            [SYSTEM, "-display", display, "-qmp", f"unix:{self.path},server=on,wait=off", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.close)
        line = self.process.stderr.readline()
        match = re.fullmatch(r"web console: (http://([\d.]+):(\d+)/(?:\?token=([\w-]+))?)\n", line)
        if not match:
            test.fail(line + self.process.stderr.read())
        self.url, self.host, self.port, self.token = match[1], match[2], int(match[3]), match[4]
        self.qmp = Qmp(self.path, timeout=60)
        test.addCleanup(self.qmp.close)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def status(self):
        return self.qmp.command("query-status")["status"]

    def get(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        return answer

    def socket(self, path, origin=None):
        """A WebSocket by hand; the status that came in place of it, if one did."""
        raw = socket.create_connection((self.host, self.port), timeout=60)
        self.test.addCleanup(raw.close)
        origin = f"Origin: {origin}\r\n" if origin else ""
        raw.sendall(f"GET {path}?token={self.token} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
                    f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n{origin}"
                    "\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            try:
                byte = raw.recv(1)
            except ConnectionError:
                byte = b""
            if not byte:
                break
            head += byte
        status = int(head.split()[1]) if head else None
        return raw, status


def frame(payload, opcode=2):
    size = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else \
        struct.pack("!BH", 0x80 | 126, len(payload))
    return bytes([0x80 | opcode]) + size + bytes(4) + payload


class WebTest(MachineTest):
    def machine(self, *options, **more):
        return Machine(self, *options, **more)


class Access(WebTest):
    def test_nothing_without_the_token(self):
        machine = self.machine("-M", "none")
        self.assertRegex(machine.token, "^[0-9a-f]{64}$")
        self.assertEqual(machine.host, "127.0.0.1")
        for path in ("/", "/page/main.js", "/novnc/core/rfb.js", "/xterm/xterm.js", "/nowhere",
                     "/?token=", "/?token=" + "0" * 64, "/?token=" + machine.token[:-1]):
            answer = machine.get(path)
            self.assertEqual(answer.status, 401, path)
            self.assertNotIn("set-cookie", answer.headers)
        cookie = machine.get("/?token=" + machine.token).headers["set-cookie"]
        self.assertRegex(cookie, rf"^limen_{machine.port}=[0-9a-f]{{64}}; Path=/; HttpOnly; SameSite=Strict$")
        cookie = cookie.split(";")[0]
        self.assertEqual(machine.get("/page/main.js", Cookie=cookie).status, 200)
        self.assertEqual(machine.get("/nowhere", Cookie=cookie).status, 404)
        for path in ("/../../../etc/passwd", "/page/../../etc/passwd", "/page/%2e%2e/%2e%2e/etc/passwd"):
            self.assertIn(machine.get(path, Cookie=cookie).status, (400, 403, 404), path)
        self.assertEqual(machine.get("/", "POST", Cookie=cookie).status, 405)
        good, machine.token = machine.token, "0" * 64
        for path in ("/screen", "/control", "/terminal/serial0"):
            self.assertEqual(machine.socket(path)[1], 401)
        machine.token = good
        self.assertEqual(machine.socket("/terminal/nobody")[1], 404)
        self.assertEqual(machine.status(), "prelaunch")

    def test_other_sites_are_turned_away(self):
        machine = self.machine("-M", "none", display="web,port=0,token=off")
        self.assertIsNone(machine.token)
        self.assertEqual(machine.get("/").status, 200)
        self.assertEqual(machine.get("/", Host="evil.example").status, 403)
        self.assertEqual(machine.get("/", Origin="http://evil.example").status, 403)
        self.assertEqual(machine.socket("/control", "http://evil.example")[1], 403)
        own = f"http://127.0.0.1:{machine.port}"
        self.assertEqual(machine.socket("/control", own)[1], 101)

    def test_a_token_of_ones_own(self):
        token = "my-own_token-0123456789"
        result = self.run_program(SYSTEM, "-M", "none", "-display", "web,token=short")
        self.assert_one_line_error(result, "token=", "5 characters", "16 to 256")
        machine = self.machine("-M", "none", display=f"web,port=0,token={token}")
        self.assertEqual(machine.token, token)

    def test_a_port_that_is_taken(self):
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = self.run_program(SYSTEM, "-M", "none", "-display", f"web,port={port}")
        self.assert_one_line_error(result, f"-display web,port={port}: port {port} of 127.0.0.1",
                                   "Address already in use")
        taken.close()
        for option, text in (("port=70000", "port=70000 is no port"), ("port=x", "port=x"),
                             ("prot=1", "prot"), ("addr=", "addr=")):
            result = self.run_program(SYSTEM, "-M", "none", "-display", f"web,{option}")
            self.assert_one_line_error(result, f"-display web,{option}", text)
        result = self.run_program(SYSTEM, "-M", "none", "-display", "none", "-serial", "web")
        self.assert_one_line_error(result, "serial0", "-display web")


class Peers(WebTest):
    """Clients that the machine must survive."""

    def test_garbage(self):
        machine = self.machine("-M", "pc", "-S", "-net", "none")
        for path, bad in (("/control", frame(b"garbage", 1)), ("/control", frame(b"{}", 1)),
                          ("/control", frame(b"x" * 5000, 1)), ("/screen", frame(b"not RFB at all")),
                          ("/screen", os.urandom(4096)), ("/control", b"\xff" * 64),
                          ("/terminal/serial0", b"\x82\xff" + b"\xff" * 8 + bytes(64))):
            raw, status = machine.socket(path)
            self.assertEqual(status, 101, path)
            raw.sendall(bad)
            raw.settimeout(30)
            try:
                while raw.recv(65536):
                    pass
            except ConnectionError:
                pass
            raw.close()
            self.assertEqual(machine.status(), "prelaunch")
        for bad in (b"\0" * 4096, os.urandom(65536), b"GET / HTTP/9.9\r\n\r\n"):
            raw = socket.create_connection((machine.host, machine.port), timeout=30)
            try:
                raw.sendall(bad)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
            except OSError:
                pass
            raw.close()
        self.assertEqual(machine.get("/?token=" + machine.token).status, 200)

    def test_a_client_that_stops_reading_is_dropped(self):
        machine = self.machine("-M", "pc", "-net", "none")
        raw, _ = machine.socket("/screen")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(frame(b"RFB 003.008\n") + frame(b"\1") + frame(b"\1"))
        update = frame(struct.pack(">BBHHHH", 3, 0, 0, 0, 640, 400))
        end = time.monotonic() + 60
        try:
            while time.monotonic() < end:
                raw.sendall(update * 20)
                time.sleep(0.2)
            self.fail("it was not dropped")
        except (ConnectionError, TimeoutError):
            pass
        self.assertEqual(machine.status(), "running")
        other, status = machine.socket("/screen")
        self.assertEqual(status, 101)
        self.assertIn(b"RFB 003.008\n", other.recv(64))

    def test_too_many_clients(self):
        machine = self.machine("-M", "none")
        all_of_them = [machine.socket("/control")[0] for _ in range(48)]
        self.assertIsNone(machine.socket("/control")[1])
        for each in all_of_them:
            each.close()
        time.sleep(0.5)
        self.assertEqual(machine.socket("/control")[1], 101)


@unittest.skipUnless(browser.is_there(), "Chromium and its driver are not there")
class InTheBrowser(WebTest):
    @classmethod
    def setUpClass(cls):
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    def open(self, *options, **more):
        machine = self.machine(*options, **more)
        # What the page before complains of is none of this one's.
        self.browser.open("about:blank")
        self.browser.log()
        self.browser.open(machine.url)
        return machine

    def wait(self, script, timeout=60):
        return self.browser.wait(script, timeout)

    def state(self, wanted):
        self.wait(f"return document.getElementById('state').dataset.state === '{wanted}'")

    def terminal_text(self, pattern, timeout=60, name="serial0"):
        """Waits for a regular expression on the terminal."""
        return self.wait(
            f"const rows = [...document.querySelectorAll('#panel-{name} .xterm-rows > div')];"
            "const text = rows.map((row) => row.textContent.trimEnd()).join('\\n');"
            f"return /{pattern}/m.test(text) ? text : null", timeout)

    def no_complaints(self):
        self.assertEqual(self.browser.log(), [])

    def choose(self, menu, item):
        self.browser.click(f"#{menu}")
        self.browser.run(
            "for (const each of document.querySelectorAll(arguments[0] + ' [role=menuitem]'))"
            "  if (each.textContent.startsWith(arguments[1])) { each.click(); return; }"
            "throw new Error('no such item')", f"#{menu}-menu", item)

    def test_log_in_on_the_serial_port(self):
        folder = self.debian()
        machine = self.open("-m", "512M", "-kernel", str(folder / "vmlinuz"), "-initrd",
                            str(folder / "initrd.img"), "-append",
                            "root=/dev/vda console=ttyS0 quiet", "-drive",
                            f"file={folder / 'disk.raw'},if=virtio,format=raw,snapshot=on")
        self.assertEqual(self.wait("return location.search + location.pathname"), "/")
        self.terminal_text("login:$", 300)
        self.browser.click("#panel-serial0")
        self.browser.type("root")
        self.browser.keys("Enter")
        self.terminal_text("Password:$", 60)
        self.browser.type("limen")
        self.browser.keys("Enter")
        self.terminal_text("[#$]$", 120)
        self.browser.type("echo $((6*7))-answer")
        self.browser.keys("Enter")
        self.terminal_text("42-answer", 60)
        # What was there before a browser came: a new page shows it, too.
        self.browser.open("about:blank")
        self.browser.open(f"http://127.0.0.1:{machine.port}/")
        self.terminal_text("42-answer", 60)
        self.choose("clipboard", "Paste")
        self.browser.fill("#paste-text", "echo pasted-$((2*4))\n")
        self.browser.click("#paste-dialog button[value=yes]")
        self.terminal_text("pasted-8", 60)
        # The guest's work shows in the status line.
        self.browser.type("dd if=/dev/vda of=/dev/null bs=1M count=300 iflag=direct")
        self.browser.keys("Enter")
        self.wait("return document.getElementById('load').value > 5")
        self.wait("return /↓ [0-9.]+ [kM]B/.test(document.getElementById('disk').textContent)")
        self.assertRegex(self.browser.run("return document.getElementById('what').textContent"),
                         r"^soft · pc · 1 vCPU · 512 MiB$")
        self.no_complaints()

    def test_the_screen_is_the_guests(self):
        machine = self.open("-M", "pc", "-m", "64M", "-net", "none", "-name", "guest=shown")
        self.wait("return document.querySelector('#panel-screen[data-connected] canvas')")
        self.assertEqual(self.browser.run("return document.title"), "shown – Limen")
        path = str(self.folder / "screen.ppm")
        end = time.monotonic() + 120
        while True:
            # The firmware's last words come some time.
            machine.qmp.command("screendump", filename=path)
            picture = Picture(path)
            canvas = self.browser.run(
                "const canvas = document.querySelector('#panel-screen canvas');"
                "const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
                "let text = ''; const rgb = new Uint8Array(data.length / 4 * 3);"
                "for (let i = 0, j = 0; i < data.length; i += 4) {"
                "  rgb[j++] = data[i]; rgb[j++] = data[i + 1]; rgb[j++] = data[i + 2]; }"
                "for (let i = 0; i < rgb.length; i += 30000)"
                "  text += String.fromCharCode(...rgb.subarray(i, i + 30000));"
                "return [canvas.width, canvas.height, btoa(text)]")
            shown = base64.b64decode(canvas[2])
            # The cursor blinks: a few cells may be of another moment.
            differing = sum(a != b for a, b in zip(shown, picture.pixels))
            if canvas[:2] == [720, 400] and picture.width == 720 and any(picture.pixels) and \
                    differing <= 3 * 9 * 16:
                break
            self.assertLess(time.monotonic(), end, (canvas[:2], picture.width, differing))
            time.sleep(0.5)
        self.no_complaints()

    def test_keys_reach_the_guest(self):
        kernel = self.file("kernel", multiboot(SCAN_CODES))
        self.open("-kernel", kernel, "-vga", "std", "-m", "64M", "-net", "none")
        self.wait("return document.querySelector('#panel-screen[data-connected] canvas')")

        def seen(codes):
            self.browser.click("#tab-serial0")
            self.terminal_text(f"^{codes}")
            self.browser.click("#tab-screen")

        self.browser.click("#panel-screen")
        self.browser.type("a")
        self.browser.keys("Enter")
        seen("fa1e9e1c9c")
        # Ctrl, Alt, Del with its E0h; let go in the other order.
        self.choose("keys", "Ctrl-Alt-Del")
        seen("fa1e9e1c9c1d38e053e0d3b89d")
        # A capital needs Shift, which is let go of at once.
        self.choose("clipboard", "Paste")
        self.browser.fill("#paste-text", "B")
        self.browser.click("#paste-dialog button[value=yes]")
        seen("fa1e9e1c9c1d38e053e0d3b89d2a30aab0")

    def test_buttons(self):
        kernel = self.file("kernel", multiboot(SCAN_CODES))
        machine = self.open("-kernel", kernel, "-m", "64M", "-net", "none")
        self.state("running")
        self.browser.click("#run")
        self.state("paused")
        self.assertEqual(machine.status(), "paused")
        self.browser.click("#run")
        self.state("running")
        # Another's doing shows, too.
        machine.qmp.command("stop")
        self.state("paused")
        machine.qmp.command("cont")
        self.state("running")
        self.choose("power", "Press the power button")
        machine.qmp.wait_event("POWERDOWN")
        self.choose("power", "Reset")
        self.browser.click("#confirm button[value=no]")
        self.choose("power", "Reset")
        self.browser.click("#confirm button[value=yes]")
        machine.qmp.wait_event("RESET")
        self.choose("power", "End the machine")
        self.browser.click("#confirm button[value=yes]")
        self.assertEqual(machine.process.wait(60), 0)
        self.state("ended")
        self.assertIn("The machine has ended",
                      self.browser.run("return document.getElementById('notice').textContent"))

    def test_it_comes_back(self):
        kernel = self.file("kernel", multiboot(SCAN_CODES))
        token = "0123456789abcdef"
        machine = self.open("-kernel", kernel, "-m", "64M", "-net", "none",
                            display=f"web,port=0,token={token}")
        self.state("running")
        machine.process.kill()
        machine.process.wait()
        self.state("lost")
        again = self.machine("-kernel", kernel, "-m", "64M", "-net", "none", "-S",
                             display=f"web,port={machine.port},token={token}")
        # Its cookie is another machine's.
        self.wait("return /needs the address/.test(document.getElementById('notice').textContent)")
        self.browser.open(again.url)
        self.state("prelaunch")

    def test_without_the_token_there_is_no_page(self):
        machine = self.machine("-M", "none")
        self.browser.open(f"http://localhost:{machine.port}/")
        self.assertIn("401", self.browser.run("return document.body.textContent"))
        self.browser.log()


if __name__ == "__main__":
    unittest.main()
