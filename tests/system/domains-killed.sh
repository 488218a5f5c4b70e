# radon-domain killed at each step of each operation: afterwards every VM is what the record says, and nothing leaks.
# limit: 900
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh

cp $GUEST/disk.img /tmp/a.img
cp $GUEST/disk.img /tmp/b.img

# count KIND ID: devices of a domain in the store, front ends and back ends alike; the larger number.
count() {
    local front back
    front=$(xenstore-list /local/domain/$2/device/$1 2> /dev/null | wc -l)
    back=$(xenstore-list /local/domain/0/backend/$1/$2 2> /dev/null | wc -l)
    [ $front -ge $back ] && echo $front || echo $back
}

# as_recorded NAME: the only VM is what the record says. Prints what is not.
as_recorded() {
    local id=$(domid $1) disks nics
    case $(power $1) in
    halted)
        traceless || { echo "halted, but there is: $(traces | tr '\n' ' ')"; return 1; } ;;
    running | paused)
        disks=$($VM show $1 | grep -c '"path"')
        nics=$($VM show $1 | grep -c '"bridge"')
        [ "$(xl list | awk 'NR > 2 {print $2}')" = $id ] || { echo "domains: $(xl list)"; return 1; }
        [ $(count vbd $id) = $disks ] || { echo "$(count vbd $id) disks instead of $disks"; return 1; }
        [ $(count vif $id) = $nics ] || { echo "$(count vif $id) interfaces instead of $nics"; return 1; }
        [ $(losetup -a | wc -l) = $disks ] || { echo "loop devices: $(losetup -a)"; return 1; }
        [ $(ls /sys/class/net | grep -c "^vif$id\.") = $nics ] || { echo "$(ls /sys/class/net)"; return 1; }
        case $(power $1)/$(state $1) in
        running/*p*) echo "paused, not running"; return 1 ;;
        paused/*p* | running/*) ;;
        *) echo "not paused"; return 1 ;;
        esac ;;
    *) echo "the record says '$(power $1)'"; return 1 ;;
    esac
}

# killed OPERATION NAME PREPARE ARGUMENT...: OPERATION NAME ARGUMENT... cut short at its first step, its second step, ... until it
# comes to its end. PREPARE makes the VM ready for each try. One verdict.
killed() {
    local operation=$1 name=$2 prepare=$3 step=0 status out
    shift 3
    while :; do
        step=$((step + 1))
        $prepare $name || { fail "killed-$operation" "not ready for step $step"; return 1; }
        out=$($VM --kill-at-step $step $operation $name "$@" 2>&1)
        status=$?
        if [ $status != 137 ]; then
            if [ $status = 0 ]; then out=; fi
            break
        fi
        out=$($VM recover 2>&1) || { status="recover: $out"; break; }
        echo "$out" | grep -q "^repaired: $name" || { status="recover did not find it"; break; }
        out=$(as_recorded $name) || { status="after recover at step $step"; break; }
    done
    expect "killed-$operation" "step $step, status $status: $(echo $out | tail -c 600)" [ "$status" = 0 -a $step -ge 3 ] || return 1
    out=$(as_recorded $name)
    expect "killed-$operation-whole" "$out" [ -z "$out" ]
    echo "$operation: killed at each of $((step - 1)) steps"
}

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
expect no-page-after-starts "$(pages) free, $before before" waitfor 20 pages_are $before
killed destroy cut is_started
expect no-page-after-destroys "$(pages) free, $before before" waitfor 20 pages_are $before

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
check still-answers $VM shutdown live

# Operations that the guest takes part in.
is_up() {
    case $(power $1) in
    halted) rm -f "$(console_of $1)"; $VM start $1 && guest_says $1 "GUEST userspace" 90 ;;
    running) waitfor 60 sh -c "[ \"\$(xenstore-read /local/domain/$(domid $1)/control/feature-poweroff)\" = 1 ]" ;;
    *) return 1 ;;
    esac
}
killed shutdown live is_up
killed reboot live is_up
$VM destroy live
check delete-live $VM delete live
expect no-trace-at-the-end "$(traces | tr '\n' ' ')" traceless
rm -f /tmp/a.img /tmp/b.img
