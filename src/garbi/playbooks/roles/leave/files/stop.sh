#!/bin/sh
# stop.sh PORT: the watchdog and the agent of a node.
set -eu
for unit in "garbi-watchdog@$1.service" "garbi-hyper@$1.service"; do
    if [ ! -e "/etc/systemd/system/multi-user.target.wants/$unit" ] && ! systemctl is-active -q "$unit"; then continue; fi
    systemctl disable -q --now "$unit"
    systemctl reset-failed "$unit" 2>/dev/null || true
    echo "garbi: changed"
done
