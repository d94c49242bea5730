#!/bin/sh
# The record is written once, before anything of ours is on the host: removal gives back what it says.
set -eu
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"
record=/etc/garbi/before

installed() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | sed -n 's/^ii  *//p' | sort; }

if [ ! -e "$record/complete" ] && [ ! -e "$record/packages" ]; then
    mkdir -p "$record"
    installed >"$record/packages.new"
    mv "$record/packages.new" "$record/packages"
fi
# Between this list and what is there once the packages are installed lies what we installed. A run that failed leaves it.
if [ ! -e /etc/garbi/pending ]; then installed >/etc/garbi/pending; fi
missing=
command -v python3 >/dev/null || missing="$missing python3"
installed | grep -qx python3-apt || missing="$missing python3-apt"
command -v nft >/dev/null || missing="$missing nftables"
command -v ip >/dev/null || missing="$missing iproute2"
if [ -n "$missing" ]; then
    apt-get -q -o DPkg::Lock::Timeout=300 update >&2
    # shellcheck disable=SC2086 # a list of words
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends --no-remove $missing >&2
    echo "garbi: changed"
fi
if [ ! -e "$record/complete" ]; then
    getent passwd | cut -d : -f 1 | sort >"$record/users"
    getent group | cut -d : -f 1 | sort >"$record/groups"
    ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | sort >"$record/links"
    nft list tables | sort >"$record/tables"
    nft list chains | awk '
        $1 == "table" { table = $2 " " $3 }
        $1 == "chain" { chain = $2; print table, chain }
        / policy drop;/ { print table, chain, "drop" }' | sort >"$record/chains"
    cat /proc/sys/net/ipv4/ip_forward >"$record/ip_forward"
    {
        find /etc /opt /var/lib /var/cache /var/log -mindepth 1 -maxdepth 2
        find /etc/libvirt /var/lib/libvirt -type d 2>/dev/null || true
    } | sort -u >"$record/paths"
    : >"$record/complete"
    echo "garbi: changed"
fi
