# dom0's own drivers on the devices that the boot of this name adds: MSI-X (NVMe, network card), MSI (AHCI), INTx through the IO-APIC
# (a virtio disk without vectors). Then a guest whose disk is a device: right only because all DMA is copied (swiotlb=force).
# limit: 240
. /usr/lib/radon/lib.sh
modprobe -a nvme ahci sd_mod virtio_pci virtio_blk e1000e
for disk in nvme0n1 sda vda; do
    check disk-$disk waitfor 30 [ -b /dev/$disk ]
done
sum=$(sha256sum < /srv/http/payload)
blocks=$(($(stat -c %s /srv/http/payload) / 65536))
# interrupts WORD: how many came for what /proc/interrupts calls so, and by which way.
interrupts() { awk -v w="$1" '$0 ~ w {for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i} END {print n + 0}' /proc/interrupts; }
moves_data() {
    local disk=$1 word=$2 before=$(interrupts "$2")
    dd if=/srv/http/payload of=/dev/$disk bs=65536 2> /dev/null
    sync
    echo 3 > /proc/sys/vm/drop_caches
    expect $disk-data "read back differs" [ "$(dd if=/dev/$disk bs=65536 count=$blocks 2> /dev/null | sha256sum)" = "$sum" ]
    expect $disk-interrupts "none from $word" [ $(interrupts "$word") -gt $before ]
}
moves_data nvme0n1 "PCI-MSI.*nvme0q"
moves_data sda "PCI-MSI.*ahci"
moves_data vda "IO-APIC.*virtio"

nic=$(ls /sys/bus/pci/drivers/e1000e/*/net 2> /dev/null | head -n 1)
expect nic "no interface of e1000e" [ -n "$nic" ]
ip link set $nic up
ip address add 10.0.2.15/24 dev $nic
cd /tmp
check nic-download waitfor 60 tftp -g -r payload -l /tmp/tftp 10.0.2.2
check nic-sum tftp -g -r payload.sha256 -l /tmp/tftp.sha256 10.0.2.2
expect nic-data "checksum differs" [ "$(sha256sum < /tmp/tftp | cut -c1-64)" = "$(cut -c1-64 /tmp/tftp.sha256)" ]
expect nic-interrupts "none" [ $(interrupts "PCI-MSI.*$nic") -gt 10 ]

# A guest's root disk is the NVMe device itself: its pages go to the device, or rather to buffers of dom0's.
dd if=$GUEST/disk.img of=/dev/nvme0n1 bs=1048576 2> /dev/null
sync
echo 3 > /proc/sys/vm/drop_caches
guest_config onnvme 192 1 write
sed -i "s|^extra = '\(.*\)'|extra = '\1 root=/dev/xvda'|" /run/onnvme.cfg
echo "disk = ['format=raw,vdev=xvda,access=rw,target=/dev/nvme0n1']" >> /run/onnvme.cfg
check guest-on-device guest_up onnvme
check guest-debian guest_says onnvme "userspace debian-12" 5
check guest-write-read guest_says onnvme GUEST.disk-ok 60
xl shutdown onnvme
check guest-powers-off waitfor 60 gone onnvme
modprobe -a crc32c_generic ext4
check mount-device mount -o ro /dev/nvme0n1 /mnt
expect data-on-device "size is $(stat -c %s /mnt/root/data)" [ "$(stat -c %s /mnt/root/data)" = 2097152 ]
umount /mnt
