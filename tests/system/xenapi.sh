# radond in dom0, for clients outside of the machine: the boot of this name adds a disk with XFS and a network card with a way in. The
# clients' end is the machine's. Before they come, it is killed at each step of what it does with a VM. Disks are radon-block's, as radond
# has them served unless it is told otherwise; one of them is the kernel's.
# limit: 560
. /usr/lib/radon/lib.sh
. /usr/lib/radon/domains-lib.sh
modprobe -a crc32c_generic nvme xfs e1000e nf_tables nft_meta_bridge nft_chain_nat nft_masq nft_ct nft_limit sch_tbf
check disk waitfor 30 [ -b /dev/nvme0n1 ]
mkdir -p /srv/volumes /var/lib/radon/kernels
check mount mount /dev/nvme0n1 /srv/volumes
nic=$(ls /sys/bus/pci/drivers/e1000e/*/net | head -n 1)
ip link set $nic up
ip address add 10.0.2.15/24 dev $nic
cp $GUEST/vmlinuz $GUEST/initrd $GUEST/waiting /var/lib/radon/kernels

# serve [OPTION...]: a new radond, ready.
serve() {
    # Here, not by the new process when its turn comes: until then the file would say what the last one said.
    : > /tmp/radond.log
    radond serve --https 10.0.2.15:443 --http 10.0.2.15:8080 "$@" > /tmp/radond.log 2>&1 &
    daemon=$!
    waitfor 60 grep -q ready /tmp/radond.log
}
end() { kill -9 $daemon 2> /dev/null; wait $daemon 2> /dev/null; true; }
dead() { case $(sed 's/.*) //' /proc/$daemon/stat 2> /dev/null) in '' | Z*) ;; *) return 1 ;; esac; }
password() { cat /var/lib/radon/daemon/initial-password; }
login() {
    local fingerprint=$(sed -n 's/^certificate SHA-256 //p' /tmp/radond.log)
    password | radon login --host 10.0.2.15 --fingerprint $fingerprint > /dev/null
}
# field NAME: of the VM, as XenAPI has it.
field() { radon --json vm show cut | sed -n "s/^ *\"$1\": \"*\([^\",]*\)\"*,*$/\1/p"; }

listed() { xenstore-list $1 2> /dev/null | wc -l; }
# served KIND ID COUNT: so many disks by this back end.
served() { [ $(listed /local/domain/0/backend/$1/$2) = $3 ] || { echo "$(listed /local/domain/0/backend/$1/$2) disks by $1, not $3"; return 1; }; }

# as_it_says: domains, disks and interfaces are what XenAPI says. Prints what is not.
as_it_says() {
    local state=$(field power_state) id=$(field domid) own=0 kernel=0 nics=0
    [ "$(radon --json call VM.get_current_operations "$ref")" = {} ] || { echo "something goes on"; return 1; }
    case $state in
    Halted | Suspended) traceless || { echo "$state, but there is: $(traces | tr '\n' ' ')"; return 1; } ;;
    Running)
        [ "$(xl list | awk 'NR > 2 {print $2}')" = "$id" ] || { echo "domains: $(xl list), not $id"; return 1; }
        [ "$(radon call VBD.get_currently_attached $first)" = true ] && kernel=1
        [ "$(radon call VBD.get_currently_attached $second)" = true ] && own=1
        [ "$(radon call VIF.get_currently_attached $vif)" = true ] && nics=1
        served vbd $id $kernel && served rdisk $id $own || return 1
        # Whoever serves them: in the guest they are of one kind.
        [ $(listed /local/domain/$id/device/vbd) = $((own + kernel)) ] || { echo "$(listed /local/domain/$id/device/vbd) front ends"; return 1; }
        [ $(count vif $id) = $nics ] || { echo "$(count vif $id) interfaces instead of $nics"; return 1; }
        [ $(losetup -a | wc -l) = $kernel ] || { echo "loop devices: $(losetup -a)"; return 1; }
        [ "$(radon-network show | grep -c "vif$id\.")" -ge $nics ] || { echo "no port of vif$id: $(radon-network show)"; return 1; } ;;
    *) echo "the state is '$state'"; return 1 ;;
    esac
}

# cut_short MESSAGE PREPARE COMMAND...: radond dies at the first step of the message's operation, at the second, ... until the command
# comes to its end.
cut_short() {
    local message=$1 prepare=$2 step=0 status out
    shift 2
    while :; do
        step=$((step + 1))
        end
        serve --kill-at $message:$step && login || { status="it does not start: $(tail -n 3 /tmp/radond.log)"; break; }
        out=$(as_it_says) || { status="after step $((step - 1))"; break; }
        out=$($prepare 2>&1) || { status="not ready"; break; }
        out=$(radon "$@" 2>&1)
        status=$?
        [ $status = 0 ] && break
        waitfor 10 dead || break
    done
    expect "killed-at-$message" "step $step, status $status: $(echo $out | tail -c 600)" [ "$status" = 0 -a $step -ge 4 ] || return 1
    out=$(as_it_says)
    expect "killed-at-$message-whole" "$out" [ -z "$out" ]
    echo "$message: killed at each of $((step - 1)) steps"
}

stopped() { [ "$(field power_state)" = Halted ] || radon vm stop --force cut; }
started() { [ "$(field power_state)" = Running ] || radon vm start cut; }
unplugged() { started && { [ "$(radon call VBD.get_currently_attached $second)" = false ] || radon call VBD.unplug_force $second; }; }
plugged() { started && { [ "$(radon call VBD.get_currently_attached $second)" = true ] || radon call VBD.plug $second; }; }

expect radond "$(tail -n 3 /tmp/radond.log)" serve
check login login
check repository radon sr create cut /srv/volumes/cut
check network radon network create cut --subnet 10.9.0.0/24 --outside nat
check volumes radon volume create one 8
radon volume create two 8 > /dev/null
check vm radon vm create cut --kernel waiting --memory 16 --volume one --volume two --network cut
ref=$(radon call VM.get_by_name_label cut | sed -n 's/.*"\(OpaqueRef:[^"]*\)".*/\1/p')
vbds=$(radon --json vm show cut | sed -n '/"VBDs"/,/]/s/.*"\(OpaqueRef:[^"]*\)".*/\1/p')
vif=$(radon --json vm show cut | sed -n '/"VIFs"/,/]/s/.*"\(OpaqueRef:[^"]*\)".*/\1/p')
first=$(echo $vbds | cut -d ' ' -f 1)
second=$(echo $vbds | cut -d ' ' -f 2)
check kernel-chosen radon call VBD.add_to_other_config $first radon:backend kernel
check backend-unknown sh -c "radon call VBD.add_to_other_config $second radon:backend qdisk 2>&1 | grep -q 'no back end of disks'"
# Nobody serves disks yet.
out=$(radon vm start cut 2>&1)
expect nobody-serves "$out" sh -c 'echo "$1" | grep "radon-block did not take up the disk" | grep -q "cure: .radon-block serve"' - "$out"
expect nothing-of-it "$(traces | tr '\n' ' ')" traceless
block() { while :; do radon-block serve 2>> /tmp/block.log; usleep 100000; done; }
block &
check disks-served waitfor 20 grep -q serving /tmp/block.log
cut_short VM.start stopped vm start cut
cut_short VBD.unplug_force plugged call VBD.unplug_force $second
cut_short VBD.plug unplugged call VBD.plug $second
cut_short VM.hard_shutdown started vm stop --force cut
end
expect again "$(tail -n 3 /tmp/radond.log)" serve
check again-login login
check vm-gone radon vm delete cut --volumes
check network-gone radon network delete cut
check repository-gone radon sr delete cut
expect nothing-left "$(traces | tr '\n' ' ')" traceless

radon-network serve > /tmp/network.log 2>&1 &
check framebuffers radon-vnc
milestone "xenapi $(password)"
# What xl and the store say of it, now and then, for the log. radon-block is killed meanwhile: guests do not notice.
while :; do
    usleep 20000000
    kill -9 $(pidof radon-block)
    xl list
    tail -n 3 /tmp/radond.log
    tail -n 3 /tmp/block.log
done
