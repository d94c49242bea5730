#!/bin/sh
# forget.sh PORT DATA_DIR
set -eu
env=/etc/garbi/node-$1.env link=/opt/garbi/node-$1 data_dir=$2
if [ ! -e "$env" ] && [ ! -L "$link" ] && [ ! -e "$data_dir" ]; then exit 0; fi
if [ -e "$data_dir/hyper.db" ]; then
    echo "$data_dir still has the database of an agent: its machines were not removed" >&2
    exit 1
fi
rm -rf "$data_dir"
rm -f "$link" "$env"
echo "garbi: changed"
