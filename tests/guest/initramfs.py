"""Initial RAM disks: archives of files that Linux unpacks into its first root file system (the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst)."""

import pathlib
import re
import subprocess
import tempfile


def cpio(entries):
    """A "newc" archive of (name, mode, content)."""
    parts = []
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        parts += [header, b"\0" * (-len(header) % 4), content, b"\0" * (-len(content) % 4)]
    return b"".join(parts)


def libraries(program):
    """Paths of the shared libraries that a program is started with, the loader's among them; none for a
    static program. Raises FileNotFoundError where one is missing."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    missing = re.search(r"(\S+) => not found", listed)
    if missing:
        raise FileNotFoundError(f"{program} needs {missing.group(1)}, which is not here")
    return re.findall(r"(?:^|\s)(/\S+) \(0x", listed)


class Initramfs:
    """What is to be in an initial RAM disk, by absolute path."""

    def __init__(self):
        self._entries = {}

    def add_folder(self, path):
        path = pathlib.PurePosixPath(path)
        for folder in (*reversed(path.parents), path):
            if folder.name:
                self._entries.setdefault(str(folder)[1:], (0o40755, b""))

    def add(self, path, content, executable=False):
        """A file. `content`: bytes or text."""
        self.add_folder(pathlib.PurePosixPath(path).parent)
        content = content if isinstance(content, bytes) else content.encode()
        self._entries[str(path)[1:]] = (0o100755 if executable else 0o100644, content)

    def add_file(self, path, file):
        """A copy of a file that is here."""
        self.add(path, pathlib.Path(file).read_bytes())

    def add_program(self, path, program):
        """A copy of a program without its symbols, which would be most of it, and its libraries where
        the loader looks for them."""
        with tempfile.NamedTemporaryFile() as stripped:
            subprocess.run(["strip", "-o", stripped.name, program], check=True)
            self.add(path, pathlib.Path(stripped.name).read_bytes(), executable=True)
        self._add_libraries(libraries(program))

    def add_library(self, name):
        """A library that a program loads by itself, and those that it needs. Raises FileNotFoundError where
        it is missing."""
        known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
        found = re.search(rf"^\s*{re.escape(name)} \(.*x86-64.*\) => (\S+)$", known, re.MULTILINE)
        if not found:
            raise FileNotFoundError(f"the library {name} is not here")
        self._add_libraries([found.group(1), *libraries(found.group(1))])

    def _add_libraries(self, files):
        for file in files:
            if file[1:] not in self._entries:
                self.add(file, pathlib.Path(file).read_bytes(), executable=True)

    def archive(self):
        return cpio((path, *entry) for path, entry in self._entries.items())
