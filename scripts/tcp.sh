# Sourced by bench: TCP connections through rp_remoted publish and connect, and over the pipe, to the
# nginx of start_others, compared with ssh -L and rathole.
#
# Sides are compared at the same protection: `remoted` with rathole without encryption, the others,
# which encrypt, with ssh -L and rathole's noise.

# The URL of nginx on each side, and the process ids of its programs; the sides in order.
declare -A tcp_url=() tcp_pids=()
tcp_sides=()
# Joined and silent connections while memory is measured.
IDLE=${IDLE:-1000}

bench_tcp() {
    need wrk "install wrk"
    local bytes=${BYTES:-$((1 << 30))} round side count load
    load=$(loadavg)
    start_tcp
    truncate -s "$bytes" "$bulk_dir/zeros"
    for side in "${tcp_sides[@]}"; do tcp_load "$side" 16 1 requests >/dev/null; done
    for ((round = 1; round <= ROUNDS; round++)); do
        for side in "${tcp_sides[@]}"; do
            progress "round $round of $ROUNDS: $side, bulk"
            tcp_bulk "$side" "$bytes" >>"$work/tcp"
        done
        for side in "${tcp_sides[@]}"; do
            progress "round $round of $ROUNDS: $side, new connections"
            tcp_load "$side" 16 "$SECONDS_EACH" connections -H 'Connection: close' >>"$work/tcp"
        done
        for count in $CONNECTIONS; do
            for side in "${tcp_sides[@]}"; do
                progress "round $round of $ROUNDS: $side, $count connections"
                tcp_load "$side" "$count" "$SECONDS_EACH" requests >>"$work/tcp"
            done
        done
    done
    progress "$IDLE silent connections"
    tcp_idle >"$work/tcp-idle"
    progress
    echo
    echo "nginx through each tunnel: a file of $bytes bytes down and up (curl, MB/s), new connections a second"
    echo "(wrk -c16, \`Connection: close\`), requests a second on 1, 16 and 64 (wrk, keep-alive). Medians of"
    echo "$ROUNDS alternating rounds of $SECONDS_EACH s. Load at the start: $load."
    echo
    python3 "$here/tcp.py" table "$work/tcp"
    echo
    echo "$IDLE joined connections that have carried a request and are silent, memory of each program per"
    echo "connection, KiB:"
    echo
    cat "$work/tcp-idle"
    without_rathole
    describe_machine
}

# tcp_bulk SIDE BYTES: rows `down SIDE MB/s` and `up SIDE MB/s`
tcp_bulk() {
    local url=${tcp_url[$1]}
    echo down "$1" "$(transfer "$2" '%{time_total} %{size_download}' "${url}zeros" -o /dev/null | rate)"
    echo up "$1" "$(transfer "$2" '%{time_total} %{size_upload}' "${url}up/tcp" \
        -T "$bulk_dir/zeros" -o /dev/null | rate)"
    [ "$(stat -c %s "$bulk_dir/up/tcp")" = "$2" ] || fail "nginx stored less than was sent through $1"
    rm "$bulk_dir/up/tcp"
}

# Converts `seconds bytes` to MB/s.
rate() {
    awk '{ print $2 / $1 / 1e6 }'
}

# tcp_load SIDE CONNECTIONS SECONDS WHAT ARGUMENT...: a row `WHAT-CONNECTIONS SIDE rate`
tcp_load() {
    local side=$1 count=$2 seconds=$3 what=$4
    shift 4
    wrk -t1 -c"$count" -d"${seconds}s" --timeout 10s "$@" "${tcp_url[$side]}" >"$work/wrk" 2>&1 || {
        cat "$work/wrk" >&2
        fail "wrk failed against $side"
    }
    if grep -E 'Non-2xx|Socket errors' "$work/wrk" >&2; then
        echo "bench: the line above is from $side, $what on $count connections" >&2
    fi
    awk -v what="$what-$count" -v side="$side" '$1 == "Requests/sec:" { print what, side, $2 }' "$work/wrk"
}

# Starts all sides in tcp_url, each in front of the nginx of start_others.
start_tcp() {
    local ports
    start_others
    # One for the end that cannot report which it took, two for rathole.
    read -ra ports < <(python3 "$here/bench.py" ports 3)
    start_remoted remoted rws rwr
    start_remoted remoted-tls rwss rwrs
    if "$bin/rp_server_start" --help | grep -q RP_TCP_TARGETS; then start_tcp_pipe "${ports[0]}"; fi
    tcp_side ssh "$url_ssh"
    if command -v "$RATHOLE" >/dev/null; then
        tcp_side rathole "$url_rathole"
        start_plain_rathole "${ports[1]}" "${ports[2]}"
    fi
}

# tcp_side NAME URL
tcp_side() {
    tcp_sides+=("$1")
    tcp_url[$1]=$2
}

# start_remoted SIDE SERVER-SCHEME CALLER-SCHEME: a broker, publish and connect.
start_remoted() {
    local side=$1 dir=$work/$1 tls=() trust=() address
    mkdir -m 700 "$dir"
    quietly "$bin/rp_remoted" keys "$dir/keys.json"
    python3 "$here/tcp.py" keys "$dir/keys.json" "$dir/server.key" "$dir/caller.key"
    if [[ $2 == rwss ]]; then
        tls=(RP_REMOTED_CRT="$work/ca/server.crt.pem" RP_REMOTED_KEY="$work/ca/server.key.pem")
        trust=(--ca "$work/ca/ca.crt.pem")
    fi
    start_node "$side-broker" env RP_REMOTED_BIND=127.0.0.1:0 RP_REMOTED_CONFIG="$dir/keys.json" \
        RP_DRAIN_S=2 "${tls[@]}" "$bin/rp_remoted" broker
    tcp_pids[$side]=$node
    address=localhost:$(field remoted | sed 's/.*://')
    start_node "$side-publish" env RP_DRAIN_S=2 "$bin/rp_remoted" publish "$2://$address/web" \
        --to "127.0.0.1:$nginx_port" --key-file "$dir/server.key" "${trust[@]}"
    tcp_pids[$side]+=" $node"
    start_node "$side-connect" env RP_DRAIN_S=2 "$bin/rp_remoted" connect "$3://$address/web" \
        --listen 127.0.0.1:0 --key-file "$dir/caller.key" "${trust[@]}"
    tcp_pids[$side]+=" $node"
    tcp_side "$side" "http://$(field listen)/"
    answers "$side-connect" "${tcp_url[$side]}"
}

# start_tcp_pipe PORT: starts a separate server and client whose pipe carries the connections.
start_tcp_pipe() {
    start_node pipe-server env BIND_IP=127.0.0.1 BIND_PORT=0 RP_SERVER_HTTP_BIND=127.0.0.1:0 \
        RP_SERVER_CERT_PATH="$work/server" RP_DRAIN_S=2 RP_TCP_TARGETS="web=127.0.0.1:$nginx_port" \
        "$bin/rp_server_start"
    local pipe
    pipe=$(field pipe)
    start_node pipe-client env RP_CLIENT_TARGET_HOSTNAME=localhost \
        RP_CLIENT_TARGET_PORT="${pipe##*:}" RP_CLIENT_HTTP_BIND=127.0.0.1:0 \
        RP_CLIENT_CERT_PATH="$work/client" RP_DRAIN_S=2 \
        RP_TCP_LISTEN="127.0.0.1:$1=server/web" "$bin/rp_client_start"
    tcp_side pipe "http://127.0.0.1:$1/"
    answers pipe-client "${tcp_url[pipe]}"
}

# start_plain_rathole CONTROL_PORT LOCAL_PORT: rathole without encryption.
start_plain_rathole() {
    local dir=$work/rathole-plain
    mkdir -m 700 "$dir"
    cat >"$dir/server.toml" <<CONF
[server]
bind_addr = "127.0.0.1:$1"
default_token = "bench"
[server.services.web]
bind_addr = "127.0.0.1:$2"
CONF
    cat >"$dir/client.toml" <<CONF
[client]
remote_addr = "127.0.0.1:$1"
default_token = "bench"
[client.services.web]
local_addr = "127.0.0.1:$nginx_port"
CONF
    in_background plain-rathole-server env RUST_LOG=error "$RATHOLE" --server "$dir/server.toml"
    opens plain-rathole-server "$1"
    in_background plain-rathole-client env RUST_LOG=error "$RATHOLE" --client "$dir/client.toml"
    tcp_side rathole-plain "http://127.0.0.1:$2/"
    answers plain-rathole-client "${tcp_url[rathole-plain]}"
}

# Memory of broker, publish and connect per silent connection.
tcp_idle() {
    local side
    echo "| | broker | publish | connect |"
    echo "| --- | ---: | ---: | ---: |"
    for side in remoted remoted-tls; do
        # Its three process ids.
        # shellcheck disable=SC2086
        python3 "$here/tcp.py" idle "$side" "${tcp_url[$side]}" "$IDLE" ${tcp_pids[$side]}
    done
}
