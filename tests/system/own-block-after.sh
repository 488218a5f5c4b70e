# After the plug was pulled in own-block: every record that the guest was told is on stable storage is there.
# limit: 60
. /usr/lib/radon/lib.sh
modprobe -a nvme crc32c_generic xfs
check data-disk waitfor 30 [ -b /dev/nvme0n1 ]
mkdir -p /data
check mount-data mount -t xfs /dev/nvme0n1 /data
found=0
for n in $(seq 40); do
    record=$(dd if=/data/ledger.img bs=4096 skip=$n count=1 2> /dev/null | tr -d ' \0')
    [ "$record" = "record$n" ] && found=$((found + 1))
done
expect acknowledged-writes "$found of 40 are there" [ $found = 40 ]
umount /data
