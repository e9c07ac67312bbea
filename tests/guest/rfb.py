"""A client of the remote framebuffer protocol (RFC 6143), as simple as tests need it."""

import socket
import struct
import subprocess

RAW, DESKTOP_SIZE, RICH_CURSOR = 0, -223, -239
MOTION_CHANGE, EXTENDED_KEY, LED_STATE = -257, -258, -261


def encrypted(challenge, password):
    """As VNC does: DES, with the bits of the password's bytes in reverse."""
    key = password.encode()[:8].ljust(8, b"\0")
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    return subprocess.run(["openssl", "enc", "-des-ecb", "-nopad", "-K", key.hex(), "-provider",
                           "legacy", "-provider", "default"], input=challenge, check=True,
                          capture_output=True).stdout


class Refused(Exception):
    pass


class Rfb:
    def __init__(self, where, password=None, shared=True, join=True):
        if isinstance(where, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(where)
        else:
            self.socket = socket.create_connection(where)
        self.socket.settimeout(60)
        self.pixels = b""
        self.cursor = None  # the last RICH_CURSOR: (width, height, hot spot, pixels, mask)
        self.events = []
        if join:
            self.join(password, shared)

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the server has closed")
            data += part
        return data

    def send(self, form, *values):
        self.socket.sendall(struct.pack(form, *values))

    def join(self, password, shared):
        assert self.read(12) == b"RFB 003.008\n"
        self.socket.sendall(b"RFB 003.008\n")
        types = self.read(self.read(1)[0])
        wanted = 1 if password is None else 2
        assert wanted in types, types
        self.send("B", wanted)
        if password is not None:
            self.socket.sendall(encrypted(self.read(16), password))
        if struct.unpack(">I", self.read(4))[0] != 0:
            raise Refused(self.read(struct.unpack(">I", self.read(4))[0]).decode())
        self.send("B", shared)
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.format = self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode()
        self.pixels = bytes(4 * self.width * self.height)

    def encodings(self, *numbers):
        self.send(f">BxH{len(numbers)}i", 2, len(numbers), *numbers)

    def request(self, incremental=False):
        self.send(">BBHHHH", 3, incremental, 0, 0, self.width, self.height)

    def update(self):
        """Takes one message; raw pixels go to `pixels`, the other rectangles to `events`. Returns how
        many pixels there were."""
        kind, count = struct.unpack(">BxH", self.read(4))
        assert kind == 0, kind
        brought = 0
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            if encoding == RAW:
                data = self.read(4 * width * height)
                pixels = bytearray(self.pixels)
                for row in range(height):
                    at = 4 * ((y + row) * self.width + x)
                    pixels[at:at + 4 * width] = data[4 * width * row:4 * width * (row + 1)]
                self.pixels = bytes(pixels)
                brought += width * height
                continue
            if encoding == DESKTOP_SIZE:
                self.width, self.height = width, height
                self.pixels = bytes(4 * width * height)
            if encoding == RICH_CURSOR:
                self.cursor = (width, height, (x, y), self.read(4 * width * height),
                               self.read((width + 7) // 8 * height))
            self.events.append((encoding, x, self.read(1) if encoding == LED_STATE else b""))
        return brought

    def key(self, symbol, down):
        self.send(">BBxxI", 4, down, symbol)

    def type(self, text):
        for character in text:
            symbol = 0xFF0D if character == "\n" else ord(character)
            self.key(symbol, True)
            self.key(symbol, False)

    def scan_code(self, code, down):
        self.send(">BBHII", 255, 0, down, 0, code)

    def pointer(self, buttons, x, y):
        self.send(">BBHH", 5, buttons, x, y)

    def closed(self):
        """Waits until the server closes."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self):
        self.socket.close()
