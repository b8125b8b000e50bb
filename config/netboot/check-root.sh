#!/bin/sh
# Looks at the root file system of a diskless client, mounted at FOLDER, for what would cut it off from its own disk: the
# network must neither be configured again at boot nor taken down at shutdown, and nbd-client must outlive all others.
#
#   check-root.sh FOLDER         prints `FILE: what is wrong`, a line each; exit status 1 if there is any
set -eu

if [ $# -ne 1 ] || [ ! -d "$1" ]; then
  echo "usage: check-root.sh FOLDER" >&2
  exit 2
fi
cd "$1"

# A file without its comments.
text() { sed 's/#.*//' "$1"; }

# Whether systemd starts a service at boot.
starts() { ls etc/systemd/system/*.wants/"$1" >/dev/null 2>&1; }

ifupdown() {
  for file in etc/network/interfaces etc/network/interfaces.d/*; do
    [ -f "$file" ] || continue
    text "$file" | awk -v file="$file" '
      $1 == "auto" || $1 ~ /^allow-/ { for (i = 2; i <= NF; i++) starts[$i] = 1 }
      $1 == "iface" && $2 != "lo" && $4 != "manual" { how[$2] = $4 }
      END {
        for (each in how) if (each in starts)
          print file ": " each " is configured again at boot and taken down at shutdown: `manual` instead of `" how[each] "`"
      }'
  done
  for link in etc/rc0.d/K*networking etc/rc6.d/K*networking; do
    [ ! -e "$link" ] && [ ! -L "$link" ] || echo "$link: takes the network down at shutdown: remove the link"
  done
}

networkd() {
  starts systemd-networkd.service || return 0
  for file in etc/systemd/network/*.network; do
    [ -f "$file" ] || continue
    text "$file" | grep -qE '^KeepConfiguration=(yes|static|dhcp)' ||
      echo "$file: systemd-networkd takes the address away when it stops: KeepConfiguration=yes"
  done
}

network_manager() {
  starts NetworkManager.service || return 0
  for file in etc/NetworkManager/NetworkManager.conf etc/NetworkManager/conf.d/*.conf; do
    if [ -f "$file" ] && text "$file" | grep -qE '^(unmanaged-devices|managed *= *0)'; then return 0; fi
  done
  echo "etc/NetworkManager/NetworkManager.conf: configures the card again at boot: unmanaged-devices=interface-name:eth0"
}

nbd_client() {
  [ -f etc/nbd-client ] || return 0
  text etc/nbd-client | grep -qiE '^KILLALL="?(true|yes)' || return 0
  echo "etc/nbd-client: nbd-client is killed at shutdown: KILLALL=\"false\""
}

fstab() {
  [ -f etc/fstab ] || return 0
  text etc/fstab | awk '
    $2 == "/" && $1 != "/dev/nbd0" {
      print "etc/fstab: the root is on /dev/nbd0, and there already: " $1 " would be checked and mounted instead"
    }
    $1 ~ /^\/dev\/nbd/ && $3 == "swap" {
      print "etc/fstab: swap over the network can deadlock: no memory without the network, no network without memory"
    }'
}

findings=$(
  ifupdown
  networkd
  network_manager
  nbd_client
  fstab
)
[ -n "$findings" ] || exit 0
echo "$findings"
exit 1
