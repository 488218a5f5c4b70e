# radond in dom0, for clients outside of the machine: the boot of this name adds a disk with XFS and a network card with a way in. The
# clients' end is the machine's.
# limit: 560
. /usr/lib/radon/lib.sh
modprobe -a crc32c_generic nvme xfs e1000e
check disk waitfor 30 [ -b /dev/nvme0n1 ]
mkdir -p /srv/volumes /var/lib/radon/kernels
check mount mount /dev/nvme0n1 /srv/volumes
nic=$(ls /sys/bus/pci/drivers/e1000e/*/net | head -n 1)
ip link set $nic up
ip address add 10.0.2.15/24 dev $nic
cp $GUEST/vmlinuz $GUEST/initrd /var/lib/radon/kernels
/usr/local/sbin/radond serve --https 10.0.2.15:443 --http 10.0.2.15:8080 > /tmp/radond.log 2>&1 &
check radond waitfor 60 grep -q ready /tmp/radond.log
milestone "xenapi $(cat /var/lib/radon/daemon/initial-password)"
# What xl and the store say of it, now and then, for the log.
while :; do
    usleep 20000000
    xl list
    tail -n 3 /tmp/radond.log
done
