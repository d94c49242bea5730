#!/bin/sh
# Adds what came since the list of the bootstrap to what is ours.
set -eu
umask 022
export LC_ALL=C
cd /etc/garbi
touch installed
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii  *//p' | sort | comm -13 pending - | sort -u installed - >installed.new
cmp -s installed installed.new || echo "garbi: changed"
mv installed.new installed
rm pending
