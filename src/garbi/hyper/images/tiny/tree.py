"""The file tree inside the tiny images, the same for the virtual machine and the container: busybox and a few scripts.

What it serves: port 80, a page with what the guest sees of itself (`/`, and `/cgi-bin/info` as lines `name value`);
UDP port 7, an echo. For tests: `/cgi-bin/exit` ends the machine with an error code (a virtual machine powers off),
`/cgi-bin/crash` is a kernel panic there and exit code 134 in a container, `/cgi-bin/eat?N` uses N MiB of memory once,
`/cgi-bin/burn?N` keeps every processor busy for N seconds, `/cgi-bin/say?TEXT` writes a line to the console.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from garbi.hyper.images.tiny.echo import udp_echo_program

READY_LINE = "tiny: ready"
"""How the line begins that the guest prints on its console when the page is served."""

# fmt: off
APPLETS = (
    "[", "acpid", "cat", "chmod", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env", "expr", "false", "free",
    "grep", "head", "hexdump", "hostname", "httpd", "id", "ifconfig", "ip", "kill", "ln", "ls", "mkdir", "mount",
    "mv", "nc", "nproc", "nslookup", "ping", "poweroff", "ps", "reboot", "rm", "route", "sed", "seq", "sh", "sleep",
    "sort", "stat", "sync", "tail", "test", "timeout", "top", "touch", "tr", "true", "udhcpc", "umount", "uname",
    "uptime", "vi", "wc", "wget", "which", "xargs",
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the tree: a directory (`content` None, no `link`), a regular file, or a symbolic link."""

    mode: int
    content: bytes | None = None
    link: str | None = None


_BOOT = """\
#!/bin/sh
# First program of the virtual machine: devices and drivers; what is the same in a container follows in /sbin/init.
export PATH=/bin:/sbin TINY_VM=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /run
while read -r module; do insmod "/lib/modules/$module" 2>/dev/null; done </lib/modules/order
acpid -f -l /dev/null -p /run/acpid.pid 2>/dev/null &
exec /sbin/init
"""

_INIT = """\
#!/bin/sh
# Serves the page and the echo, as process 1 of a virtual machine or of a container; ends at once when asked to.
export PATH=/bin:/sbin
end() { [ -n "$TINY_VM" ] && exec poweroff -f; exit "$1"; }
trap 'end 0' TERM INT PWR
trap 'end 3' USR1
trap 'end 134' USR2
name=$(hostname)
case $name in ''|'(none)'|localhost) hostname tiny 2>/dev/null;; esac
ip link set lo up 2>/dev/null
httpd -f -h /www &
httpd=$!
[ -x /bin/udp-echo ] && while :; do udp-echo; sleep 1; done &
address() { ip -4 -o addr show dev eth0 2>/dev/null | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'; }
if [ -e /sys/class/net/eth0 ] && [ -z "$(address)" ] && ip link set eth0 up 2>/dev/null; then
    udhcpc -i eth0 -b -S -T 1 -t 10 -A 2 -s /etc/dhcp >/dev/null 2>&1
fi
echo "tiny: ready, $(hostname) serves a page at http://$(address)/"
wait $httpd
end 1
"""

_DHCP = """\
#!/bin/sh
# What udhcpc does with a lease.
case $1 in
    deconfig) ip link set "$interface" up ;;
    bound|renew)
        ip addr replace "$ip/${mask:-24}" dev "$interface"
        for gateway in $router; do ip route replace default via "$gateway"; done
        for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
        [ -n "$hostname" ] && hostname "$hostname"
        ;;
esac
exit 0
"""

_POWER_BUTTON = """\
#!/bin/sh
exec poweroff -f
"""

_FACTS = """\
# What this machine sees of itself, in shell variables; only built-ins, so that a page is quick.
read_first() { read -r "$2" <"$1"; } 2>/dev/null
read_first /proc/sys/kernel/hostname hostname
while read -r key value _; do [ "$key" = MemTotal: ] && break; done </proc/meminfo
memory_kib=$value
cpus=$(nproc)
read -r now _ </proc/uptime
set -- $(cat /proc/1/stat)
uptime=$((${now%.*} - ${22} / 100))
read -r _ _ kernel _ </proc/version
limit=none
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
    [ -r $file ] && read_first $file limit
done
quota=none
[ -r /sys/fs/cgroup/cpu.max ] && read_first /sys/fs/cgroup/cpu.max quota
[ -r /sys/fs/cgroup/cpu/cpu.cfs_quota_us ] && read_first /sys/fs/cgroup/cpu/cpu.cfs_quota_us quota &&
    read_first /sys/fs/cgroup/cpu/cpu.cfs_period_us period && quota="$quota $period"
kind=container
[ -n "$TINY_VM" ] && kind=vm
"""

_INFO = """\
#!/bin/sh
. /www/facts
printf 'Content-Type: text/plain\\r\\n\\r\\n'
printf '%s %s\\n' hostname "$hostname" kind "$kind" memory_kib "$memory_kib" memory_limit_bytes "$limit" cpus "$cpus" \
    cpu_quota "$quota" uptime_seconds "$uptime" kernel "$kernel"
"""

_PAGE = """\
#!/bin/sh
. /www/facts
printf 'Content-Type: text/html; charset=utf-8\\r\\n\\r\\n'
cat <<END
<!DOCTYPE html>
<html lang="en"><head><title>$hostname</title></head>
<body><h1>Hello from $hostname</h1>
<p>This is a tiny $kind made by Garbi.</p>
<table>
<tr><th>memory</th><td>$memory_kib KiB (limit: $limit bytes)</td></tr>
<tr><th>processors</th><td>$cpus (quota: $quota)</td></tr>
<tr><th>running for</th><td>$uptime s</td></tr>
<tr><th>kernel</th><td>$kernel</td></tr>
</table></body></html>
END
"""

_EXIT = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\nending\\n'
kill -USR1 1
"""

_CRASH = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\ncrashing\\n'
if [ -n "$TINY_VM" ]; then echo c >/proc/sysrq-trigger; else kill -USR2 1; fi
"""

_EAT = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
case $QUERY_STRING in ''|*[!0-9]*|?????*) echo 'say how many MiB, 0 to 9999: /cgi-bin/eat?64'; exit;; esac
if dd if=/dev/zero of=/dev/null bs="${QUERY_STRING}M" count=1 2>/dev/null; then echo eaten; else echo refused; fi
"""

_BURN = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
case $QUERY_STRING in ''|*[!0-9]*|???*) echo 'say how many seconds, 0 to 99: /cgi-bin/burn?5'; exit;; esac
for _ in $(seq "$(nproc)"); do timeout "$QUERY_STRING" sh -c 'while :; do :; done' & done
wait
echo burnt
"""

_SAY = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\nsaid\\n'
httpd -d "$QUERY_STRING" >/proc/1/fd/1
echo >/proc/1/fd/1
"""


def build_tree(busybox: bytes) -> dict[str, Entry]:
    """The tree by path, without a leading slash, directories before what is in them."""
    tree = {name: Entry(0o755) for name in ("bin", "sbin", "etc", "etc/acpi", "etc/acpi/PWRF", "lib", "lib/modules")}
    tree |= {name: Entry(0o755) for name in ("dev", "proc", "sys", "run", "root", "www", "www/cgi-bin")}
    tree["tmp"] = Entry(0o1777)
    tree["bin/busybox"] = Entry(0o755, busybox)
    tree["bin/udp-echo"] = Entry(0o755, udp_echo_program())
    tree |= {f"bin/{applet}": Entry(0o777, link="busybox") for applet in APPLETS}
    tree |= {f"sbin/{applet}": Entry(0o777, link="../bin/busybox") for applet in ("insmod", "modprobe", "udhcpc")}
    tree["etc/passwd"] = Entry(0o644, b"root:x:0:0:root:/root:/bin/sh\n")
    tree["etc/group"] = Entry(0o644, b"root:x:0:\n")
    tree["www/facts"] = Entry(0o644, _FACTS.encode())
    return tree | {path: Entry(0o755, text.encode()) for path, text in _SCRIPTS.items()}


_SCRIPTS: Mapping[str, str] = {
    "init": _BOOT,
    "sbin/init": _INIT,
    "etc/dhcp": _DHCP,
    "etc/acpi/PWRF/00000080": _POWER_BUTTON,
    "www/cgi-bin/index.cgi": _PAGE,
    "www/cgi-bin/info": _INFO,
    "www/cgi-bin/exit": _EXIT,
    "www/cgi-bin/crash": _CRASH,
    "www/cgi-bin/eat": _EAT,
    "www/cgi-bin/burn": _BURN,
    "www/cgi-bin/say": _SAY,
}
