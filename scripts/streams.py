"""The parts of scripts/streams.sh that count: rates of large bodies, and latencies beside them."""

import json
import statistics
import sys

from table import NAMES, line, milliseconds, present


def main():
    command, *arguments = sys.argv[1:]
    {"bulk": bulk, "mixed": mixed, "stalled": stalled, "large": large}[command](*arguments)


def bulk(path):
    """Prints the median rates of rows `direction side seconds bytes`."""
    rates = {}
    for way, side, seconds, count in rows(path):
        rates.setdefault(way, {}).setdefault(side, []).append(float(count) / float(seconds) / 1e6)
    sides = present(side for by_side in rates.values() for side in by_side)
    line("direction", *(NAMES[side] for side in sides), "RestPipe over the best other")
    line("---", *["---:"] * len(sides), "---:")
    for way, by_side in rates.items():
        medians = {side: statistics.median(by_side[side]) for side in sides}
        best = max(rate for side, rate in medians.items() if side != "restpipe")
        shown = [f"{medians[s]:,.0f} ({min(by_side[s]):,.0f} to {max(by_side[s]):,.0f})" for s in sides]
        line(way, *shown, f"{medians['restpipe'] / best:.2f}")


def mixed(path, beside_path):
    """Prints rows `situation side connections rate p50 p99` with the bulk beside, `situation side MB/s`."""
    latencies = latencies_of(path)
    beside = {}
    for _, side, rate in rows(beside_path):
        beside.setdefault(side, []).append(float(rate))
    sides = present(side for situation, side in latencies if situation == "quiet")
    busy_of = {side: latencies["download", side] for side in sides}
    line("", "quiet: p50, p99", "beside a download: p50, p99", "p99 over quiet", "the download, MB/s",
         "RestPipe's p99 over this one")
    line("---", *["---:"] * 5)
    for side in sides:
        quiet, busy = latencies["quiet", side], busy_of[side]
        line(NAMES[side], f"{quiet[0]:.3f}, {quiet[1]:.3f}", f"{busy[0]:.3f}, {busy[1]:.3f}",
             f"{busy[1] / quiet[1]:.1f}", f"{statistics.median(beside[side]):,.0f}",
             "-" if side == "restpipe" else f"{busy_of['restpipe'][1] / busy[1]:.2f}")


def stalled(path):
    """Prints the latencies of many streams, quiet and beside a stalled one."""
    latencies = latencies_of(path)
    line("streams", "quiet: p50, p99", "beside a stalled one: p50, p99", "p99 over quiet")
    line("---", *["---:"] * 3)
    for size in ("small", "medium"):
        quiet, busy = latencies[size, "medium"], latencies[f"{size}-stalled", "medium"]
        line(size, f"{quiet[0]:.2f}, {quiet[1]:.2f}", f"{busy[0]:.2f}, {busy[1]:.2f}",
             f"{busy[1] / quiet[1]:.2f}")


def latencies_of(path):
    """Medians of p50 and p99 in milliseconds, by situation and side."""
    samples = {}
    for situation, side, _, _, p50, p99 in rows(path):
        samples.setdefault((situation, side), []).append((milliseconds(p50), milliseconds(p99)))
    return {key: [statistics.median(column) for column in zip(*all_)] for key, all_ in samples.items()}


def large(path, count, sha_down, sha_sent, answer):
    """Prints rates, sums and peak memory: rows `what start end`, and `node KiB`."""
    count = int(count)
    taken, peaks = {}, {}
    for name, *numbers in rows(path):
        if len(numbers) == 2:
            taken[name] = float(numbers[1]) - float(numbers[0])
        else:
            peaks[name] = int(numbers[0]) / 1024
    digest = json.loads(answer)
    digest = next((value for value in digest.values() if isinstance(value, dict)), digest)
    agrees = sha_down == sha_sent == digest["sha256"] and digest["bytes"] == count
    line("down, MB/s", "down and up at once, MB/s each", "SHA-256", "server's peak, MiB", "client's peak, MiB")
    line(*["---:"] * 5)
    line(f"{count / taken['down'] / 1e6:,.0f}", f"{count / taken['down-and-up'] / 1e6:,.0f}",
         "agrees" if agrees else "DIFFERS", f"{peaks['server']:.1f}", f"{peaks['client']:.1f}")
    if not agrees:
        print(f"\ndown {sha_down}, sent {sha_sent}, the server's digest {answer}")


def rows(path):
    with open(path) as lines:
        return [row.split() for row in lines]


main()
