#!/bin/sh
# purge.sh PORT DATA_DIR: the agent takes away what it made, by its own label; what is not its own stays.
set -eu
hyper=/opt/garbi/node-$1/bin/hyper data_dir=$2
if [ ! -e "$data_dir/hyper.db" ]; then exit 0; fi
for daemon in docker libvirtd; do
    if systemctl cat -- "$daemon" >/dev/null 2>&1; then systemctl start "$daemon"; fi
done
set -a
# shellcheck disable=SC1090 # written by us
. "/etc/garbi/node-$1.env"
set +a
"$hyper" purge --yes --data-dir "$data_dir" >&2
echo "garbi: changed"
