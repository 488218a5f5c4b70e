# Guests made and run by radon-domain, without libxl; consoles are Debian's xenconsoled.
# limit: 600
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh

# What the hypervisor and dom0's kernel take once and keep is taken now: page tables for the places where dom0 maps what guests
# grant it, among others, more of them with each further device.
dd if=/dev/zero of=/tmp/extra.img bs=1048576 count=8 2> /dev/null
rm -f "$(console_of warm)"
check first-guest $VM create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --memory $MEMORY --vcpus 2 --disk xvda,/tmp/extra.img --nic 0,xenbr0 --cmdline "console=hvc0 radon.do=idle" warm
check first-guest-up guest_says warm "GUEST userspace .*vcpus=2" 90
# What Linux thinks of its tables.
check acpi-tables said warm "ACPI: 1 ACPI AML tables successfully acquired and loaded"
# complaints: what Linux finds wrong with them.
complaints() { grep 'ACPI\( BIOS\)\? \(Error\|Warning\|Exception\)\|Firmware Bug.*ACPI\|ACPI.*[Ii]nvalid' "$(console_of warm)"; }
expect acpi-complaints "$(complaints | tail -n 3)" [ -z "$(complaints)" ]
check first-interface $VM attach-nic warm 1,xenbr0
check first-suspend $VM suspend warm /tmp/warm.saved
check first-resume $VM resume warm
check first-guest-goes $VM destroy warm
$VM delete warm
expect nothing-before "$(traces | tr '\n' ' ')" traceless
before=$(pages)

# A life.
check create up one idle
check listed-by-xl sh -c 'xl list one | grep -q one'
check pause $VM pause one
check paused in_state one p
check unpause $VM unpause one
check not-paused sh -c '! xl list one | grep -q -- "--p---"'
check shutdown $VM shutdown one
check halted halted one
expect no-trace-of-a-halted-guest "$(traces | tr '\n' ' ')" traceless
expect no-page-of-a-halted-guest "$(pages) free, $before before" waitfor 20 pages_back $before
check delete $VM delete one
check deleted sh -c "! $VM list | grep -q one"

# A guest that will not, and one that is in no state to.
check create-spin up two spin
check delete-refused sh -c "! $VM delete two"
check start-refused sh -c "! $VM start two"
check destroy $VM destroy two
check start-again $VM start two
check started-again waitfor 90 said_times two "GUEST spinning" 2
check destroy-again $VM destroy two
expect no-trace-of-a-destroyed-guest "$(traces | tr '\n' ' ')" traceless
expect no-page-of-a-destroyed-guest "$(pages) free, $before before" waitfor 20 pages_back $before
check delete-two $VM delete two

# Disks and network.
cp $GUEST/disk.img /tmp/deb.img
rm -f "$(console_of deb)"
check create-disk $VM create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --memory 192 --cmdline "console=hvc0 quiet radon.do=write,http root=/dev/xvda" --disk xvda,/tmp/deb.img --nic 0,xenbr0 deb
check debian-from-disk guest_says deb "userspace debian-12" 90
check write-read guest_says deb GUEST.disk-ok 60
check network guest_says deb GUEST.http-ok 60
check shutdown-debian $VM shutdown deb
expect no-trace-of-debian "$(traces | tr '\n' ' ')" traceless
modprobe -a crc32c_generic ext4
check loop-mount mount -o ro,loop /tmp/deb.img /mnt
expect data-on-disk "size is $(stat -c %s /mnt/root/data)" [ "$(stat -c %s /mnt/root/data)" = 2097152 ]
umount /mnt
check delete-deb $VM delete deb

# Plugging.
MEMORY=160
check create-plug up plug watch --memory-max 256 --vcpus 1 --vcpus-max 2
check attach-disk $VM attach-disk plug xvdb /tmp/extra.img
check disk-seen guest_says plug "disks=.*xvdb" 30
check attach-nic $VM attach-nic plug 0,xenbr0
check nic-seen guest_says plug "net=.*eth0" 30
check bridge-port test -e /sys/class/net/xenbr0/lower_vif$($VM list | awk '$1 == "plug" {print $3}').0
check suspend $VM suspend plug /tmp/plug.saved
check suspended sh -c "$VM list | grep -q '^plug .* - .* suspended'"
expect no-trace-of-a-suspended-guest "$(traces | tr '\n' ' ')" traceless
check start-of-a-suspended-guest-refused sh -c "! $VM start plug"
check resume $VM resume plug
check resumed waitfor 30 in_state plug '[rb]'
expect file-gone "it is there" [ ! -e /tmp/plug.saved -a ! -e /tmp/plug.saved.part ]
check detach-disk-after-resume $VM detach-disk plug xvdb
check seen-after-resume guest_says plug "GUEST sees" 30
check attach-disk-after-resume $VM attach-disk plug xvdb /tmp/extra.img
check disk-seen-after-resume guest_says plug "disks=.*xvdb" 30
# Cancelled when the guest has suspended itself: it goes on where it is.
check suspend-cancelled sh -c "$VM --cancel-at-step 5 suspend plug /tmp/plug.saved 2>&1 | grep -q 'cancelled at step save'"
check goes-on waitfor 30 in_state plug '[rb]'
expect part-gone "it is there" [ ! -e /tmp/plug.saved.part ]
check set-vcpus $VM set-vcpus plug 2
check vcpus-seen guest_says plug "cpus=0-1" 60
check balloon-up $VM set-memory plug 224
check balloon-down $VM set-memory plug 144
check memory-limit sh -c "! $VM set-memory plug 512"
check detach-disk $VM detach-disk plug xvdb
losetup /dev/loop7 /tmp/extra.img
check attach-block-device $VM attach-disk plug xvdc /dev/loop7 --read-only
check block-device-seen guest_says plug "disks=.*xvdc" 30
check detach-block-device $VM detach-disk plug xvdc
losetup -d /dev/loop7
check detach-nic $VM detach-nic plug 0
expect loops-free "$(losetup -a)" [ -z "$(losetup -a)" ]
check metrics sh -c "$VM show plug | grep -q '\"online_vcpus\": 2'"
check reboot $VM reboot plug
check rebooted waitfor 90 said_times plug "GUEST userspace" 2
check runs-after-reboot runs plug
check destroy-plug $VM destroy plug
expect no-page-of-plug "$(pages) free, $before before" waitfor 20 pages_back $before
check delete-plug $VM delete plug

# Many lives: a page that each of them leaves would be missed.
lives=0
before_lives=$(pages)
$VM create --halted --kernel $GUEST/minimal --memory 16 --disk xvda,/tmp/extra.img --nic 0,xenbr0 brief
while [ $lives -lt 8 ] && $VM start brief && $VM destroy brief; do lives=$((lives + 1)); done
expect many-lives "$lives of 8" [ $lives = 8 ]
expect no-page-of-many-lives "$(pages) free, $before_lives before" waitfor 20 pages_back $before_lives
check delete-brief $VM delete brief

# Guests that end by themselves.
$VM supervise > /run/supervise.log 2>&1 &
supervisor=$!
check create-short make short poweroff
check powers-off waitfor 60 halted short
check create-crash make crash crash --on-crash preserve
check crash-preserved waitfor 60 sh -c "$VM list | grep -q '^crash .* preserved'"
check crash-state in_state crash c
check crash-destroyed $VM destroy crash
check create-again make again reboot --on-reboot restart
check restarted waitfor 90 said_times again "GUEST userspace" 3
kill $supervisor
wait $supervisor
check destroy-again-and-again $VM destroy again
for name in short crash again; do $VM delete $name; done
expect no-trace-at-the-end "$(traces | tr '\n' ' ')" traceless
expect no-page-at-the-end "$(pages) free, $before before" waitfor 20 pages_back $before
