# Guests' disks served by radon-block: a Debian's root disk, data under load while the server is killed, discards, several rings, a disk
# that comes, grows and goes, clones; at last a guest writes and flushes, and the machine's plug is pulled.
# limit: 300
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh
B=radon-block
modprobe -a nvme crc32c_generic xfs
check data-disk waitfor 30 [ -b /dev/nvme0n1 ]
mkdir -p /data
check mount-data mount -t xfs /dev/nvme0n1 /data

serve() {
    $B serve >> /run/radon-block.log 2>&1 &
    server=$!
}
serving() { [ "$(grep -c 'radon-block: serving' /run/radon-block.log)" -ge $1 ]; }
serve
check serving waitfor 20 serving 1
check one-server-only sh -c "! $B serve"
own() { echo "$1,$2,backend=radon"; }

# Debian from a file, and a second disk under load, on two rings; the server is killed five times meanwhile.
# Its root disk is a clone: what it has in common with the base is read through the shared cache.
export RADON_REPOSITORY=/data/sr
check repository radon-volume init
check base radon-volume import base $GUEST/disk.img
check clone radon-volume clone base deb
deb=/data/sr/volumes/$(radon-volume --json show deb | sed 's/.*"id":"\([^"]*\)".*/\1/').raw
before=$(cksum < /data/sr/volumes/$(radon-volume --json show base | sed 's/.*"id":"\([^"]*\)".*/\1/').raw)
truncate -s 64M /data/storm.img
rm -f "$(console_of deb)"
check create $VM create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --memory 192 --vcpus 2 --disk $(own xvda $deb) --disk $(own xvdb /data/storm.img) --cmdline "console=hvc0 quiet radon.do=storm,write,trim root=/dev/xvda" deb
check debian-from-disk guest_says deb "userspace debian-12" 90
check two-rings grep -q 'disk .*-51712: 2 rings' /run/radon-block.log
check no-loop-device [ -z "$(losetup -a)" ]
check storm-begins guest_says deb "storm begins" 30
kills=0
goes_on() { [ "$(grep -c 'goes on with 2 rings' /run/radon-block.log)" -ge $1 ]; }
for at in 1 4 7; do
    waitfor 60 said deb "storm at $at"
    kill -9 $server
    wait $server 2> /dev/null
    kills=$((kills + 1))
    serve
    check goes-on-$kills waitfor 20 goes_on $((2 * kills))
done
expect killed-in-the-middle "the guest was done" sh -c "! grep -q storm-ok $(console_of deb)"
check storm-survives-kills guest_says deb storm-ok 90
expect no-error "$(grep -a -m 2 'storm-error\|I/O error\|blkfront.*err' "$(console_of deb)")" sh -c "! grep -a -q 'storm-error\|I/O error' $(console_of deb)"
check write-read guest_says deb disk-ok 60
check trimmed guest_says deb GUEST.trimmed 60
# Of the storm's 9 MiB, 6 were given back.
sync
expect blocks-freed "$(stat -c %b /data/storm.img) blocks" [ "$(stat -c %b /data/storm.img)" -le $(((9 - 6) * 2048 + 64)) ]
# Its file is its own: nobody else gets it.
check second-guest-refused sh -c "$VM create --kernel $GUEST/minimal --memory 16 --disk $(own xvda $deb) thief 2>&1 | grep 'in use'"
check list sh -c "$B list | grep -q -- '-51728 .*discards=[1-9]'"
shared=$($B list | sed -n 's/.*-51712 .*bytes-read=\([0-9]*\) bytes-shared=\([0-9]*\).*/\1 \2/p')
expect clone-is-read-through-the-cache "read and shared: $shared" [ $((${shared#* } + 0)) -gt 0 ]
check destroy-deb $VM destroy deb
after=$(cksum < /data/sr/volumes/$(radon-volume --json show base | sed 's/.*"id":"\([^"]*\)".*/\1/').raw)
expect base-untouched "checksum differs" [ "$before" = "$after" ]
expect no-trace "$(traces | tr '\n' ' ')" traceless
expect no-file "$(ls /run/radon-block)" [ "$(ls /run/radon-block)" = lock ]
modprobe ext4
# Read and written: the guest was destroyed, its journal is to be replayed.
check loop-mount mount -o loop $deb /mnt
expect data-on-disk "size is $(stat -c %s /mnt/root/data)" [ "$(stat -c %s /mnt/root/data)" = 2097152 ]
umount /mnt
$VM delete deb

# A disk that comes, grows, and goes; one that may only be read.
truncate -s 8M /data/extra.img
check create-plug up plug watch
check attach $VM attach-disk plug xvdb /data/extra.img --backend radon
check attach-seen guest_says plug "disks=.*xvdb.*sizes=16384" 30
truncate -s 12M /data/extra.img
check growth-seen guest_says plug "disks=.*xvdb.*sizes=24576" 30
check detach $VM detach-disk plug xvdb
check attach-read-only $VM attach-disk plug xvdc /data/extra.img --backend radon --read-only
check read-only-seen guest_says plug "disks=.*xvdc.*ro=1" 30
check detach-forced $VM detach-disk plug xvdc --force
check attach-missing sh -c "! $VM attach-disk plug xvdd /data/nothing.img --backend radon"
check destroy $VM destroy plug
expect no-trace-of-plug "$(traces | tr '\n' ' ')" traceless
$VM delete plug

# Forty records, each flushed; then the machine is gone, and own-block-after looks for them.
truncate -s 16M /data/ledger.img
sync
check create-ledger up ledger ledger --disk $(own xvdb /data/ledger.img)
check ledger-written guest_says ledger "ledger 40" 60
milestone "scenario-end own-block"
milestone pull-the-plug
sleep 60
