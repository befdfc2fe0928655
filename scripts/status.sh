# Sourced by bench: the cost of monitoring. Needs $work, $bin and the running nodes.

LINKS=${LINKS:-2000}
# The programs of another build to compare with, such as the previous commit; empty: no comparison.
BASE_BIN_DIR=${BASE_BIN_DIR:-}

# The latency of /status and /metrics with many links, and their effect on callers; then requests per
# second with this build and another one, in turns.
bench_status() {
    local load
    load=$(loadavg)
    progress "$LINKS links, identities first"
    mkdir "$work/crowd"
    python3 "$here/status.py" crowd "$bin/rp_ca" "$work/ca" "$work/crowd" "$LINKS" \
        "$server_pipe" "$server_http" "$client_http" >"$work/status"
    progress
    echo
    echo "\`/status\` and \`/metrics\` of a server with $LINKS links, each asked 50 times, and a GET by a client over the"
    echo "pipe in the meantime and without; milliseconds. Load at the start: $load."
    echo
    cat "$work/status"
    if [ -n "$BASE_BIN_DIR" ]; then compare_builds; fi
    describe_machine
}

# Each round has its own nodes: the speed of two processes depends on chance at their start.
compare_builds() {
    need wrk "install wrk"
    local this_bin=$bin count round side sides
    for ((round = 1; round <= ROUNDS; round++)); do
        if ((round % 2)); then sides="this base"; else sides="base this"; fi
        for side in $sides; do
            if [ "$side" = this ]; then bin=$this_bin; else bin=$BASE_BIN_DIR; fi
            kill -TERM "$client_pid" "$server_pid"
            wait "$client_pid" "$server_pid" || true
            client_http=
            start_server
            start_client
            for count in $CONNECTIONS; do
                progress "round $round of $ROUNDS, $side, $count connections"
                echo "$side $count $(requests_a_second "$client_http" "$count")"
            done
        done
    done >"$work/builds"
    bin=$this_bin
    progress
    echo
    echo "Requests a second with this build and with the one in $BASE_BIN_DIR, in turns, medians of $ROUNDS:"
    echo
    python3 "$here/status.py" builds "$work/builds"
}

# requests_a_second ADDRESS CONNECTIONS
requests_a_second() {
    wrk -t1 -c"$2" -d"${SECONDS_EACH}s" "http://$1/server/time" | awk '/^Requests\/sec/ { print $2 }'
}
