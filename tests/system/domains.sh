# Guests made and run by radon-domain, without libxl; consoles are Debian's xenconsoled.
# limit: 600
. /usr/lib/radon/lib.sh

# start NAME ACTION [OPTION...]: a guest whose init does ACTION.
start() {
    local name=$1 action=$2
    shift 2
    rm -f "$(console_of $name)"
    radon-domain create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --cmdline "console=hvc0 quiet radon.do=$action" "$@" $name
}

check create start one poweroff --memory 192
check console guest_says one "GUEST userspace" 90
check powers-off waitfor 60 in_state one s
