#!/usr/bin/env python3
"""Writes stand-ins for the functions of shared libraries (src/base/delayed_library.h).

    delay_load.py OUTPUT LIBRARY...

Prints the names under which the dynamic loader looks for them, separated by semicolons. A linker's
script in the place of a library stands for the libraries that it names.
"""

import pathlib
import re
import subprocess
import sys


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def libraries(path):
    with open(path, "rb") as file:
        if file.read(4) == b"\x7fELF":
            return [path]
    found = []
    for words in re.findall(r"(?:INPUT|GROUP)\s*\((.*?)\)", path.read_text()):
        for word in words.replace("AS_NEEDED", "").replace("(", "").split():
            name = f"lib{word[2:]}.so" if word.startswith("-l") else word
            found += libraries(path.parent / name)
    return found


def functions(library):
    for line in run("nm", "-D", "--defined-only", library).splitlines():
        kind, name = line.split()[-2:]
        # A version that is not the default one has a single @.
        if kind in "TWi" and not re.search(r"(?<!@)@(?!@)", name):
            yield name.partition("@")[0]


def stand_in(name, library):
    return f"""
  .section .text.{name}, "ax", @progbits
  .hidden {name}
  .globl {name}
  .type {name}, @function
{name}:
  jmp *.Lfunction_{name}(%rip)
.Lfirst_{name}:
  lea .Lfunction_{name}(%rip), %r11
  jmp limen_first_call
  .size {name}, . - {name}
  .section .data.{name}, "aw", @progbits
  .balign 8
.Lfunction_{name}:
  .quad .Lfirst_{name}, .Lname_{name}, .Llibrary_{library}
  .section .rodata.{name}, "a", @progbits
.Lname_{name}:
  .asciz "{name}"
"""


def main():
    output, *paths = map(pathlib.Path, sys.argv[1:])
    found = [library for path in paths for library in libraries(path)]
    names, text, seen = [], "", set()
    for number, library in enumerate(found):
        names.append(re.search(r"SONAME\s+(\S+)", run("objdump", "-p", library)).group(1))
        text += f"""
  .section .rodata.library_{number}, "a", @progbits
.Lfile_{number}:
  .asciz "{names[-1]}"
  .section limen_delayed, "aw", @progbits
  .balign 8
.Llibrary_{number}:
  .quad .Lfile_{number}, 0
"""
        for name in functions(library):
            if name not in seen and name not in ("_init", "_fini"):
                seen.add(name)
                text += stand_in(name, number)
    text = f"// Made by cmake/delay_load.py.\nasm(R\"(\n{text}  .text\n)\");\n"
    if not output.exists() or output.read_text() != text:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
    print(";".join(names), end="")


if __name__ == "__main__":
    main()
