"""The parts of scripts/bench that count: medians of rows, latencies by body size, free ports."""

import socket
import statistics
import sys
import time

from table import NAMES, line, milliseconds, present

SIZES = [100, 200, 500, 1000, 1400, 1500, 2000, 5000, 10_000, 15_000, 20_000, 40_000]
SIZES += [60_000, 66_000, 100_000, 150_000, 200_000]
SAMPLES = 200
# What fits into the path of a GET; the head of a request is limited to 16 KiB.
LARGEST_PATH = 15_000
# What cat puts around its parameter.
CAT_FRAME = len('{"result_from_server": ""}')
TIMEOUT_S = 30


def main():
    command, *arguments = sys.argv[1:]
    {"ports": ports, "requests": requests, "sizes": sizes, "handshakes": handshakes}[command](*arguments)


def ports(count):
    """Prints `count` different free ports."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(count))]
    print(*(s.getsockname()[1] for s in held))


def requests(path):
    """Prints the medians of rows `side connections rate p50 p99`."""
    samples = {}
    with open(path) as rows:
        for row in rows:
            side, count, rate, p50, p99 = row.split()
            samples.setdefault(int(count), {}).setdefault(side, []).append(
                (float(rate), milliseconds(p50), milliseconds(p99))
            )
    sides = present(side for by_side in samples.values() for side in by_side)
    head = [f"{NAMES[side]}: requests/s (p50, p99 ms)" for side in sides]
    line("connections", *head, "RestPipe over the best other")
    line("---:", *["---:"] * len(head), "---:")
    for count, by_side in sorted(samples.items()):
        medians = {s: [statistics.median(c) for c in zip(*by_side[s])] for s in sides}
        best = max(medians[s][0] for s in sides if s != "restpipe")
        cells = [f"{r:,.0f} ({p50:.2f}, {p99:.2f})" for r, p50, p99 in medians.values()]
        line(count, *cells, f"{medians['restpipe'][0] / best:.2f}")


def handshakes(path):
    """Prints the medians of rows `side rate`."""
    samples = {}
    with open(path) as rows:
        for row in rows:
            side, rate = row.split()
            samples.setdefault(side, []).append(float(rate))
    ours, theirs = (statistics.median(samples[side]) for side in ("restpipe", "openssl"))
    line("RestPipe: handshakes/s", "openssl s_server: handshakes/s", "RestPipe over openssl")
    line(*["---:"] * 3)
    line(f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}")


def sizes(address, post_target, echo_target):
    """Prints latencies of `SAMPLES` requests, and of as many replies, for each of `SIZES`."""
    connection = Connection(address)
    line("bytes", "request: median", "99 %", "maximum", "reply: median", "99 %", "maximum")
    line(*["---:"] * 7)
    for size in SIZES:
        asked = measure(connection, "POST", post_target, b"x" * size)
        answered = None
        if size <= LARGEST_PATH:
            echo = echo_target + "x" * (size - CAT_FRAME)
            answered = measure(connection, "GET", echo, b"", expect=size)
        line(f"{size:,}", *cells(asked), *cells(answered))
    if connection.reopened:
        print(f"\nThe connection was closed by the other side {connection.reopened} times.")


def cells(values):
    if values is None:
        return ["-"] * 3
    # A stall on the way shows in every request of a size, one of the scheduler in the maximum only.
    percentiles = statistics.quantiles(values, n=100)
    return [f"{v:.3f}" for v in (statistics.median(values), percentiles[98], max(values))]


def measure(connection, method, target, body, expect=None):
    """Milliseconds of each of `SAMPLES` requests, after a few that do not count."""
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
    if method == "POST":
        head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"\r\n" + body
    taken = []
    for _ in range(SAMPLES + 5):
        start = time.perf_counter()
        length = connection.ask(request)
        taken.append((time.perf_counter() - start) * 1000)
        if expect is not None and length != expect:
            sys.exit(f"bench: {method} {target[:40]} gave {length} bytes instead of {expect}")
    return taken[5:]


class Connection:
    """One keep-alive connection; it is opened again where the other side closed it."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.address = host, int(port)
        self.reopened = 0
        self.open()

    def open(self):
        self.socket = socket.create_connection(self.address, timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request):
        """Sends the request in one piece and gives back the length of the answer's body."""
        self.socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.receive()
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(
            (name.strip().lower(), value.strip())
            for name, _, value in (field.partition(b":") for field in head.split(b"\r\n")[1:])
        )
        length = int(fields[b"content-length"])
        missing = length - len(body)
        while missing > 0:
            missing -= len(self.receive())
        if fields.get(b"connection", b"").lower() == b"close":
            self.reopened += 1
            self.socket.close()
            self.open()
        return length

    def receive(self):
        data = self.socket.recv(1 << 16)
        if not data:
            sys.exit("bench: the connection was closed before the answer was whole")
        return data


main()
