# Requests to a disk that costs nothing (null_blk), served by dom0's kernel and by radon-block. Run under -icount: a nanosecond here is
# an instruction of the machine.
# limit: 900
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh
check modules modprobe null_blk nr_devices=2 irqmode=0 gb=1
radon-block serve --no-share > /run/radon-block.log 2>&1 &
waitfor 20 grep -q serving /run/radon-block.log
mkdir -p /run/add/usr/sbin
cp /usr/local/sbin/radon-block /run/add/usr/sbin
(cd /run/add && find . | cpio -o -H newc > /run/add.cpio) 2> /dev/null
cat $GUEST/initrd /run/add.cpio > /run/initrd
rm -f "$(console_of load)"
check create $VM create --kernel $GUEST/vmlinuz --initrd /run/initrd --memory 192 --disk xvdb,/dev/nullb0 --disk xvdc,/dev/nullb1,backend=radon --cmdline "console=hvc0 quiet radon.do=load" load
check load guest_says load "load done" 600
grep -a "GUEST figure" "$(console_of load)" | tr -d '\r' | while read -r guest word name value; do figure $name $value i; done
radon-block list
