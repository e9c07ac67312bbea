"""Pictures of a machine's screen: what `screendump` of the monitor saves."""

import pathlib


class Picture:
    """A PPM file."""

    def __init__(self, path):
        content = pathlib.Path(path).read_bytes()
        magic, size, most, self.pixels = content.split(b"\n", 3)
        assert magic == b"P6" and most == b"255", content[:20]
        self.width, self.height = (int(number) for number in size.split())
        assert len(self.pixels) == 3 * self.width * self.height

    def pixel(self, x, y):
        at = 3 * (y * self.width + x)
        return self.pixels[at:at + 3]

    def cell(self, column, row, dots=8):
        """A character, 16 lines high."""
        rows = range(16 * row, 16 * row + 16)
        return b"".join(self.pixels[3 * (y * self.width + dots * column):][:3 * dots] for y in rows)

    def words(self, row, alphabet):
        """The text in that row; `alphabet` stands in row 0."""
        shapes = {self.cell(column, 0): letter for column, letter in enumerate(alphabet)}
        return "".join(shapes.get(self.cell(column, row), " ")
                       for column in range(self.width // 8)).rstrip()

    def brightness(self, side):
        """The mean of each square of `side` dots, 0 to 255: a list for each row of squares."""
        stride = 3 * self.width
        grid = []
        for top in range(0, self.height - side + 1, side):
            lines = [self.pixels[y * stride:(y + 1) * stride] for y in range(top, top + side)]
            grid.append([sum(sum(line[left:left + 3 * side]) for line in lines) // (3 * side * side)
                         for left in range(0, stride - 3 * side + 1, 3 * side)])
        return grid
