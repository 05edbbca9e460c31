"""Products, collectives and cycles of a compiled program on one device, from its HLO text.

Loops count as often as they run, unlike in XLA's own cost analysis.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator

_BYTES = {"pred": 1, "bf16": 2}  # the names of other dtypes contain their number of bits
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_LAID_OUT = re.compile(_ARRAY.pattern + r"(?:\{([^}]*)\})?")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective operation of the program.

    Attributes:
      kind: such as "all-gather".
      shapes: shapes of the arrays on one device, of all that is gathered or reduced.
      size: bytes of these arrays.
      devices: number of devices in a group.
      times: how often it runs per run of the program.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    size: int
    devices: int
    times: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends per run, in a ring."""
        share = (self.devices - 1) / self.devices
        factor = {"all-reduce": 2 * share, "collective-permute": 1}.get(self.kind, share)
        return self.times * self.size * factor


@dataclasses.dataclass(frozen=True)
class Program:
    """What one device does per run.

    Attributes:
      macs: multiply-accumulates.
      cycles: the TPU compiler's estimates for all instructions, summed; None on other devices. What
        it runs at the same time, such as products and copies, counts twice.
    """

    macs: int
    cycles: int | None
    collectives: tuple[Collective, ...]

    def sent(self) -> dict[str, float]:
        """Bytes that each device sends per run, by kind."""
        return self._by_kind(lambda each: each.sent)

    def counts(self) -> dict[str, int]:
        """How many collectives there are per run, by kind."""
        return self._by_kind(lambda each: each.times)

    def _by_kind(self, of: Callable[[Collective], float]) -> dict:
        total = {}
        for each in self.collectives:
            total[each.kind] = total.get(each.kind, 0) + of(each)
        return total


@dataclasses.dataclass
class Instruction:
    """A line of a computation."""

    name: str
    shape: str
    op: str
    rest: str  # operands and attributes

    @property
    def operands(self) -> list[str]:
        """Names of the operands, without what the attributes name."""
        depth = 1
        for place, character in enumerate(self.rest):
            depth += {"(": 1, ")": -1}.get(character, 0)
            if depth == 0:
                return re.findall(r"%([\w.-]+)", self.rest[:place])
        return []

    def called(self, attribute: str) -> str:
        """The computation that an attribute such as `calls` names."""
        return re.search(rf"{attribute}=%?([\w.-]+)", self.rest)[1]


def read(text: str) -> Program:
    """Parses the text of `jax.stages.Compiled.as_text()`.

    Raises:
      ValueError: products or collectives in a loop of unknown length.
    """
    computations, entry = parse(text)
    macs, cycles, collectives, seen = 0, 0, [], set()
    for name, times in visits(computations, entry):
        shapes = {i.name: i.shape for i in computations[name]}
        for each in computations[name]:
            if estimate := _CYCLES.search(each.rest):
                cycles += (times or 1) * int(estimate[1])
            kind = each.op.removesuffix("-start")
            counts = each.op in ("dot", "convolution") or kind in _COLLECTIVES
            if counts and times is None:
                raise ValueError(f"{each.name} is in a loop of unknown length")
            if each.op in ("dot", "convolution"):
                macs += times * _macs(each, shapes)
            elif kind in _COLLECTIVES:
                # One that is split over several fusions, to overlap with them, keeps its channel.
                channel = re.search(r"channel_id=(\d+)", each.rest)
                if channel and channel[1] in seen:
                    continue
                seen.add(channel and channel[1])
                collectives.append(_collective(each, kind, name, times))
    return Program(macs, cycles or None, tuple(collectives))


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of each computation by its name, and the name of the entry."""
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(Instruction(*found.groups()))
    return computations, entry


def visits(
    computations, entry: str, follow: Callable[[Instruction], bool] = lambda each: True
) -> Iterator[tuple[str, int | None]]:
    """(computation, how often it runs or None if unknown) for each call of a computation.

    Args:
      follow: whether to visit what an instruction calls.
    """
    waiting = [(entry, 1)]
    while waiting:
        name, times = waiting.pop()
        yield name, times
        for each in filter(follow, computations[name]):
            inner = times
            if each.op == "while":
                trips = _trips(each, computations)
                inner = times * trips if trips and times is not None else None
            called = re.findall(r"(?:calls|body|to_apply|\w+_computation)=%?([\w.-]+)", each.rest)
            for several in re.findall(r"(?:branch_computations|calls)=\{([^}]*)\}", each.rest):
                called += re.findall(r"[\w.-]+", several)
            waiting += [(target, inner) for target in called if target in computations]


def _trips(loop: Instruction, computations) -> int | None:
    """How often a loop runs whose counter starts at 0 and grows by a constant, as a scan's does."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(known[1])
    condition, body = (
        {i.name: i for i in computations[loop.called(part)]} for part in ("condition", "body")
    )
    *_, test = condition.values()
    *_, result = body.values()
    if test.op != "compare" or "direction=LT" not in test.rest:
        return None
    counter, bound = _operands(test, condition)[:2]
    index = re.search(r"index=(\d+)", counter.rest)
    if bound.op != "constant" or not index:
        return None
    grown = _operands(result, body)[int(index[1])]
    steps = [_constant(i) for i in _operands(grown, body) if i.op == "constant"]
    if grown.op != "add" or len(steps) != 1:
        return None
    return -(-_constant(bound) // steps[0])


def _operands(each: Instruction, known: dict[str, Instruction]) -> list[Instruction]:
    return [known[name] for name in each.operands if name in known]


def _constant(each: Instruction) -> int:
    return int(each.rest.partition(")")[0])


def _dims(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """[(dtype, dimensions)] of an array, or of all arrays of a tuple."""
    return [(t, tuple(map(int, d.split(","))) if d else ()) for t, d in _ARRAY.findall(shape)]


def _macs(each: Instruction, shapes: dict[str, str]) -> int:
    lhs, rhs = (_dims(shapes[name])[0][1] for name in each.operands[:2])
    out = _dims(each.shape)[0][1]
    if each.op == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", each.rest)[1]
        return math.prod(out) * math.prod(lhs[int(d)] for d in contracted.split(",") if d)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.rest)
    window = re.search(r"window=\{([^}]*)\}", each.rest)
    window = dict(part.split("=") for part in window[1].split()) if window else {}
    taps = 1
    for d in range(len(labels[1]) - 2):
        size = (
            lhs[labels[1].index(str(d))],
            rhs[labels[2].index(str(d))],
            out[labels[3].index(str(d))],
        )
        taps *= _taps(*size, window, d)
    others = math.prod(out[labels[3].index(c)] for c in "bf")
    return others * rhs[labels[2].index("i")] * taps


def _taps(lhs: int, kernel: int, out: int, window: dict[str, str], d: int) -> int:
    """Products along one axis: pairs of an output and a kernel position that fall on an input."""

    def of(key, default):
        values = window.get(key)
        return values.split("x")[d] if values else default

    low = int(of("pad", "0_0").split("_")[0])
    stride, inner, outer = (int(of(k, "1")) for k in ("stride", "lhs_dilate", "rhs_dilate"))
    extent = (lhs - 1) * inner + 1
    return sum(
        0 <= (at := o * stride + k * outer - low) < extent and at % inner == 0
        for o in range(out)
        for k in range(kernel)
    )


def _collective(each: Instruction, kind: str, computation: str, times: int) -> Collective:
    arrays = _dims(each.shape)
    if each.op.endswith("-start") and kind != "all-reduce" and each.shape.startswith("("):
        arrays = _results(each.shape)
    size = sum(map(_size, arrays))
    devices = _group(each.rest) if kind != "collective-permute" else 2
    if kind == "reduce-scatter":
        size *= devices  # its result is one part of the whole
    # The TPU compiler writes a reduce-scatter as a fusion of an all-reduce and a slice.
    if computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    return Collective(kind, tuple(dims for _, dims in arrays), size, devices, times)


def _results(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """The results R in (O, R, ...) or ((O, ...), (R, ...), ...), where O are the operands."""
    several = re.findall(r"\(([^()]*)\)", re.sub(r"\{[^}]*\}", "", shape[1:-1]))
    return _dims(several[1]) if len(several) > 1 else _dims(shape)[1:2]


def sizes(shape: str) -> list[tuple[int, int]]:
    """(bytes in the device's memory, bytes) of each array; on TPUs, the chip has memory too."""
    found = []
    for dtype, dims, layout in _LAID_OUT.findall(shape):
        size = _size((dtype, tuple(map(int, dims.split(","))) if dims else ()))
        found.append((0 if "S(1)" in layout else size, size))
    return found


def _size(array: tuple[str, tuple[int, ...]]) -> int:
    dtype, dims = array
    bits = re.sub(r"\D.*", "", re.sub(r"^[a-z]+", "", dtype))
    return math.prod(dims) * (_BYTES.get(dtype) or max(int(bits or 8) // 8, 1))


def _group(rest: str) -> int:
    """The number of devices in a replica group, from any form in which XLA writes groups."""
    groups = rest[rest.index("replica_groups=") :]
    if listed := re.match(r"replica_groups=\{\{([\d,]*)\}", groups):
        return len(listed[1].split(","))
    if iota := re.match(r"replica_groups=\[(\d+),(\d+)\]", groups):
        return int(iota[2])
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", groups[: groups.index("]")]))
    axes = re.match(r"[^{]*\{([^}]*)\}", groups[groups.index("]") :])
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", axes[1]))
