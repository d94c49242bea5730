#!/bin/sh
# With the last node goes all that was made for nodes: units, directories, the mount, and the packages that we installed, unless
# somebody uses them now. Runs without Python, which may be among them.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"
record=/etc/garbi/before ours=/etc/garbi/installed
going=$(mktemp -d)
trap 'rm -rf "$going"' EXIT

say() { echo "garbi: $*"; }
was() { grep -qxF -- "$2" "$record/$1"; }
installed() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | sed -n 's/^ii  *//p' | sort; }
present() { [ -s "$going/packages" ] && grep -qxE "$1" "$going/packages"; }

# What was set in a Docker that was there before goes, unless somebody has changed it since; a dockerd that runs keeps it until it ends.
give_back_docker_settings() {
    settings=/etc/docker/daemon.json kept=$record/docker-settings
    if [ ! -e "$kept/ours" ] || ! cmp -s "$kept/ours" "$settings"; then return 0; fi
    if [ -e "$kept/before" ]; then cat "$kept/before" >"$settings"; else rm -f "$settings"; fi
}

forget_files() {
    unit=var-lib-garbi-share.mount
    if [ -e "/etc/systemd/system/$unit" ]; then
        systemctl disable -q --now "$unit"
        systemctl reset-failed "$unit" 2>/dev/null || true
    fi
    rm -f "/etc/systemd/system/$unit" /etc/systemd/system/garbi-hyper@.service /etc/systemd/system/garbi-watchdog@.service \
        /etc/sysctl.d/60-garbi.conf
    systemctl daemon-reload
    systemctl stop 'system-garbi\x2dhyper.slice' 'system-garbi\x2dwatchdog.slice' 2>/dev/null || true
    rm -rf /opt/garbi /run/garbi
    if [ -d /var/lib/garbi/share ]; then rmdir /var/lib/garbi/share; fi
    rmdir /var/lib/garbi 2>/dev/null || true
}

# What is ours and still there, or nothing when somebody else needs it.
choose_packages() {
    if [ -e /etc/garbi/pending ]; then installed | comm -13 /etc/garbi/pending - >>"$ours"; fi
    [ -e "$ours" ] || return 0
    installed >"$going/now"
    sort -u "$ours" | comm -12 - "$going/now" | comm -23 - "$record/packages" >"$going/packages"
    reason=$(needed_by)
    if [ -n "$reason" ]; then
        say "the packages that were installed stay: $reason"
        : >"$going/packages"
    fi
}

needed_by() {
    if present 'docker\.io' && [ -n "$(docker ps --all --quiet)" ]; then
        echo "Docker has containers that are not ours"
    elif present libvirt-daemon && [ -n "$(virsh -q -c qemu:///system list --all --name | tr -d '[:space:]')" ]; then
        echo "libvirt has machines that are not ours"
    elif [ -s "$going/packages" ]; then
        xargs apt-get -q -s purge <"$going/packages" | sed -n 's/^\(Purg\|Remv\) \([^ ]*\).*/\2/p' | sort >"$going/all"
        others=$(comm -23 "$going/all" "$going/packages" | tr '\n' ' ')
        if [ -n "$others" ]; then echo "others need them: $others"; fi
    fi
}

stop_units() {
    [ -s "$going/packages" ] || return 0
    xargs dpkg -L <"$going/packages" | sed -n 's#^.*/systemd/system/\([^/@]*\.\(service\|socket\|target\|timer\|mount\)\)$#\1#p' |
        grep -v '^dbus' | sort -u >"$going/units"
    xargs -r systemctl stop <"$going/units" 2>/dev/null || true
    xargs -r systemctl reset-failed <"$going/units" 2>/dev/null || true
    if grep -qx systemd-machined.service "$going/units"; then systemctl stop machine.slice; fi
}

# Docker and libvirt leave bridges and tables behind; where they go, these go, if they were not there before.
remove_networks() {
    present 'docker\.io|libvirt-daemon' || return 0
    pkill -F /run/libvirt/network/default.pid 2>/dev/null || true
    for link in docker0 virbr0; do
        if [ -e "/sys/class/net/$link" ] && ! was links "$link"; then ip link delete "$link"; fi
    done
    for family in ip ip6; do
        for name in filter nat mangle raw libvirt_network docker-bridges; do
            if ! nft list table "$family" "$name" >"$going/table" 2>/dev/null; then continue; fi
            if was tables "table $family $name"; then
                remove_rules "$family" "$name"
            else
                nft delete table "$family" "$name"
            fi
        done
    done
    if [ "$(cat "$record/ip_forward")" = 0 ]; then echo 0 >/proc/sys/net/ipv4/ip_forward; fi
}

# In a table that was there before only the rules and chains of Docker and libvirt go.
remove_rules() {
    nft list chains "$1" | awk -v table="$2" '$1 == "table" { here = $3 == table } here && $1 == "chain" { print $2 }' |
        grep -E '^(DOCKER|LIBVIRT_)' | while read -r chain; do was chains "$1 $2 $chain" || echo "$chain"; done >"$going/chains"
    nft -a list table "$1" "$2" | awk -v table="$1 $2" -v chains="$going/chains" '
        BEGIN { while ((getline name < chains) > 0) ours[name] = 1 }
        $1 == "chain" { chain = $2; next }
        / # handle / {
            found = /"(docker0|virbr0)"/
            for (i = 1; i < NF; i++) if (($i == "jump" || $i == "goto") && $(i + 1) in ours) found = 1
            if (found && !(chain in ours)) print "delete rule", table, chain, "handle", $NF
        }' >"$going/orders"
    sed "s/.*/flush chain $1 $2 &/" "$going/chains" >>"$going/orders"
    sed "s/.*/delete chain $1 $2 &/" "$going/chains" >>"$going/orders"
    nft -f "$going/orders"
    if [ "$2" = filter ] && nft list chain "$1" filter FORWARD 2>/dev/null | grep -q 'policy drop' &&
        ! was chains "$1 filter FORWARD drop"; then
        nft "chain $1 filter FORWARD { policy accept; }"
    fi
}

remove_packages() {
    [ -s "$going/packages" ] || return 0
    xargs apt-get -q -y -o DPkg::Lock::Timeout=300 purge <"$going/packages" >&2
    for user in libvirt-qemu libvirt-dnsmasq dnsmasq swtpm tss polkitd messagebus _rpc statd; do
        if getent passwd "$user" >/dev/null && ! was users "$user"; then userdel "$user" >&2 || true; fi
    done
    for group in libvirt libvirt-qemu libvirt-dnsmasq docker kvm rdma swtpm tss polkitd messagebus; do
        if getent group "$group" >/dev/null && ! was groups "$group"; then groupdel "$group" >&2 || true; fi
    done
    if present 'docker\.io'; then rm -rf /run/docker /run/docker.sock /run/containerd; fi
    if present libvirt-daemon; then rm -rf /run/libvirt; fi
    for path in /etc/cni /etc/xml /etc/docker /etc/libvirt /etc/containerd /etc/dnsmasq.d /etc/qemu /etc/apparmor.d /etc/iptables \
        /opt/containerd /var/lib/docker /var/lib/containerd /var/lib/libvirt /var/lib/dnsmasq /var/cache/libvirt \
        /var/log/libvirt /var/log/swtpm /var/lib/swtpm-localca /var/lib/docker/* /var/lib/containerd/* /var/lib/libvirt/*; do
        if [ -e "$path" ] && ! was paths "$path"; then rm -rf "$path"; fi
    done
    for path in /var/lib/machines /var/lib/portables; do
        if ! was paths "$path"; then rmdir "$path" 2>/dev/null || true; fi
    done
}

# libvirt makes them with its first network and its first pool, and makes them again when it needs them.
remove_empty_directories() {
    find /etc/libvirt /var/lib/libvirt -depth -type d -empty 2>/dev/null | while read -r path; do
        was paths "$path" || rmdir "$path" 2>/dev/null || true
        path=${path%/*}
        was paths "$path" || rmdir "$path" 2>/dev/null || true
    done
}

if [ ! -e "$record/packages" ]; then exit 0; fi
for node in /etc/garbi/node-*.env; do
    if [ -e "$node" ]; then
        say "another node stays on this host, and what it needs"
        exit 0
    fi
done
give_back_docker_settings
forget_files
if [ -e "$record/complete" ]; then
    choose_packages
    stop_units
    remove_networks
    remove_packages
    remove_empty_directories
fi
rm -rf /etc/garbi
case $0 in */.garbi-ansible/*) rm -rf "${0%%/.garbi-ansible/*}/.garbi-ansible" ;; esac
say changed
