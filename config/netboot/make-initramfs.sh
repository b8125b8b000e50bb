#!/bin/sh
# Builds the initramfs of a diskless client whose root file system comes from nbdgate: busybox, nbd-client, the modules
# of one kernel, and for TLS the certificates. What it does at boot, and the kernel command line: the file `init` beside.
#
#   make-initramfs.sh [--kernel VERSION] [--root FOLDER] [--modules "NAME ..."] [--certs FOLDER] --output FILE
#
#   --kernel    which one; the running one unless said
#   --root      where its lib/modules is; / unless said
#   --modules   drivers of network cards, beside those that are usual
#   --certs     ca-cert.pem, client-cert.pem, client-key.pem, as `nbdgate certs client NAME` makes them
#
# Needs busybox-static, nbd-client, kmod, cpio. With --certs whoever can read FILE is that client, so it is made 0600; one
# that a boot server hands out to all needs no certificate but a network of its own: a `tcp` door with `from:`.
set -eu
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "make-initramfs.sh: $*" >&2
  exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
kernel=$(uname -r) root=/ certs='' output=''
modules='virtio_pci virtio_net e1000 e1000e igb igc ixgbe r8169 tg3 bnx2 bnx2x vmxnet3 hv_netvsc xen-netfront ena mlx4_en mlx5_core'
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || fail "$1 wants a value"
  case $1 in
    --kernel) kernel=$2 ;;
    --root) root=$2 ;;
    --modules) modules="$modules $2" ;;
    --certs) certs=$2 ;;
    --output) output=$2 ;;
    *) fail "unknown option $1" ;;
  esac
  shift 2
done
[ -n "$output" ] || fail "--output FILE is missing"
[ -d "$root/lib/modules/$kernel" ] || fail "$root/lib/modules/$kernel is not there"

find_program() { command -v "$1" || fail "$1 is not installed (Debian: $2)"; }
busybox=$(find_program busybox busybox-static)
client=$(find_program nbd-client nbd-client)
find_program modprobe kmod >/dev/null
find_program cpio cpio >/dev/null
if ldd "$busybox" >/dev/null 2>&1; then fail "$busybox is not static: install busybox-static"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$tree/bin" "$tree/sbin" "$tree/etc" "$tree/modules" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/run" "$tree/root"

cp "$busybox" "$tree/bin/busybox"
for each in sh cat echo insmod ip mkdir mount reboot sleep switch_root udhcpc; do ln -s busybox "$tree/bin/$each"; done
cp "$client" "$tree/sbin/nbd-client"
for library in $(ldd "$client" | grep -o '/[^ )]*'); do
  mkdir -p "$tree${library%/*}"
  cp -L "$library" "$tree$library"
done
cp "$here/init" "$tree/init"
cp "$here/udhcpc" "$tree/udhcpc"
chmod 0755 "$tree/init" "$tree/udhcpc"

# A package that was only unpacked knows nothing of what needs what.
[ -s "$root/lib/modules/$kernel/modules.dep" ] || depmod -b "$root" "$kernel"
: >"$tree/modules/order"
load() {
  modprobe -d "$root" -S "$kernel" --show-depends "$1" 2>/dev/null | while read -r what path _; do
    [ "$what" = insmod ] || continue
    name=${path##*/}
    grep -qxF "$name" "$tree/modules/order" && continue
    cp "$path" "$tree/modules/$name"
    echo "$name" >>"$tree/modules/order"
  done
}
for each in $modules ext4 xfs; do load "$each"; done
load nbd
grep -q '^nbd\.' "$tree/modules/order" || grep -q '/nbd\.ko' "$root/lib/modules/$kernel/modules.builtin" ||
  fail "the kernel $kernel has no module nbd"

if [ -n "$certs" ]; then
  mkdir -p "$tree/certs"
  for each in ca-cert.pem client-cert.pem client-key.pem; do
    [ -r "$certs/$each" ] || fail "$certs/$each can not be read"
    cp "$certs/$each" "$tree/certs/$each"
  done
fi

umask 077
(cd "$tree" && find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0) | gzip -n >"$output"
[ -n "$certs" ] || chmod 0644 "$output"
echo "$output: $(wc -l <"$tree/modules/order") modules of $kernel${certs:+, certificates of $certs}"
