#!/usr/bin/env bash
# Run by the systemd of boot.sh: starts, reloads, restarts under load and checks both nodes. Writes the results
# to /mnt/room: the codes of all answers, the services' properties, the check of a sleeping client. The trace
# goes to another descriptor than the output.
exec 3>&2
BASH_XTRACEFD=3
set -eux
touch /mnt/room/booted
trap 'journalctl --no-pager >/mnt/room/journal; systemctl exit' EXIT

mkdir -m 750 /var/lib/restpipe
chown restpipe:restpipe /var/lib/restpipe
export RP_SERVER_CERT_PATH=/var/lib/restpipe RP_CLIENT_CERT_PATH=/var/lib/restpipe
/mnt/bin/rp_ca init --dir /tmp/ca
/mnt/bin/rp_ca issue localhost --server --dir /tmp/ca
/mnt/bin/rp_ca issue web1 --client --dir /tmp/ca
/mnt/bin/rp_server_set_identity /tmp/ca/{localhost.key,localhost.crt,ca.crt}.pem
/mnt/bin/rp_client_set_identity /tmp/ca/{web1.key,web1.crt,ca.crt}.pem

systemctl start restpipe-server-pipe.socket restpipe-server-http.socket restpipe-client-http.socket
systemctl start restpipe-server restpipe-client
systemctl reload restpipe-server restpipe-client
systemctl show --property=ActiveState,Result,NRestarts restpipe-server restpipe-client >/mnt/room/before

# During a stop, a request for an absent client gets a refusal; here the client is connected.
curl -sS http://127.0.0.1:8082/server/time

# Each caller opens a new connection for each request: none may be refused.
ask() {
    until [ -e /tmp/enough ]; do
        # An error instead of a code is a line, too.
        curl -sS -o /dev/null -w '%{http_code}\n' "$@" || true
    done
}
ask http://127.0.0.1:8081/client/web1/time >/mnt/room/from_server 2>&1 &
ask -X POST http://127.0.0.1:8082/server/echo >/mnt/room/from_client 2>&1 &
answered() {
    wc -l <"/mnt/room/$1"
}
until [ "$(answered from_server)" -ge 60 ] && [ "$(answered from_client)" -ge 60 ]; do
    systemctl restart restpipe-server
    curl -sS 'http://127.0.0.1:8081/client/web1/time//[1-10]'
    systemctl restart restpipe-client
    curl -sS 'http://127.0.0.1:8082/server/time//[1-10]'
done
touch /tmp/enough
wait

systemctl stop restpipe-client
runuser -u restpipe -- /mnt/bin/rp_client_start --check >/mnt/room/check
systemctl show --property=ActiveState,Result,NRestarts restpipe-server restpipe-client >/mnt/room/after
touch /mnt/room/finished
