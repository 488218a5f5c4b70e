# Eight clones of a Debian start at once, their disks served as `radon.storm` says: what is read from dom0's disk until the last of them
# is up.
# limit: 500
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
read_kib() { awk '{printf "%d", $3 / 2}' /sys/block/nvme0n1/stat; }
kind=$(cmdline radon.storm)
case $kind in
shared) server= backend=radon ;;
alone) server=--no-share backend=radon ;;
*) server= backend=$kind ;;
esac
radon-block serve $server > /run/radon-block.log 2>&1 &
waitfor 20 grep -q serving /run/radon-block.log
for i in 1 2 3 4 5 6 7 8; do
    radon-volume clone base c$i
    rm -f "$(console_of c$i)"
    guest_config c$i 96 1 idle "disk = ['format=raw,vdev=xvda,access=rw,backendtype=qdisk,target=$(file c$i)']"
    sed -i "s|^extra = .*|extra = 'console=hvc0 quiet radon.do=idle root=/dev/xvda'|" /run/c$i.cfg
done
sync
echo 3 > /proc/sys/vm/drop_caches
before=$(read_kib)
for i in 1 2 3 4 5 6 7 8; do
    case $backend in
    qdisk) check c$i xl create /run/c$i.cfg ;;
    *) check c$i $VM create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --memory 96 --disk xvda,$(file c$i),backend=$backend --cmdline "console=hvc0 quiet radon.do=idle root=/dev/xvda" c$i ;;
    esac
done
for i in 1 2 3 4 5 6 7 8; do check c$i-up guest_says c$i "userspace debian-12" 60 || radon-block list; done
figure storm-read-$kind $(($(read_kib) - before)) KiB
radon-block list
# What dom0 has it in: page cache, and the processes that serve.
grep -e '^MemFree' -e '^Cached' /proc/meminfo
