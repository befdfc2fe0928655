# Sourced by bench: the speed of large bodies, and their effect on small ones beside them.
#
# nginx serves and stores files of zeros in $bulk_dir, in memory, so that no disk is measured. They are
# sparse: only uploads take memory, and each is removed afterwards.

bulk_dir=
# More than any transfer reads during the measurement.
ENDLESS=$((1 << 40))
# Streams beside the stalled one, and the bytes that each requests repeatedly.
STREAMS=98
MEDIUM=65536

# One row per side, direction and round; the sides take turns.
bench_bulk() {
    local bytes=${BYTES:-$((1 << 30))} round side way load measured
    load=$(loadavg)
    start_others
    truncate -s "$bytes" "$bulk_dir/zeros"
    for ((round = 1; round <= ROUNDS; round++)); do
        for way in down up; do
            for side in "${sides[@]}"; do
                progress "round $round of $ROUNDS: $side, $way"
                measured=$("bulk_$way" "$side" "$bytes")
                echo "$way $side $measured" >>"$work/bulk"
            done
        done
    done
    progress
    echo
    echo "$bytes bytes with curl from and to the client's local port, MB/s (1,000,000 bytes): \`GET bytes//N\`"
    echo "and \`POST digest\` of the server, and a file of nginx (GET, PUT, in memory) through each tunnel."
    echo "Medians of $ROUNDS alternating rounds (lowest to highest). Load at the start: $load."
    echo
    python3 "$here/streams.py" bulk "$work/bulk"
    without_rathole
    describe_machine
}

# As bench_bulk, downloads only: the file that nginx serves, through the server's files handler.
bench_files() {
    local bytes=${BYTES:-$((1 << 30))} round side load measured
    load=$(loadavg)
    start_others
    truncate -s "$bytes" "$bulk_dir/zeros"
    for ((round = 1; round <= ROUNDS; round++)); do
        for side in "${sides[@]}"; do
            progress "round $round of $ROUNDS: $side"
            measured=$(file_down "$side" "$bytes")
            echo "down $side $measured" >>"$work/files"
        done
    done
    progress
    echo
    echo "A file of $bytes bytes, in memory, with curl, MB/s (1,000,000 bytes): \`GET share/file//zeros\` by"
    echo "\`files:DIR\`, and the same file by nginx through each tunnel. Medians of $ROUNDS alternating rounds"
    echo "(lowest to highest). Load at the start: $load."
    echo
    python3 "$here/streams.py" bulk "$work/files"
    without_rathole
    describe_machine
}

# file_down SIDE BYTES: seconds, bytes received
file_down() {
    local url
    case "$1" in
        restpipe) url=http://$client_http/server/share/file//zeros ;;
        *) url=$(bulk_url "$1" "$2") ;;
    esac
    transfer "$2" '%{time_total} %{size_download}' "$url" -o /dev/null
}

# bulk_down SIDE BYTES: seconds, bytes received
bulk_down() {
    transfer "$2" '%{time_total} %{size_download}' "$(bulk_url "$1" "$2")" -o /dev/null
}

# bulk_up SIDE BYTES: seconds, bytes sent
bulk_up() {
    local url=$url_ssh
    case "$1" in
        restpipe)
            transfer "$2" '%{time_total} %{size_upload}' "http://$client_http/server/digest" \
                -X POST -T "$bulk_dir/zeros" -o "$work/digest"
            grep -q "\"bytes\": *$2[,}]" "$work/digest" || fail "digest answered $(cat "$work/digest")"
            return ;;
        rathole) url=$url_rathole ;;
    esac
    transfer "$2" '%{time_total} %{size_upload}' "${url}up/file" -T "$bulk_dir/zeros" -o /dev/null
    [ "$(stat -c %s "$bulk_dir/up/file")" = "$2" ] || fail "nginx stored less than was sent through $1"
    rm "$bulk_dir/up/file"
}

# transfer BYTES FORMAT URL ARGUMENT...: prints curl's measurements; fails if bytes are missing.
transfer() {
    local bytes=$1 format=$2 url=$3 measured
    shift 3
    measured=$(curl -sSf --max-time 3600 -w "$format" "$@" "$url") || fail "curl failed at $url"
    [ "${measured##* }" = "$bytes" ] || fail "$url: ${measured##* } of $bytes bytes"
    echo "$measured"
}

# bulk_url SIDE BYTES: the URL of nginx's file of zeros, created with that size.
bulk_url() {
    case "$1" in
        restpipe) echo "http://$client_http/server/bytes//$2" ;;
        ssh) echo "${url_ssh}zeros" ;;
        rathole) echo "${url_rathole}zeros" ;;
    esac
}

# Rows with a situation, a side, the two latencies of small events, and the concurrent bulk rate in
# MB/s.
bench_mixed() {
    local round side load
    need wrk "install wrk"
    load=$(loadavg)
    start_others
    truncate -s "$ENDLESS" "$bulk_dir/zeros"
    for side in "${sides[@]}"; do load "$side" 1 1 >/dev/null; done
    for ((round = 1; round <= ROUNDS; round++)); do
        for side in "${sides[@]}"; do
            progress "round $round of $ROUNDS: $side, quiet"
            latency quiet "$side" 1
            progress "round $round of $ROUNDS: $side beside a download"
            begin_bulk "$side"
            latency download "$side" 1
            end_bulk
            echo "download $side $bulk_rate" >>"$work/beside"
        done
        for url_medium in "http://$client_http/server/bytes//$MEDIUM" "$url_restpipe"; do
            case $url_medium in *time) count=small ;; *) count=medium ;; esac
            progress "round $round of $ROUNDS: $STREAMS streams, quiet"
            latency "$count" medium "$STREAMS"
            progress "round $round of $ROUNDS: $STREAMS streams beside a stalled one"
            begin_bulk restpipe --limit-rate 1
            latency "$count-stalled" medium "$STREAMS"
            end_bulk
        done
    done
    progress
    echo
    echo "GET of \`time\` on one connection, quiet and while a download without end runs through the same"
    echo "pipe or tunnel. wrk, medians of $ROUNDS rounds of $SECONDS_EACH s, milliseconds. Load at the start: $load."
    echo
    python3 "$here/streams.py" mixed "$work/mixed" "$work/beside"
    echo
    echo "$STREAMS connections that ask RestPipe for \`time\` (small) or \`bytes//$MEDIUM\` (medium) again and"
    echo "again, quiet and beside a download whose caller reads one byte a second."
    echo
    python3 "$here/streams.py" stalled "$work/mixed"
    without_rathole
    describe_machine
}

# latency SITUATION SIDE CONNECTIONS
latency() {
    echo "$1 $(load "$2" "$3" "$SECONDS_EACH")" >>"$work/mixed"
}

# begin_bulk SIDE ARGUMENT...: starts a download that end_bulk ends, and waits half a second.
begin_bulk() {
    local side=$1
    shift
    curl -sS -o /dev/null -w '%{time_total} %{size_download}' --max-time "$((SECONDS_EACH + 1))" "$@" \
        "$(bulk_url "$side" "$ENDLESS")" >"$work/beside.curl" 2>/dev/null &
    bulk_pid=$!
    pids+=("$bulk_pid")
    sleep 0.5
}

# Stores the rate of the download in $bulk_rate, in MB/s.
end_bulk() {
    # curl exits by itself with the expected status and prints how much it received.
    local status=0
    wait "$bulk_pid" || status=$?
    [ "$status" = 28 ] || fail "the download beside ended early: curl status $status"
    bulk_rate=$(awk '{ print $2 / $1 / 1e6 }' "$work/beside.curl")
}

# The same bytes down, and down and up concurrently; peak memory of both nodes.
bench_large() {
    local bytes=${BYTES:-$((10 << 30))} url start sha_down sha_sent answer node pid load
    url=http://$client_http/server
    load=$(loadavg)
    # Excludes the peak of an earlier part.
    for pid in "$server_pid" "$client_pid"; do echo 5 >"/proc/$pid/clear_refs" || true; done
    progress "$bytes bytes down"
    start=$EPOCHREALTIME
    sha_down=$(curl -sSf "$url/bytes//$bytes" | sha256sum | cut -d' ' -f1)
    echo "down $start $EPOCHREALTIME" >"$work/large"
    progress "$bytes bytes down and up"
    mkfifo "$work/sent"
    sha256sum <"$work/sent" >"$work/sent.sha256" &
    pids+=("$!")
    local summing=$!
    start=$EPOCHREALTIME
    answer=$(curl -sSf "$url/bytes//$bytes" | tee "$work/sent" |
        curl -sSf -X POST -H 'Content-Type: application/octet-stream' -T - "$url/digest")
    wait "$summing"
    echo "down-and-up $start $EPOCHREALTIME" >>"$work/large"
    rm "$work/sent"
    sha_sent=$(cut -d' ' -f1 "$work/sent.sha256")
    progress
    for node in server client; do
        pid=${node}_pid
        echo "$node $(awk '/^VmHWM/ { print $2 }' "/proc/${!pid}/status")" >>"$work/large"
    done
    echo
    echo "$bytes bytes of \`GET bytes//N\` into sha256sum; then once more into \`POST digest\`, so that both"
    echo "directions are filled at once. Load at the start: $load."
    echo
    python3 "$here/streams.py" large "$work/large" "$bytes" "$sha_down" "$sha_sent" "$answer"
}

loadavg() {
    cut -d' ' -f1-3 /proc/loadavg
}

# In memory, if possible.
make_bulk_dir() {
    if [ -d /dev/shm ] && [ -w /dev/shm ]; then
        bulk_dir=$(mktemp -d /dev/shm/restpipe.XXXXXX)
    else
        bulk_dir=$work/bulk_dir
        mkdir "$bulk_dir"
    fi
    mkdir "$bulk_dir/up" "$bulk_dir/body"
    # As root, nginx switches to another user.
    chmod 755 "$bulk_dir"
    chmod 777 "$bulk_dir/up" "$bulk_dir/body"
    : >"$bulk_dir/zeros"
}
