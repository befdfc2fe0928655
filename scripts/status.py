"""The parts of `scripts/bench status` that count: many idle links, and how long looking takes."""

import http.client
import json
import os
import resource
import ssl
import socket
import statistics
import subprocess
import sys
import threading
import time

from table import line

LOOKS = 50
# Version 1 in a heartbeat, as every client sends it.
HEARTBEAT = bytes([1, 0, 0, 0, 0, 2, 0, 0, 0, 1, 8, 1])
TIMEOUT_S = 30


def main():
    command, *arguments = sys.argv[1:]
    {"crowd": crowd, "builds": builds}[command](*arguments)


def crowd(rp_ca, ca, directory, count, pipe, server_http, client_http):
    """Prints a table of times with `count` links."""
    count = int(count)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for name in ("ca.key.pem", "ca.crt.pem"):
        os.symlink(os.path.join(ca, name), os.path.join(directory, name))
    alone = [asked(client_http, "/server/time") for _ in range(LOOKS)]
    links, done = [], threading.Event()
    # From the first link on: a silent one is given up while the others are made.
    threading.Thread(target=keep, args=(links, done), name="heartbeats", daemon=True).start()
    for number in range(count):
        links.append(connect(rp_ca, directory, f"crowd{number}", pipe))
    rows = [("GET over the pipe, without", alone)]
    quiet = [asked(client_http, "/server/time") for _ in range(LOOKS)]
    rows.append((f"GET over the pipe, {count} links", quiet))
    # And the client's own.
    wait_for_links(server_http, count + 1)
    for path in ("/status", "/metrics"):
        beside, looked = [], threading.Event()

        def ask_beside():
            while not looked.is_set():
                beside.append(asked(client_http, "/server/time"))

        asker = threading.Thread(target=ask_beside, name="asker")
        asker.start()
        rows.append((path, [asked(server_http, path) for _ in range(LOOKS)]))
        looked.set()
        asker.join()
        rows.append((f"GET over the pipe beside {path}", beside))
    done.set()
    line("", "median", "longest")
    line("---", "---:", "---:")
    for what, times in rows:
        line(what, f"{statistics.median(times):.2f}", f"{max(times):.2f}")


def connect(rp_ca, directory, name, pipe):
    """A link that says nothing but heartbeats."""
    subprocess.run(
        [rp_ca, "issue", name, "--client", "--dir", directory], check=True, stdout=subprocess.DEVNULL
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(os.path.join(directory, "ca.crt.pem"))
    context.load_cert_chain(*(os.path.join(directory, f"{name}.{kind}.pem") for kind in ("crt", "key")))
    host, port = pipe.rsplit(":", 1)
    link = context.wrap_socket(
        socket.create_connection((host, int(port)), TIMEOUT_S), server_hostname="localhost"
    )
    link.sendall(HEARTBEAT)
    return link


def wait_for_links(server_http, count):
    """Waits until so many links are ready."""
    until, ready = time.monotonic() + TIMEOUT_S, 0
    while ready < count:
        links = json.loads(look(server_http, "/status"))["links"]
        ready = sum(link["state"] == "ready" for link in links)
        if time.monotonic() > until:
            raise SystemExit(f"only {ready} of {count} links stand")
        time.sleep(0.1)


def keep(links, done):
    """Keeps links alive. The answers are few and small; the system holds them."""
    while not done.wait(3):
        for link in list(links):
            link.sendall(HEARTBEAT)


def asked(address, path):
    """Milliseconds until an answer is there whole."""
    began = time.monotonic()
    look(address, path)
    return (time.monotonic() - began) * 1e3


def look(address, path):
    """The body of an answer, whole."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    return body


def builds(path):
    """Prints the medians of rows `side connections rate`."""
    samples = {}
    with open(path) as rows:
        for row in rows:
            side, count, rate = row.split()
            samples.setdefault(int(count), {}).setdefault(side, []).append(float(rate))
    line("connections", "this: requests/s", "the other: requests/s", "this over the other")
    line(*["---:"] * 4)
    for count, by_side in sorted(samples.items()):
        this, base = (statistics.median(by_side[side]) for side in ("this", "base"))
        line(count, f"{this:,.0f}", f"{base:,.0f}", f"{this / base:.3f}")


if __name__ == "__main__":
    main()
