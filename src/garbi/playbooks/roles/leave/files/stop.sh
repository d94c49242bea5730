#!/bin/sh
# stop.sh PORT
set -eu
unit=garbi-hyper@$1.service
if [ ! -e "/etc/systemd/system/multi-user.target.wants/$unit" ] && ! systemctl is-active -q "$unit"; then exit 0; fi
systemctl disable -q --now "$unit"
systemctl reset-failed "$unit" 2>/dev/null || true
echo "garbi: changed"
