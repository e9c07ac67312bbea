"""Work for Python: objects, dictionaries, strings, sorting and recursion."""

import re


class Body:
    def __init__(self, place, speed):
        self.place = place
        self.speed = speed

    def move(self, step):
        self.place += self.speed * step
        if not 0 <= self.place <= 100:
            self.speed = -self.speed


def queens(size, row=0, columns=0, rising=0, falling=0):
    """How many ways there are to place queens so that none attacks another."""
    if row == size:
        return 1
    found = 0
    free = ~(columns | rising | falling) & ((1 << size) - 1)
    while free:
        bit = free & -free
        free -= bit
        found += queens(size, row + 1, columns | bit, (rising | bit) << 1, (falling | bit) >> 1)
    return found


def main():
    bodies = [Body(float(i), 1.0 + i / 10) for i in range(50)]
    for _ in range(300):
        for body in bodies:
            body.move(0.1)
    words = [f"w{i * 7919 % 5003}" for i in range(20000)]
    counts = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    text = " ".join(sorted(counts, key=lambda word: (counts[word], word)))
    numbers = re.findall(r"w(\d+)5\b", text)
    print(queens(7), len(numbers), sum(map(int, numbers)), round(sum(b.place for b in bodies), 6))


main()
