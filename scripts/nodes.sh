# Sourced by demo and bench: builds the programs, makes throw-away identities and starts a server and a client
# on loopback. All files are in $work, which is removed when the script exits.
#
# RESTPIPE_BIN_DIR names a directory with programs already built; then nothing is built.

# The caller's settings must not reach the nodes, except DEBUG and RUST_LOG.
for name in "${!RP_@}"; do unset "$name"; done
unset BIND_IP BIND_PORT

# How long a node may take to become ready, and to exit, in seconds.
READY_S=20
END_S=15

work=
bin=             # where the programs are, and how they were built
built=
pids=()          # every process that was started in the background
server_pid=
client_pid=
server_pipe=     # addresses from the ready lines
server_http=
client_http=
server_handler=example   # RP_EVENT_HANDLER of the server

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# need COMMAND WHAT: fails with one line if COMMAND is missing.
need() {
    command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

# Creates $work and installs the cleanup for every exit.
open_workshop() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/restpipe.XXXXXX")
    trap close_workshop EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
}

close_workshop() {
    local status=$? pid tries
    trap '' HUP INT PIPE TERM
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        for ((tries = 0; tries < END_S * 20; tries++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null && echo "${0##*/}: process $pid had to be killed" >&2
        wait "$pid" 2>/dev/null || true
    done
    if declare -F at_end >/dev/null; then at_end; fi
    rm -rf "$work"
    exit "$status"
}

# build PROFILE: builds the programs with this Cargo profile and sets $bin to their directory and $built to a
# description. The working directory must be the project's.
build() {
    local profile=$1
    bin=${RESTPIPE_BIN_DIR:-}
    built="as they are in $bin"
    if [ -z "$bin" ]; then
        need cargo "install a Rust toolchain from https://rustup.rs"
        command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null ||
            fail "a C compiler is missing: install gcc or clang"
        echo "${0##*/}: building the programs (profile $profile); only the first time takes minutes" >&2
        cargo build --profile "$profile" --locked --bins
        # The output of the profile dev is in debug.
        bin=${CARGO_TARGET_DIR:-target}/${profile/#dev/debug}
        built="built with the profile $profile"
    fi
    [ -x "$bin/rp_server_start" ] || fail "the programs are not in $bin"
}

# Runs a program whose output matters only if it fails.
quietly() {
    "$@" >"$work/output" 2>&1 && return
    cat "$work/output" >&2
    fail "${1##*/} failed"
}

# Creates a CA and one identity for each node, and installs them below $work.
make_identities() {
    local ca=$work/ca
    quietly "$bin/rp_ca" init --dir "$ca"
    quietly "$bin/rp_ca" issue server --server --san localhost --san 127.0.0.1 --dir "$ca"
    quietly "$bin/rp_ca" issue client --client --dir "$ca"
    mkdir "$work/server" "$work/client"
    RP_SERVER_CERT_PATH=$work/server quietly "$bin/rp_server_set_identity" \
        "$ca/server.key.pem" "$ca/server.crt.pem" "$ca/ca.crt.pem"
    RP_CLIENT_CERT_PATH=$work/client quietly "$bin/rp_client_set_identity" \
        "$ca/client.key.pem" "$ca/client.crt.pem" "$ca/ca.crt.pem"
}

# start_node NAME COMMAND...: starts a node, waits for its ready line and stores it in $ready, the process id in
# $node. Standard error goes to $work/NAME.log.
start_node() {
    local name=$1 fifo=$work/$1.ready fd status=0
    shift
    rm -f "$fifo"
    mkfifo "$fifo"
    "$@" >"$fifo" 2>>"$work/$name.log" </dev/null &
    node=$!
    pids+=("$node")
    exec {fd}<"$fifo"
    read -r -t "$READY_S" -u "$fd" ready || status=$?
    if [ "$status" -ne 0 ] || [[ $ready != "ready "* ]]; then
        if [ "$status" -gt 128 ]; then
            echo "${0##*/}: the $name was not ready within $READY_S s; its log:" >&2
        else
            echo "${0##*/}: the $name did not start; its log:" >&2
        fi
        tail -n 30 "$work/$name.log" >&2
        exit 1
    fi
}

# field NAME: the value of NAME= in $ready.
field() {
    local word
    for word in $ready; do
        [[ $word != "$1="* ]] || { echo "${word#*=}"; return; }
    done
    fail "no $1= in the line of a started node: $ready"
}

start_server() {
    start_node server env BIND_IP=127.0.0.1 BIND_PORT=0 RP_SERVER_HTTP_BIND=127.0.0.1:0 \
        RP_SERVER_CERT_PATH="$work/server" RP_DRAIN_S=2 RP_EVENT_HANDLER="$server_handler" \
        "$bin/rp_server_start"
    server_pid=$node
    server_pipe=$(field pipe)
    server_http=$(field http)
}

# A restarted client gets its old port.
start_client() {
    start_node client env RP_CLIENT_TARGET_HOSTNAME=localhost \
        RP_CLIENT_TARGET_PORT="${server_pipe##*:}" \
        RP_CLIENT_HTTP_BIND="${client_http:-127.0.0.1:0}" \
        RP_CLIENT_CERT_PATH="$work/client" RP_DRAIN_S=2 "$bin/rp_client_start"
    client_pid=$node
    client_http=$(field http)
}

# The last log lines of both nodes, for debugging.
show_logs() {
    local name
    for name in server client; do
        echo "--- the last lines of the $name's log"
        tail -n 20 "$work/$name.log"
    done
}

# Relative paths in CARGO_TARGET_DIR and RESTPIPE_BIN_DIR refer to the caller's directory.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:+$(realpath -m "$CARGO_TARGET_DIR")}
RESTPIPE_BIN_DIR=${RESTPIPE_BIN_DIR:+$(realpath -m "$RESTPIPE_BIN_DIR")}
[ -n "$CARGO_TARGET_DIR" ] || unset CARGO_TARGET_DIR
cd "$(dirname "${BASH_SOURCE[0]}")/.."
