# Four clones of a Debian start one after the other, with and without the shared cache: what is read from dom0's disk.
# limit: 600
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh
modprobe -a nvme crc32c_generic xfs
waitfor 30 [ -b /dev/nvme0n1 ]
mkdir -p /data
mount -t xfs /dev/nvme0n1 /data
export RADON_REPOSITORY=/data/sr
radon-volume init
radon-volume import base $GUEST/disk.img
file() { echo /data/sr/volumes/$(radon-volume --json show $1 | sed 's/.*"id":"\([^"]*\)".*/\1/').raw; }
# Kilobytes read from the disk so far.
read_kib() { awk '{print $3 / 2}' /sys/block/nvme0n1/stat; }
storm() {
    local name=$1 before i
    shift
    radon-block serve "$@" > /run/radon-block.log 2>&1 &
    server=$!
    waitfor 20 grep -q serving /run/radon-block.log
    for i in 1 2 3 4; do radon-volume clone base $name$i; done
    sync
    echo 3 > /proc/sys/vm/drop_caches
    before=$(read_kib)
    for i in 1 2 3 4; do
        rm -f "$(console_of $name$i)"
        $VM create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --memory 128 --disk xvda,$(file $name$i),backend=radon --cmdline "console=hvc0 quiet radon.do=idle root=/dev/xvda" $name$i
    done
    for i in 1 2 3 4; do check $name-$i-up guest_says $name$i "userspace debian-12" 120; done
    figure storm-read-$name $(($(read_kib) - before)) KiB
    radon-block list
    for i in 1 2 3 4; do $VM destroy $name$i; $VM delete $name$i; done
    kill $server
    wait $server 2> /dev/null
}
storm shared
storm alone --no-share
umount /data
