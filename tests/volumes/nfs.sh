#!/bin/busybox sh
# Volumes on NFS 4.2: one machine is server (an XFS) and client. Runs as the first process; what it says is judged by `cargo xtask test`.
/bin/busybox mkdir -p /proc /sys /dev /export /mnt /run /tmp /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin
say() { echo "volumes: $*"; }
fail() { say "FAIL $*"; dmesg | tail -n 20; poweroff -f; }
must() { what=$1; shift; "$@" > /tmp/out 2>&1 || { cat /tmp/out; fail "$what: $*"; }; say "pass $what"; }
same() { [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"; say "pass $1"; }

mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in virtio_pci virtio_blk crc32c_generic xfs nfs nfsv4 nfsd; do modprobe $module || fail "module $module"; done
ip link set lo up
mount -t xfs /dev/vda /export || fail "no XFS"

# The server, without its helpers: what they would answer stands in the kernel's caches beforehand.
mount -t nfsd nfsd /proc/fs/nfsd
echo 10 > /proc/fs/nfsd/nfsv4leasetime
echo 10 > /proc/fs/nfsd/nfsv4gracetime
end=$(($(date +%s) + 86400))
echo "nfsd 127.0.0.1 $end local" > /proc/net/rpc/auth.unix.ip/channel
# Flags of linux/nfsd/export.h: insecure port, no subtree check, fsid (0, the root).
echo "local /export $end $((0x2 | 0x400 | 0x2000)) 65534 65534 0" > /proc/net/rpc/nfsd.export/channel
echo "local 1 \\x00000000 $end /export" > /proc/net/rpc/nfsd.fh/channel
echo "-2 -3 +4 +4.1 +4.2" > /proc/fs/nfsd/versions 2> /dev/null
echo "tcp 2049" > /proc/fs/nfsd/portlist || fail "the server takes no port"
echo 4 > /proc/fs/nfsd/threads || fail "the server does not start"
echo Y > /proc/fs/nfsd/v4_end_grace 2> /dev/null
mount -t nfs4 -o vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1 127.0.0.1:/ /mnt || fail "NFS cannot be mounted"
say "pass mount"

export RADON_REPOSITORY=/mnt/sr
must init radon-volume init
must info sh -c 'radon-volume info --json | grep -q "\"file_system\":\"nfs\""'
head -c 3000000 /dev/urandom > /tmp/image
truncate -s 64M /tmp/image
must import radon-volume import disk /tmp/image
must snapshot radon-volume snapshot disk one
id=$(radon-volume --json show disk | sed 's/.*"id":"\([^"]*\)".*/\1/')
dd if=/dev/urandom of=/mnt/sr/volumes/$id.raw bs=64k seek=16 count=1 conv=notrunc,fsync 2> /dev/null
dd if=/dev/urandom of=/mnt/sr/volumes/$id.raw bs=64k seek=640 count=1 conv=notrunc,fsync 2> /dev/null
must second-snapshot radon-volume snapshot disk two
same changed "$(radon-volume changed two --since one | tr '\n' ';')" "1048576 65536;41943040 65536;"
must export radon-volume export one /tmp/out.raw
must same-bytes cmp /tmp/image /tmp/out.raw
must clone radon-volume clone one copy
must resize radon-volume resize copy 128M
must export-qcow2 radon-volume export copy /tmp/out.qcow2
must import-qcow2 radon-volume import again /tmp/out.qcow2
must thin sh -c '[ $(du -k /export/sr/volumes | cut -f 1) -lt 20000 ]'
# Killed in the middle of an import: the next command takes away what is there of it.
mkfifo /tmp/pipe
radon-volume import never - --format raw < /tmp/pipe > /dev/null 2>&1 &
killed=$!
exec 4> /tmp/pipe
head -c 2000000 /dev/urandom >&4
until [ $(ls /export/sr/volumes | wc -l) = 6 ]; do usleep 10000; done
must list-meanwhile radon-volume list
same kept "$(ls /export/sr/volumes | wc -l)" 6
kill -9 $killed; wait $killed 2> /dev/null; exec 4>&-
must delete radon-volume delete disk one copy again
must check radon-volume check
same files "$(ls /export/sr/volumes /export/sr/frozen | grep -c raw)" 1
umount /mnt || fail "the repository is still in use"
say "all passed"
poweroff -f
