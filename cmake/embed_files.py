#!/usr/bin/env python3
"""Packs files into a program: embed_files.py OUTPUT.cc URL=FILE...

Writes OUTPUT.bin, all files compressed by gzip one behind the other, and OUTPUT.cc, which has the
assembler take it in and defines limen::web::assets() (src/web/assets.h)."""

import gzip
import pathlib
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
         ".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json"}

HEAD = """// Made by cmake/embed_files.py.
#include <array>

#include "web/assets.h"

asm(R"(
  .pushsection .rodata
  .balign 16
limen_web_assets:
  .incbin "{binary}"
  .popsection
)");
extern const uint8_t limen_web_assets[];

namespace limen::web {{

std::span<const Asset> assets() {{
  static const std::array<Asset, {count}> kAssets = {{{{
"""

TAIL = """  }};
  return kAssets;
}

}  // namespace limen::web
"""


def main():
    output = pathlib.Path(sys.argv[1])
    binary = output.with_suffix(".bin")
    files = dict(word.split("=", 1) for word in sys.argv[2:])
    content, lines = b"", []
    # By bytes, as the program looks them up.
    for url in sorted(files, key=str.encode):
        path = pathlib.Path(files[url])
        packed = gzip.compress(path.read_bytes(), 9, mtime=0)
        kind = TYPES[pathlib.PurePosixPath(url).suffix or ".html"]
        lines.append(f'      Asset{{"{url}", "{kind}", {{limen_web_assets + {len(content)}, '
                     f'{len(packed)}}}}},\n')
        content += packed
    binary.write_bytes(content)
    output.write_text(HEAD.format(binary=binary, count=len(lines)) + "".join(lines) + TAIL)


if __name__ == "__main__":
    main()
