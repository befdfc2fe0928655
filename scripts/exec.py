"""The part of scripts/bench that compares a script as a handler with running it."""

import os
import socket
import statistics
import sys
import time

from table import line

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
TIMEOUT_S = 30
# What is measured, and what is not counted before.
SCRIPTS = {"get_script": "`#!/bin/sh`, `exit 0`", "get_program": "`/bin/true`"}
WARM_UP = 20


def main():
    address, directory, runs = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), TIMEOUT_S) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line("", "run: p50", "asked: p50", "cost: p50", "run: p99", "asked: p99")
        line("---", *["---:"] * 5)
        for name, meaning in SCRIPTS.items():
            path = os.path.join(directory, name)
            noun = name.removeprefix("get_")
            ran, asked = [], []
            for number in range(WARM_UP + int(runs)):
                samples = seconds(run, path), seconds(ask, caller, noun)
                if number >= WARM_UP:
                    ran.append(samples[0] * 1e3)
                    asked.append(samples[1] * 1e3)
            p50 = statistics.median(ran), statistics.median(asked)
            cells = [*p50, p50[1] - p50[0], p99(ran), p99(asked)]
            line(meaning, *(f"{cell:.2f}" for cell in cells))


def seconds(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def p99(samples):
    return statistics.quantiles(samples, n=100)[98]


def run(path):
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
    pid = os.posix_spawn(path, [path], ENVIRONMENT, file_actions=null)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        sys.exit(f"{path} ended with {status}")


def ask(caller, noun):
    """One request on a kept connection, and its whole answer, which has no body."""
    caller.sendall(f"GET /server/{noun} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = caller.recv(65536)
        if not part:
            sys.exit(f"the connection ended after {answer!r}")
        answer += part
    if not answer.startswith(b"HTTP/1.1 200 ") or b"\r\nContent-Length: 0\r\n" not in answer:
        sys.exit(f"{noun} was answered {answer!r}")


main()
