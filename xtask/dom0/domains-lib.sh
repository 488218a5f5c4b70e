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
pages_are() { [ "$(pages)" = "$1" ]; }

# Everything outside the record that VMs could leave: nodes, domains, loop devices, interfaces.
traces() {
    xenstore-ls -f 2> /dev/null | sed 's/ = .*//' |
        grep -e '^/local/domain/[1-9]' -e '^/local/domain/0/[a-z]*/[a-z]*/[0-9]' -e '^/local/domain/0/error/backend/[a-z]*/[0-9]' -e '^/vm/' -e '^/libxl/[1-9]'
    xl list | awk 'NR > 2 {print "domain", $2}'
    losetup -a
    ls /sys/class/net | grep '^vif'
}
traceless() { [ -z "$(traces)" ]; }
