"""What may be done to files of complete jobs: each changes one or two of them, and gives them."""

from __future__ import annotations

import random
from pathlib import Path


def flip(draw: random.Random, files: list[Path]) -> list[Path]:
    path = draw.choice([each for each in files if each.stat().st_size])
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return [path]


def delete(draw: random.Random, files: list[Path]) -> list[Path]:
    path = draw.choice(files)
    path.unlink()
    return [path]


def truncate(draw: random.Random, files: list[Path]) -> list[Path]:
    path = draw.choice([each for each in files if each.stat().st_size])
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])
    return [path]


def append(draw: random.Random, files: list[Path]) -> list[Path]:
    path = draw.choice(files)
    path.write_bytes(path.read_bytes() + draw.choice([b" ", b"\n", b"{}", draw.randbytes(9)]))
    return [path]


def add(draw: random.Random, files: list[Path]) -> list[Path]:
    name = draw.choice(["added.json", ".hidden", "z", "letter.json~"])
    path = draw.choice(files).parent / name
    path.write_bytes(draw.randbytes(draw.randrange(20)))
    return [path]


def swap(draw: random.Random, files: list[Path]) -> list[Path]:
    one = draw.choice(files)
    other = draw.choice([each for each in files if each.read_bytes() != one.read_bytes()])
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return [one, other]


OF_A_FILE = (flip, delete, truncate, append, swap)
