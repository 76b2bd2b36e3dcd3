"""Test cards with numbers that machines read back, as `--source synthetic` draws them."""

import numpy as np

CELL = 16


def check(word):
    """The check word of a 32-bit number."""
    word = (word * 0x9E3779B1) & 0xFFFFFFFF
    return (((word << 7) | (word >> 25)) & 0xFFFFFFFF) ^ 0xA5C35A3C


def read(luma, row=0):
    """The number in rows `row` and `row + 1` of cells of a [H, 512] picture, None where there is none."""
    cells = luma[row * CELL : (row + 2) * CELL]
    if cells.shape != (2 * CELL, 512):
        return None
    inner = cells.reshape(2, CELL, 32, CELL)[:, 4:12, :, 4:12].mean(axis=(1, 3)) > 127
    number, word = (int("".join("1" if bit else "0" for bit in bits), 2) for bits in inner)
    return number if check(number) == word else None


def draw(number, size=512):
    """An RGB card [size, size, 3] with `number` above a gradient that moves with it."""
    x = (np.arange(size) + 4 * number) % size * 255 // size
    card = np.repeat(np.tile(x, (size, 1))[:, :, None], 3, axis=2).astype(np.uint8)
    for row, word in enumerate((number, check(number))):
        bits = [(word >> (31 - bit)) & 1 for bit in range(32)]
        cells = np.repeat(np.array(bits, dtype=np.uint8) * 255, CELL)
        card[row * CELL : (row + 1) * CELL, : 32 * CELL] = cells[None, :, None]
    return card
