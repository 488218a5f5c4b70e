# Shared by the scenarios of radon-domain.

VM=radon-domain
MEMORY=128

# make NAME ACTION [OPTION...]: a guest whose init does ACTION.
make() {
    local name=$1 action=$2
    shift 2
    rm -f "$(console_of $name)"
    $VM create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --memory $MEMORY --cmdline "console=hvc0 quiet radon.do=$action" "$@" $name
}
# up NAME ACTION [OPTION...]: and its userspace has said so.
up() { make "$@" && guest_says $1 "GUEST userspace" 90; }

# power NAME: what the record says.
power() { $VM list | awk -v name=$1 '$1 == name {print $NF}'; }
# domid NAME: its domain, as recorded.
domid() { $VM list | awk -v name=$1 '$1 == name {print $3}'; }
halted() { [ "$(power $1)" = halted ]; }
runs() { [ "$(power $1)" = running ]; }
# said_times NAME TEXT COUNT: its console shows the text so often.
said_times() { [ "$(grep -c "$2" "$(console_of $1)")" -ge $3 ]; }

# Free pages of the machine.
pages() { $VM memory | awk '{print $4}'; }
# pages_back BEFORE: as many as before, but for what dom0 and the hypervisor began meanwhile and keep: an object that lives on may be
# the first in a page of the hypervisor's heap, once. What each of many lives of a guest leaves adds up to more.
pages_back() { [ "$(pages)" -ge $(($1 - 3)) ]; }

# Everything outside the record that VMs could leave: nodes, domains, loop devices, interfaces.
traces() {
    xenstore-ls -f 2> /dev/null | sed 's/ = .*//' |
        grep -e '^/local/domain/[1-9]' -e '^/local/domain/0/[a-z]*/[a-z]*/[0-9]' -e '^/local/domain/0/error/backend/[a-z]*/[0-9]' -e '^/vm/' -e '^/libxl/[1-9]'
    xl list | awk 'NR > 2 {print "domain", $2}'
    losetup -a
    ls /sys/class/net | grep '^vif'
}
traceless() { [ -z "$(traces)" ]; }

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
    halted | suspended)
        traceless || { echo "$(power $1), but there is: $(traces | tr '\n' ' ')"; return 1; } ;;
    running | paused)
        disks=$($VM show $1 | grep -c '"path"')
        nics=$($VM show $1 | grep -c '"bridge"')
        [ "$(xl list | awk 'NR > 2 {print $2}')" = $id ] || { echo "domains: $(xl list)"; return 1; }
        [ $(count vbd $id) = $disks ] || { echo "$(count vbd $id) disks instead of $disks"; return 1; }
        [ $(count vif $id) = $nics ] || { echo "$(count vif $id) interfaces instead of $nics"; return 1; }
        for kind in vfb vkbd; do
            [ $(count $kind $id) = $($VM show $1 | grep -c '"framebuffer"') ] || { echo "$(count $kind $id) of $kind"; return 1; }
        done
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

# cancelled OPERATION NAME PREPARE ARGUMENT...: the same with a cancellation at each step, which is undone by the operation itself.
cancelled() {
    local operation=$1 name=$2 prepare=$3 step=0 status out before after
    shift 3
    while :; do
        step=$((step + 1))
        $prepare $name || { fail "cancelled-$operation" "not ready for step $step"; return 1; }
        before=$($VM list)
        $VM --cancel-at-step $step $operation $name "$@" > /run/cancelled.log 2>&1
        status=$?
        [ $status != 0 ] || break
        after=$($VM list)
        [ "$after" = "$before" ] || { status="$before became $after"; break; }
        out=$(as_recorded $name) || { status="at step $step: $out"; break; }
    done
    expect "cancelled-$operation" "step $step, status $status: $(cat /run/cancelled.log)" [ "$status" = 0 -a $step -ge 3 ]
}
