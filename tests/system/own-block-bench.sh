# Requests to a disk that costs nothing (null_blk), served by dom0's kernel, by radon-block and by QEMU's qdisk. Run under -icount: a
# nanosecond here is an instruction of the machine.
# limit: 900
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh
# Of the size of requests that disks take, so that nobody has to split any.
check modules modprobe null_blk nr_devices=3 irqmode=0 gb=1 max_sectors=2560
radon-block serve --no-share > /run/radon-block.log 2>&1 &
waitfor 20 grep -q serving /run/radon-block.log
mkdir -p /run/add/usr/sbin
cp /usr/local/sbin/radon-block /run/add/usr/sbin
(cd /run/add && find . | cpio -o -H newc > /run/add.cpio) 2> /dev/null
cat $GUEST/initrd /run/add.cpio > /run/initrd
# figures NAME: what the guest has measured, by the names of its disks.
figures() {
    check $1 guest_says $1 "load done" 600
    grep -a "GUEST figure" "$(console_of $1)" | tr -d '\r' | while read -r guest word name value; do figure $name $value i; done
}
rm -f "$(console_of own)"
check create $VM create --kernel $GUEST/vmlinuz --initrd /run/initrd --memory 192 --disk xvdb,/dev/nullb0 --disk xvdc,/dev/nullb1,backend=radon --cmdline "console=hvc0 quiet radon.do=load radon.load=xvdb,xvdc" own
figures own
radon-block list
$VM destroy own
guest_config qdisk 192 1 load "disk = ['format=raw,vdev=xvdd,access=rw,backendtype=qdisk,target=/dev/nullb2']"
sed -i "s|^ramdisk = .*|ramdisk = '/run/initrd'|; s|^extra = .*|extra = 'console=hvc0 quiet radon.do=load radon.load=xvdd'|" /run/qdisk.cfg
check create-qdisk create qdisk && figures qdisk
tail -n 5 /var/log/xen/qemu-dm-qdisk.log
