#!/bin/busybox sh
# Instructions of snapshots, clones and deletions: the emulator's clock counts them, so the processes' times are instructions, the
# kernel's work for them included. Runs as the first process, for `cargo xtask bench volumes`.
/bin/busybox mkdir -p /proc /sys /dev /srv /tmp
/bin/busybox --install -s /bin
export PATH=/bin RADON_REPOSITORY=/srv/sr
say() { echo "volumes: $*"; }
fail() { say "FAIL $*"; cat /tmp/out; poweroff -f; }
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in virtio_pci virtio_blk crc32c_generic xfs; do modprobe $module || fail "module $module"; done
mount -t xfs /dev/vda /srv || fail "no XFS"
radon-volume init > /tmp/out 2>&1 || fail init

# volume NAME SIZE PIECES: with data in so many places.
volume() {
    id=$(radon-volume create $1 $2) || fail "create $1"
    step=$(($2 / 4096 / $3)) at=0
    while [ $at -lt $3 ]; do
        echo x | dd of=/srv/sr/volumes/$id.raw bs=4096 seek=$((at * step)) conv=notrunc 2> /dev/null
        at=$((at + 1))
    done
    sync
}
# count NAME PIECES OPERATION COMMAND: twenty of them.
count() {
    time -f "%U %S" -o /tmp/time sh -c "for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do $4 || exit 1; done" > /tmp/out 2>&1 || fail "$3 of $1"
    set -- $1 $2 $3 $(cat /tmp/time)
    say "instructions $1 $2 $3 $(echo $4 $5 | awk '{ printf "%.1f", ($1 + $2) * 1000 / 20 }')"
}
volume 1GiB 1073741824 64
volume 64TiB 70368744177664 64
volume 64TiB-scattered 70368744177664 1000
for volume in "1GiB 64" "64TiB 64" "64TiB-scattered 1000"; do
    set -- $volume
    count $1 $2 snapshot "radon-volume snapshot $1 s\$n"
    count $1 $2 clone "radon-volume clone $1 c\$n"
    count $1 $2 delete "radon-volume delete s\$n"
    count $1 $2 nothing "radon-volume --version"
    for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do radon-volume delete c$n; done
done
say "all passed"
poweroff -f
