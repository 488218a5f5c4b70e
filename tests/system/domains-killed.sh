# radon-domain killed at each step of each operation: afterwards every VM is what the record says, and nothing leaks.
# limit: 600
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh

cp $GUEST/disk.img /tmp/a.img
cp $GUEST/disk.img /tmp/b.img

MINIMAL="--kernel $GUEST/minimal --memory 16 --disk xvda,/tmp/a.img --nic 0,xenbr0"
check define $VM create --halted $MINIMAL cut
# A first life takes what is kept for good.
check first-life $VM start cut
check first-end $VM destroy cut
before=$(pages)

is_halted() { halted $1 || $VM destroy $1; }
is_started() { halted $1 && $VM start $1 || runs $1; }
killed start cut is_halted
check destroy-after-start $VM destroy cut
expect no-page-after-starts "$(pages) free, $before before" waitfor 20 pages_back $before
cancelled start cut is_halted
killed destroy cut is_started
expect no-page-after-destroys "$(pages) free, $before before" waitfor 20 pages_back $before

# The repair itself cut short, of the longest start there is.
step=0
while :; do
    step=$((step + 1))
    is_halted cut || break
    $VM --kill-at-step 17 start cut 2> /dev/null
    # The task's steps go on counting in the repair.
    $VM --kill-at-step $((17 + step)) recover > /run/recover.log 2>&1
    status=$?
    [ $status = 137 ] || break
    $VM recover > /run/recover.log 2>&1 || break
    as_recorded cut > /run/recover.log || { status=1; break; }
done
expect killed-recover "step $step, status $status: $(tail -n 2 /run/recover.log)" [ $status = 0 -a $step -ge 4 ]
check delete $VM delete cut
expect no-trace "$(traces | tr '\n' ' ')" traceless

# Operations on a running guest that needs not do anything for them.
check guest up live idle --memory-max 160 --vcpus 2 --disk xvda,/tmp/a.img --nic 0,xenbr0
id=$(domid live)
is_running() { case $(power $1) in paused) $VM unpause $1 ;; running) ;; *) return 1 ;; esac; }
is_paused() { case $(power $1) in running) $VM pause $1 ;; paused) ;; *) return 1 ;; esac; }
killed pause live is_running
killed unpause live is_paused
without_b() { is_running $1 || return 1; $VM show $1 | grep -q /tmp/b.img || return 0; $VM detach-disk --force $1 xvdb; }
with_b() { is_running $1 || return 1; $VM show $1 | grep -q /tmp/b.img || $VM attach-disk $1 xvdb /tmp/b.img; }
killed attach-disk live without_b xvdb /tmp/b.img
killed detach-disk live with_b xvdb --force
without_1() { is_running $1 || return 1; [ $($VM show $1 | grep -c '"bridge"') = 1 ] || $VM detach-nic --force $1 1; }
with_1() { is_running $1 || return 1; [ $($VM show $1 | grep -c '"bridge"') = 2 ] || $VM attach-nic $1 1,xenbr0; }
killed attach-nic live without_1 1,xenbr0
killed detach-nic live with_1 1 --force
killed set-memory live is_running 96
one_vcpu() { is_running $1 && $VM set-vcpus $1 1; }
killed set-vcpus live one_vcpu 2
expect same-domain "$id before, $(domid live) now" [ "$(domid live)" = "$id" ]
cancelled attach-disk live without_b xvdb /tmp/b.img
cancelled attach-nic live without_1 1,xenbr0
check still-answers $VM shutdown live
check delete-live $VM delete live
expect no-trace-at-the-end "$(traces | tr '\n' ' ')" traceless
rm -f /tmp/a.img /tmp/b.img
