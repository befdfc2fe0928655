"""The parts of scripts/tcp.sh that count: the table, keys in files, and silent connections."""

import json
import os
import socket
import statistics
import sys

from table import line

NAMES = {
    "remoted": "publish and connect",
    "rathole-plain": "rathole",
    "remoted-tls": "publish and connect, TLS",
    "pipe": "over the pipe",
    "ssh": "ssh -L",
    "rathole": "rathole, noise",
}
OURS = ["remoted", "remoted-tls", "pipe"]
# Those that protect as much.
OTHERS = {"remoted": ["rathole-plain"], "remoted-tls": ["ssh", "rathole"], "pipe": ["ssh", "rathole"]}
TIMEOUT_S = 30


def main():
    command, *arguments = sys.argv[1:]
    {"table": table, "keys": keys, "idle": idle}[command](*arguments)


def table(path):
    """Prints the medians of rows `what side number`, and how ours compare."""
    samples = {}
    with open(path) as rows:
        for row in rows:
            what, side, number = row.split()
            samples.setdefault(what, {}).setdefault(side, []).append(float(number))
    measured = {side for by_side in samples.values() for side in by_side}
    sides = [side for side in NAMES if side in measured]
    ours = [side for side in OURS if any(other in sides for other in OTHERS[side]) and side in sides]
    line("", *(NAMES[side] for side in sides), *(f"{NAMES[side]}, over the best other" for side in ours))
    line("---", *["---:"] * (len(sides) + len(ours)))
    for what, by_side in samples.items():
        medians = {side: statistics.median(numbers) for side, numbers in by_side.items()}
        cells = [f"{medians[side]:,.0f}" if side in medians else "-" for side in sides]
        for side in ours:
            others = [medians[other] for other in OTHERS[side] if other in medians]
            cells.append(f"{medians[side] / max(others):.2f}" if others and side in medians else "-")
        line(what, *cells)


def keys(path, server, caller):
    """Writes the two keys of a broker's file into files of their own."""
    with open(path) as file:
        found = json.load(file)
    for name, target in (("server_apikey", server), ("client_apikey", caller)):
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(found[name] + "\n")


def idle(side, url, count, *pids):
    """Prints what each process holds per connection that has carried a request and is silent."""
    host, port = url.removeprefix("http://").strip("/").split(":")
    count = int(count)
    # So that what a program takes once is not counted.
    warm = [silent((host, int(port))) for _ in range(50)]
    before = [resident(pid) for pid in pids]
    held = [silent((host, int(port))) for _ in range(count)]
    after = [resident(pid) for pid in pids]
    line(NAMES[side], *(f"{(a - b) / count:.1f}" for a, b in zip(after, before)))
    for connection in warm + held:
        connection.close()


def silent(address):
    """A connection after one request, which the other end keeps open."""
    connection = socket.create_connection(address, TIMEOUT_S)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"{address} closed a connection after {answer!r}")
        answer += piece
    return connection


def resident(pid):
    """KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmRSS"))


main()
