#!/bin/sh
# bind_libvirt.sh RELEASE: the distribution's binding of libvirt in hyper's own environment, which the node of a witness may have made.
set -eu
packages=$("/opt/garbi/$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for file in /usr/lib/python3/dist-packages/libvirt*; do
    link=$packages/${file##*/}
    if [ "$(readlink "$link")" = "$file" ]; then continue; fi
    ln -sf "$file" "$link"
    echo "garbi: changed"
done
