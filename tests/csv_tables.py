"""Valid CSV files, and every way to spoil one that a reader of the file can notice.

The header is typed out here: it is the one thing that tests may not take from the package.

What nobody can find in the file itself is no mutation here: a digit changed within the range; in a label
file (which has no list of ids to compare with) a row dropped or moved; a file cut inside its last number,
or before its last line break. Ids in another spelling (`12`, `12.0`) are read, by contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import strategies as st

HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
COLUMNS = HEADER.split(",")
EMOTIONS = COLUMNS[1:]

Grid = list[list[str]]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def to_csv(grid: Grid) -> bytes:
    return "".join(",".join(row) + "\n" for row in grid).encode()


def to_table(rows: dict[str, list[float]]) -> pl.DataFrame:
    """A table from the six values of each id."""
    columns = [list(column) for column in zip(*rows.values(), strict=True)]
    return pl.DataFrame({"Filename": list(rows), **dict(zip(EMOTIONS, columns, strict=True))})


@st.composite
def ids(draw: Draw, min_size: int = 3, max_size: int = 6) -> list[str]:
    """Different ids, sorted."""
    numbers = draw(st.sets(st.integers(0, 99_999), min_size=min_size, max_size=max_size))
    return [f"{number:05}" for number in sorted(numbers)]


@st.composite
def grids(draw: Draw) -> Grid:
    """Header and rows of a file that is sound as labels, predictions and submission alike."""
    names = draw(ids())
    thousandths = st.lists(
        st.integers(0, 1000), min_size=len(names), max_size=len(names), unique=True
    )  # different values: a constant column is a defect
    columns = [draw(thousandths) for _ in EMOTIONS]
    rows = [[name, *(f"{column[i] / 1000}" for column in columns)] for i, name in enumerate(names)]
    return [list(COLUMNS), *rows]


@dataclass(frozen=True)
class Mutation:
    """One way to spoil a file; it can be found in `kinds`: (l)abels, (p)redictions, (s)ubmission."""

    spoil: Callable[[Draw, Grid], Grid | bytes]
    kinds: str = "lps"

    def __call__(self, draw: Draw, grid: Grid) -> bytes:
        spoiled = self.spoil(draw, [list(row) for row in grid])
        return spoiled if isinstance(spoiled, bytes) else to_csv(spoiled)


MUTATIONS: dict[str, Mutation] = {}


def mutation(kinds: str = "lps") -> Callable[[Callable[[Draw, Grid], Grid | bytes]], None]:
    def enter(spoil: Callable[[Draw, Grid], Grid | bytes]) -> None:
        MUTATIONS[spoil.__name__] = Mutation(spoil, kinds)

    return enter


def _row(draw: Draw, grid: Grid) -> int:
    return int(draw(st.integers(1, len(grid) - 1)))


def _emotion(draw: Draw) -> int:
    return int(draw(st.integers(1, 6)))


def _two(draw: Draw, low: int, high: int) -> tuple[int, int]:
    first, second = draw(st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True))
    return first, second


@mutation("ps")
def drop_a_row(draw: Draw, grid: Grid) -> Grid:
    del grid[_row(draw, grid)]
    return grid


@mutation()
def repeat_a_row(draw: Draw, grid: Grid) -> Grid:
    grid.insert(_row(draw, grid), grid[_row(draw, grid)])
    return grid


@mutation("ps")
def swap_two_rows(draw: Draw, grid: Grid) -> Grid:
    a, b = _two(draw, 1, len(grid) - 1)
    grid[a], grid[b] = grid[b], grid[a]
    return grid


@mutation("ps")
def swap_two_ids(draw: Draw, grid: Grid) -> Grid:
    a, b = _two(draw, 1, len(grid) - 1)
    grid[a][0], grid[b][0] = grid[b][0], grid[a][0]
    return grid


@mutation("ps")
def id_of_a_clip_that_is_not_in_test(draw: Draw, grid: Grid) -> Grid:
    known = {row[0] for row in grid}
    number = draw(st.integers(0, 99_999).filter(lambda number: f"{number:05}" not in known))
    grid[_row(draw, grid)][0] = f"{number:05}"
    return grid


@mutation()
def drop_the_header(draw: Draw, grid: Grid) -> Grid:
    return grid[1:]


@mutation()
def header_again_between_the_rows(draw: Draw, grid: Grid) -> Grid:
    grid.insert(draw(st.integers(1, len(grid))), grid[0])
    return grid


@mutation()
def no_rows(draw: Draw, grid: Grid) -> Grid:
    return grid[:1]


@mutation()
def drop_a_column(draw: Draw, grid: Grid) -> Grid:
    column = draw(st.integers(0, 6))
    return [row[:column] + row[column + 1 :] for row in grid]


@mutation()
def rename_a_column(draw: Draw, grid: Grid) -> Grid:
    column = draw(st.integers(0, 6))
    name = COLUMNS[column]
    spellings = [
        name.lower(),
        name.upper(),
        f"Pred_{name}",
        f" {name}",
        f"{name} ",
        name[:-1],
        "",
        "Empathic_Pain",
    ]
    grid[0][column] = draw(st.sampled_from(spellings))
    return grid


@mutation()
def swap_two_columns(draw: Draw, grid: Grid) -> Grid:
    a, b = _two(draw, 0, 6)
    for row in grid:
        row[a], row[b] = row[b], row[a]
    return grid


@mutation()
def swap_two_names_of_the_header(draw: Draw, grid: Grid) -> Grid:
    a, b = _two(draw, 0, 6)
    grid[0][a], grid[0][b] = grid[0][b], grid[0][a]
    return grid


@mutation()
def repeat_a_column(draw: Draw, grid: Grid) -> Grid:
    column, place = draw(st.integers(0, 6)), draw(st.integers(0, 7))
    return [[*row[:place], row[column], *row[place:]] for row in grid]


@mutation()
def add_a_column(draw: Draw, grid: Grid) -> Grid:
    place = draw(st.integers(0, 7))
    name = draw(st.sampled_from(["Sadness", "fold", "joy", "0"]))
    return [[*row[:place], "0.5" if i else name, *row[place:]] for i, row in enumerate(grid)]


@mutation()
def add_an_index_column(draw: Draw, grid: Grid) -> Grid:
    name = draw(st.sampled_from(["", "Unnamed: 0", "index"]))
    return [[str(i - 1) if i else name, *row] for i, row in enumerate(grid)]


@mutation()
def break_an_id(draw: Draw, grid: Grid) -> Grid:
    row = _row(draw, grid)
    name = grid[row][0]
    broken = [
        f"{name}.mp3",
        f"{name}.mp4",
        f"clip{name}",
        f"{name}a",
        f"-{name}",
        f"1{name}",
        f"{name}.5",
        "",
        " ",
    ]
    broken += [
        "nan",
        f"{name[:2]} {name[2:]}",
        f"{name}e0",
        f"audio/{name}",
        "\u0660\u0660\u0660\u0660\u0661",
    ]
    grid[row][0] = draw(st.sampled_from(broken))
    return grid


@mutation()
def break_a_cell(draw: Draw, grid: Grid) -> Grid:
    broken = [
        "NaN",
        "nan",
        "-nan",
        "NA",
        "None",
        "null",
        "inf",
        "-inf",
        "Infinity",
        "",
        " ",
        "joy",
        '"0,5"',
        "1_0",
    ]
    broken += [
        "0x1",
        "1e400",
        "-1e400",
        "0.5.",
        "--0.5",
        "0.5f",
        "50%",
        "\uff11",
        "true",
        "[0.5]",
        "0.1 0.2",
        "1/3",
    ]
    grid[_row(draw, grid)][_emotion(draw)] = draw(st.sampled_from(broken))
    return grid


@mutation("ls")
def cell_outside_0_to_1(draw: Draw, grid: Grid) -> Grid:
    outside = st.floats(1, 1e300, exclude_min=True) | st.floats(-1e300, 0, exclude_max=True)
    grid[_row(draw, grid)][_emotion(draw)] = repr(draw(outside))
    return grid


@mutation("p")
def cell_too_large_for_float32(draw: Draw, grid: Grid) -> Grid:
    value = draw(st.floats(3.41e38, 1e300)) * draw(st.sampled_from([1, -1]))
    grid[_row(draw, grid)][_emotion(draw)] = repr(value)
    return grid


@mutation("s")
def constant_column(draw: Draw, grid: Grid) -> Grid:
    column = _emotion(draw)
    for row in grid[1:]:
        row[column] = draw(st.just("0.25"))
    return grid


@mutation()
def decimal_comma_in_a_cell(draw: Draw, grid: Grid) -> Grid:
    row, column = _row(draw, grid), _emotion(draw)
    grid[row][column] = grid[row][column].replace(".", ",")
    return grid


@mutation()
def decimal_commas_everywhere(draw: Draw, grid: Grid) -> Grid:
    return [grid[0], *([row[0], *(cell.replace(".", ",") for cell in row[1:])] for row in grid[1:])]


@mutation()
def extra_separator(draw: Draw, grid: Grid) -> bytes:
    lines = to_csv(grid).decode().splitlines()
    line = _row(draw, grid)
    place = draw(st.integers(0, len(lines[line])))
    lines[line] = lines[line][:place] + "," + lines[line][place:]
    return ("\n".join(lines) + "\n").encode()


@mutation()
def missing_separator(draw: Draw, grid: Grid) -> Grid:
    row, column = _row(draw, grid), draw(st.integers(0, 5))
    grid[row][column : column + 2] = [grid[row][column] + grid[row][column + 1]]
    return grid


@mutation()
def blank_line(draw: Draw, grid: Grid) -> bytes:
    lines = to_csv(grid).decode().splitlines()
    # Not after the last line: blank lines at the end are no fault.
    lines.insert(draw(st.integers(0, len(lines) - 1)), draw(st.sampled_from(["", " ", "\t"])))
    return ("\n".join(lines) + "\n").encode()


@mutation()
def row_of_nothing(draw: Draw, grid: Grid) -> Grid:
    grid.insert(draw(st.integers(1, len(grid))), [""] * 7)
    return grid


@mutation("s")
def byte_order_mark(draw: Draw, grid: Grid) -> bytes:
    return b"\xef\xbb\xbf" + to_csv(grid)


@mutation()
def another_encoding(draw: Draw, grid: Grid) -> bytes:
    return to_csv(grid).decode().encode(draw(st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32"])))


@mutation()
def latin_1_byte(draw: Draw, grid: Grid) -> bytes:
    return _insert(draw, to_csv(grid), bytes([draw(st.integers(0x80, 0xFF))]))


@mutation()
def nul_byte(draw: Draw, grid: Grid) -> bytes:
    return _insert(draw, to_csv(grid), b"\0")


@mutation()
def quotation_mark(draw: Draw, grid: Grid) -> bytes:
    return _insert(draw, to_csv(grid), b'"')


@mutation()
def letter(draw: Draw, grid: Grid) -> bytes:
    return _insert(draw, to_csv(grid), draw(st.sampled_from([b"x", b"O", b"l", b"f"])))


@mutation()
def another_separator(draw: Draw, grid: Grid) -> bytes:
    return to_csv(grid).replace(b",", draw(st.sampled_from([b";", b"\t", b"|", b" "])))


@mutation()
def cut_in_the_last_row(draw: Draw, grid: Grid) -> bytes:
    content = to_csv(grid)
    start, end = len(to_csv(grid[:-1])) + 1, content.rindex(b",") + 1
    return content[: draw(st.integers(start, end))]


@mutation("ps")
def cut_after_a_row(draw: Draw, grid: Grid) -> bytes:
    return to_csv(grid[: _row(draw, grid)])


@mutation()
def empty(draw: Draw, grid: Grid) -> bytes:
    return draw(st.sampled_from([b"", b"\n", b" \n\n", b"\xef\xbb\xbf"]))  # type: ignore[no-any-return]


def _insert(draw: Draw, content: bytes, piece: bytes) -> bytes:
    place = draw(st.integers(0, len(content)))
    return content[:place] + piece + content[place:]
