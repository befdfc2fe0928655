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
# systemd before 253 does not wait for the end of a reload.
until [ "$(systemctl show --property=ActiveState --value restpipe-server restpipe-client | xargs)" = 'active active' ]; do
    sleep 0.1
done
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

# A PUT that the sandbox refuses.
mkdir -p /srv /etc/systemd/system/restpipe-client.service.d
printf '%s\n' '[Service]' 'Environment=RP_EVENT_HANDLER=files+rw:/srv' \
    >/etc/systemd/system/restpipe-client.service.d/files.conf
systemctl daemon-reload
systemctl restart restpipe-client
curl -sS -T /etc/hostname http://127.0.0.1:8081/client/web1/file//a >/mnt/room/put
rm /etc/systemd/system/restpipe-client.service.d/files.conf
systemctl daemon-reload
systemctl restart restpipe-client
systemctl show --property=ActiveState,Result,NRestarts restpipe-server restpipe-client >/mnt/room/after_put

# The broker, with keys that belong to its user.
runuser -u restpipe -- /mnt/bin/rp_remoted keys /var/lib/restpipe/remoted.json
systemctl start restpipe-broker
until curl -sS http://127.0.0.1:37791/ >/mnt/room/broker; do sleep 0.1; done
systemctl stop restpipe-broker

# How systemd reads files of settings.
for file in /mnt/room/env/*.env; do
    name=$(basename "$file" .env)
    printf '%s\n' '[Service]' Type=oneshot "EnvironmentFile=$file" \
        "ExecStart=/bin/sh -c 'env -0 >/mnt/room/env/$name.read'" >"/etc/systemd/system/env-$name.service"
done
# A server on a machine without IPv6.
printf '%s\n' '[Service]' Type=notify ExecStart=/mnt/bin/rp_server_start \
    Environment='BIND_PORT=0 RP_SERVER_HTTP_BIND=127.0.0.1:0' RestrictAddressFamilies='AF_UNIX AF_INET' \
    StandardOutput=truncate:/mnt/room/without_ipv6 >/etc/systemd/system/without-ipv6.service
# The client gets settings from a drop-in and a file.
mkdir -p /etc/restpipe /etc/systemd/system/restpipe-client.service.d
printf '%s\n' '[Service]' 'Environment="RP_TCP_TARGETS=a=unix:/x y" RP_DRAIN_S=4' \
    >/etc/systemd/system/restpipe-client.service.d/test.conf
echo 'RP_DRAIN_S=7' >/etc/restpipe/client.env
systemctl daemon-reload
for file in /mnt/room/env/*.env; do
    systemctl start "env-$(basename "$file" .env)" || true
done
systemctl start without-ipv6

as_node() {
    runuser -u restpipe -- /mnt/bin/rp_client_start --unit restpipe-client "$@"
}
as_node --print-settings >/mnt/room/unit_settings
echo 'RP_DRAIN_S=7 # less' >/etc/restpipe/client.env
as_node --check >/mnt/room/unit_wrong 2>&1 || true
rm /etc/restpipe/client.env

systemctl stop restpipe-client
as_node --check >/mnt/room/unit_check || true
/mnt/bin/rp_client_start --check --unit restpipe-client >/mnt/room/unit_check_root || true
runuser -u restpipe -- /mnt/bin/rp_client_start --check >/mnt/room/check
systemctl show --property=ActiveState,Result,NRestarts restpipe-server restpipe-client >/mnt/room/after
touch /mnt/room/finished
