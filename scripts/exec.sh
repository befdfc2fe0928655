# Sourced by bench: the cost of a script as a handler, compared with running it.

# Runs of each, in turns.
RUNS=${RUNS:-500}

# Separate nodes: the other parts use the examples.
bench_exec() {
    local dir=$work/handlers load kept server_handler=exec:$work/handlers
    load=$(loadavg)
    kept=("$server_pid" "$client_pid" "$server_pipe" "$server_http" "$client_http")
    mkdir "$dir"
    printf '#!/bin/sh\nexit 0\n' >"$dir/get_script"
    cp "$(type -P true)" "$dir/get_program"
    chmod 755 "$dir" "$dir"/*
    client_http=
    start_server
    start_client
    progress "$RUNS runs of each"
    python3 "$here/exec.py" "$client_http" "$dir" "$RUNS" >"$work/exec"
    progress
    read -r server_pid client_pid server_pipe server_http client_http <<<"${kept[*]}"
    echo
    echo "A script that does nothing, run directly (posix_spawn and wait, output to /dev/null) and as the"
    echo "handler of a GET on the client's local port; one at a time, in turns, medians of $RUNS, in"
    echo "milliseconds. Load at the start: $load."
    echo
    cat "$work/exec"
    describe_machine
}
