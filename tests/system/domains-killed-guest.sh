# As domains-killed, for the operations that a guest takes part in: shutdown, reboot. Its devices are the same there.
# limit: 600
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh

# Operations that the guest takes part in.
is_up() {
    case $(power $1) in
    halted) rm -f "$(console_of $1)"; $VM start $1 && guest_says $1 "GUEST userspace" 90 ;;
    running) waitfor 60 sh -c "[ \"\$(xenstore-read /local/domain/$(domid $1)/control/feature-poweroff)\" = 1 ]" ;;
    *) return 1 ;;
    esac
}
check bare up bare idle
killed shutdown bare is_up
killed reboot bare is_up
$VM destroy bare
check delete-bare $VM delete bare
expect no-trace-at-the-end "$(traces | tr '\n' ' ')" traceless
