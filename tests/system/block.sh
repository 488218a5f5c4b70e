# A guest's disks: Debian from a file through dom0's blkback, and disks that come and go.
# limit: 240
. /usr/lib/radon/lib.sh
guest_config deb 192 $(cmdline radon.guest_cpus) write disk
check debian-userspace guest_up deb
check debian-from-disk guest_says deb "userspace debian-12" 5
check write-read guest_says deb GUEST.disk-ok 60
check block-list sh -c 'xl block-list deb | grep -q 51712'
xl shutdown deb
check debian-powers-off waitfor 90 gone deb
# What the guest wrote is in the file: dom0 finds it there.
modprobe -a crc32c_generic ext4
check loop-mount mount -o ro,loop /tmp/deb.img /mnt
expect data-on-disk "size is $(stat -c %s /mnt/root/data)" [ "$(stat -c %s /mnt/root/data)" = 2097152 ]
umount /mnt
rm -f /tmp/deb.img

guest_config plug 128 1 watch
check create guest_up plug
dd if=/dev/zero of=/tmp/extra.img bs=1048576 count=8 2> /dev/null
check block-attach xl block-attach plug format=raw,vdev=xvdb,access=rw,target=/tmp/extra.img
check block-attach-seen guest_says plug "disks=xvdb" 30
check block-list-attached sh -c 'xl block-list plug | grep -q 51728'
check block-detach xl block-detach plug xvdb
check block-detached sh -c '! xl block-list plug | grep -q 51728'
xl destroy plug
check loops-free waitfor 20 sh -c '[ -z "$(losetup -a)" ]'
