"""What the tables of scripts/bench share: rows, names of the sides, and the units of wrk."""

NAMES = {"restpipe": "RestPipe", "ssh": "nginx through ssh -L", "rathole": "nginx through rathole"}


def present(sides):
    """Those of `sides` that were measured, in the order of the columns."""
    sides = set(sides)
    return [side for side in NAMES if side in sides]


def milliseconds(text):
    """wrk's `12.34us`, `1.20ms`, `1.00s` or `1.00m`."""
    for unit, factor in (("us", 0.001), ("ms", 1), ("s", 1000), ("m", 60_000)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"no unit in wrk's {text!r}")


def line(*cells):
    """Prints one row of a Markdown table."""
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)
