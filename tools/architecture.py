"""Draws the Mixer of mixer/models/mixer.py, with the shapes and the names of its parameters.

python tools/architecture.py        # writes docs/architecture.svg
"""

from pathlib import Path
from xml.sax.saxutils import escape

PATH = Path(__file__).parents[1] / "docs" / "architecture.svg"
WIDTH, HEIGHT = 1260, 624
CELL = 13  # of a drawn table
ROWS, COLUMNS = 4, 6  # the patches and the channels that are drawn

# The colours of each class on a light page, and on a dark one.
COLOURS = {
    "page": ("#ffffff", "#12171e"),
    "panel": ("#f5f7fa", "#1b222c"),
    "ink": ("#1d2733", "#e8edf2"),
    "quiet": ("#566372", "#a3b0bd"),
    "plain": ("#e6ebf1", "#303b47"),
    "tokens": ("#ffdfae", "#6b4a12"),
    "channels": ("#cfe3ff", "#1d4a77"),
    "edge": ("#7d8b9a", "#8390a0"),
    "patch0": ("#f29c4b", "#f29c4b"),
    "patch1": ("#e2607b", "#e2607b"),
    "patch2": ("#8d6fd6", "#9d83e0"),
    "patch3": ("#3b9bd0", "#4aa8da"),
}
SHAPES = (
    ".arrow,.skip,.guide{fill:none;stroke-width:1.6}.box{stroke-width:1.4}"
    ".skip,.guide{stroke-dasharray:5 4}.guide{stroke-width:1}.cell{stroke-width:1.2}"
)
FONTS = (
    "text{font-family:Helvetica,Arial,sans-serif;font-size:14px}"
    ".title{font-size:19px;font-weight:bold}.small{font-size:12px}"
    ".code{font-family:Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12px}"
)


def style(dark: bool) -> str:
    """The rules for one kind of page."""
    fills = {name: colours[dark] for name, colours in COLOURS.items()}
    rules = [f".{name}{{fill:{colour}}}" for name, colour in fills.items()]
    edge, panel = fills["edge"], fills["panel"]
    lines = f".box,.arrow,.skip,.guide{{stroke:{edge}}}.point{{fill:{edge}}}.cell{{stroke:{panel}}}"
    return "".join([*rules, lines])


def text(x: float, y: float, words: str, kind: str = "ink", anchor: str = "middle") -> str:
    """Words whose baseline is at y."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, *lines: str) -> list[str]:
    """A box about (x, y), its lines of text in the middle."""
    shape = f'x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}" rx="7"'
    first = y + 5 - 9 * (len(lines) - 1)
    words = [text(x, first + 18 * i, line) for i, line in enumerate(lines)]
    return [f'<rect {shape} class="box {kind}"/>', *words]


def path(points: str, kind: str = "arrow") -> str:
    """A line with a head, along an SVG path."""
    return f'<path d="M{points}" class="{kind}" marker-end="url(#head)"/>'


def along(y: float, *ends: tuple[float, float]) -> list[str]:
    """Arrows to the right at one height, each from one x to another."""
    return [path(f"{start} {y}H{end}") for start, end in ends]


def table(x: float, y: float, turned: bool = False, rows: int = ROWS) -> list[str]:
    """A table about (x, y): a row for each patch, in its colour; turned, a column for each."""
    across, down = (rows, COLUMNS) if turned else (COLUMNS, rows)
    left, top = x - across * CELL / 2, y - down * CELL / 2
    return [
        f'<rect x="{left + j * CELL}" y="{top + i * CELL}" width="{CELL}" height="{CELL}" '
        f'class="cell patch{j if turned else i}"/>'
        for i in range(down)
        for j in range(across)
    ]


def plus(x: float, y: float) -> list[str]:
    """Where a branch is added."""
    return [f'<circle cx="{x}" cy="{y}" r="12" class="box page"/>', text(x, y + 5, "+")]


def model() -> list[str]:
    """From images to logits."""
    y, side = 124, 46
    image = [
        f'<rect x="{100 + (i % 2 - 1) * side}" y="{y + (i // 2 - 1) * side}" width="{side}" '
        f'height="{side}" class="cell patch{i}"/>'
        for i in range(ROWS)
    ]
    patches = [
        f'<rect x="221" y="{y - 58 + 31 * i}" width="23" height="23" class="patch{i}"/>'
        for i in range(ROWS)
    ]
    behind = [
        f'<rect x="{590 + shift}" y="{y - 33 - shift}" width="148" height="66" rx="7" '
        f'class="box panel"/>'
        for shift in (12, 6)
    ]
    shapes = {
        100: ("images", "[N, H, W, 3]"),
        232: ("S patches", "[P, P, 3] each"),
        506: ("X", "[N, S, C]"),
        664: ("", "[N, S, C]"),
        844: ("", "[N, S, C]"),
        1012: ("", "[N, C]"),
        1166: ("", "[N, num_classes]"),
    }
    names = {362: "stem", 664: "MixerBlock_i", 844: "pre_head_layer_norm", 1166: "head"}
    return [
        *image,
        *along(y, (156, 206)),
        *patches,
        *along(y, (256, 292)),
        *box(362, y, 120, 66, "plain", "linear, shared", "by the patches"),
        *along(y, (426, 456)),
        *table(506, y),
        *along(y, (556, 582)),
        *behind,
        *box(664, y, 148, 66, "panel", "Mixer layer", "num_blocks times"),
        *along(y, (756, 778)),
        *box(844, y, 120, 66, "plain", "LayerNorm"),
        *along(y, (908, 940)),
        *box(1012, y, 128, 66, "plain", "global average", "pooling"),
        *along(y, (1080, 1110)),
        *box(1166, y, 96, 66, "plain", "linear"),
        *(text(x, y + 76, word) for x, (word, _) in shapes.items() if word),
        *(text(x, y + 95, shape, "quiet code") for x, (_, shape) in shapes.items()),
        *(text(x, y + 76, name, "ink code") for x, name in names.items()),
        text(1012, y + 76, "mean over patches"),
        text(362, y + 95, "3 P² → C", "quiet code"),
    ]


def layer() -> list[str]:
    """One Mixer layer, U = X + token mixing, Y = U + channel mixing."""
    y, up, top = 436, 338, 266
    frame = f'x="36" y="{top}" width="1188" height="322" rx="12"'
    shapes = {
        93: ("X", "[N, S, C]"),
        292: ("", "[N, C, S]"),
        556: ("", "[N, C, S]"),
        724: ("U", "[N, S, C]"),
        1166: ("Y", "[N, S, C]"),
    }
    names = {196: "LayerNorm_0", 424: "token_mixing", 826: "LayerNorm_1", 984: "channel_mixing"}
    return [
        f'<path d="M590 157V228L48 {top}M738 157V228L1212 {top}" class="guide"/>',
        f'<rect {frame} class="box panel"/>',
        text(60, top + 36, "One Mixer layer", "ink title", "start"),
        *table(93, y),
        path(f"139 {y}V{up}H654V{y - 15}", "skip"),
        *along(y, (134, 146)),
        *box(196, y, 94, 46, "plain", "LayerNorm"),
        *along(y, (246, 263)),
        *table(292, y, turned=True),
        *along(y, (320, 334)),
        *box(424, y, 174, 96, "tokens", "MLP 1: token mixing", "S → D_S → S", "for every channel"),
        *along(y, (514, 527)),
        *table(556, y, turned=True),
        *along(y, (584, 639)),
        *plus(654, y),
        *along(y, (668, 682)),
        *table(724, y),
        path(f"770 {y}V{up}H1101V{y - 15}", "skip"),
        *along(y, (765, 778)),
        *box(826, y, 94, 46, "plain", "LayerNorm"),
        *along(y, (876, 890)),
        *box(
            984, y, 182, 96, "channels", "MLP 2: channel mixing", "C → D_C → C", "for every patch"
        ),
        *along(y, (1077, 1086)),
        *plus(1101, y),
        *along(y, (1115, 1125)),
        *table(1166, y),
        *(text(x, y - 54, "transpose", "quiet small") for x in (292, 612)),
        *(text(x, y + 72, word) for x, (word, _) in shapes.items() if word),
        *(text(x, y + 91, shape, "quiet code") for x, (_, shape) in shapes.items()),
        *(text(x, y + 72, name, "ink code") for x, name in names.items()),
        *(text(x, y + 91, "Dense_0, GELU, Dense_1", "quiet code") for x in (424, 984)),
        text(396, up - 8, "skip connection", "quiet small"),
        text(931, up - 8, "skip connection", "quiet small"),
        text(
            60,
            y + 130,
            "A row of a table is a patch, a column is a channel. LayerNorm is over the channels, "
            "both times. No table tells positions.",
            "quiet small",
            "start",
        ),
    ]


def drawing() -> str:
    """The whole SVG."""
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" class="point"/></marker>'
    )
    styles = f"{SHAPES}{FONTS}{style(False)}@media(prefers-color-scheme:dark){{{style(True)}}}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="MLP-Mixer: patches, a linear stem, Mixer layers, pooling, a linear head">',
        f"<style>{styles}</style>",
        f"<defs>{head}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="16" class="page"/>',
        text(36, 44, "MLP-Mixer", "ink title", "start"),
        *model(),
        *layer(),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(drawing())
