# As domains-killed, for the operations that a guest takes part in: shutdown, reboot, suspend, resume.
# limit: 600
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh

cp $GUEST/disk.img /tmp/a.img

# Operations that the guest takes part in.
is_up() {
    case $(power $1) in
    halted) rm -f "$(console_of $1)"; $VM start $1 && guest_says $1 "GUEST userspace" 90 ;;
    running) waitfor 60 sh -c "[ \"\$(xenstore-read /local/domain/$(domid $1)/control/feature-poweroff)\" = 1 ]" ;;
    *) return 1 ;;
    esac
}
check plain up plain idle --disk xvda,/tmp/a.img --nic 0,xenbr0
not_suspended() {
    case $(power $1) in
    suspended) $VM resume $1 ;;
    running) waitfor 30 in_state $1 '[rb]' ;;
    *) return 1 ;;
    esac
}
is_suspended() { [ "$(power $1)" = suspended ] || $VM suspend $1 /tmp/plain.saved; }
# A first life, suspended once, takes what is kept for good.
check first-suspend $VM suspend plain /tmp/plain.saved
check first-end $VM destroy plain
before=$(pages)
check start is_up plain
killed suspend plain not_suspended /tmp/plain.saved
killed resume plain is_suspended
expect no-file "$(ls /tmp/plain.saved*)" [ -z "$(ls /tmp/plain.saved* 2> /dev/null)" ]
$VM destroy plain
expect no-page-after-suspensions "$(pages) free, $before before" waitfor 20 pages_back $before
check delete-plain $VM delete plain

# Without devices: what becomes of those is the same as above.
check bare up bare idle
killed shutdown bare is_up
killed reboot bare is_up
$VM destroy bare
check delete-bare $VM delete bare
expect no-trace-at-the-end "$(traces | tr '\n' ' ')" traceless
rm -f /tmp/a.img
