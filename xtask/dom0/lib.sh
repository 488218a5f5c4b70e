# Shared by dom0's start-up and the scenarios. Lines for xtask begin with RADON-MILESTONE, VERDICT or FIGURE.

GUEST=/srv/guest
CONSOLES=/var/log/xen/console

milestone() { echo "RADON-MILESTONE $*"; }
milestone_failed() { echo "RADON-FAILED $*"; }
pass() { echo "VERDICT pass $1"; }
fail() { echo "VERDICT fail $*"; }
skip() { echo "VERDICT skip $*"; }
figure() { echo "FIGURE $*"; }

# Ends the machine at once: pid 1 here is a script that no signal would reach.
power_off() {
    milestone poweroff
    sync
    busybox poweroff -f
    sleep 60
}

# cmdline NAME: value of NAME=value on the kernel command line.
cmdline() { tr ' ' '\n' < /proc/cmdline | sed -n "s/^$1=//p"; }

# How many times longer than on a quiet machine everything may take.
PATIENCE=$(cmdline radon.patience)

# waitfor SECONDS COMMAND...: until the command succeeds.
waitfor() {
    local limit=$(($1 * ${PATIENCE:-1})) end
    shift
    end=$(($(date +%s) + limit))
    until "$@" > /dev/null 2>&1; do
        [ $(date +%s) -ge $end ] && return 1
        usleep 200000
    done
}

# check NAME COMMAND...: one verdict; a failure shows what the command said.
check() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then
        pass "$name"
    else
        fail "$name" "\`$*\`: $(echo "$out" | tail -n 3 | tr '\n' ' ')"
        return 1
    fi
}

# expect NAME WHY TEST...: one verdict about a condition, with the reason to show when it does not hold.
expect() {
    local name=$1 why=$2
    shift 2
    if "$@"; then pass "$name"; else fail "$name" "$why"; return 1; fi
}

# guest_config NAME MEMORY VCPUS ACTION [disk] [net]: writes /run/NAME.cfg. ACTION is what the guest's init does.
guest_config() {
    local name=$1 memory=${2:-256} vcpus=${3:-1} action=$4 root= word
    shift 4
    {
        echo "type = 'pvh'"
        echo "name = '$name'"
        echo "kernel = '$GUEST/vmlinuz'"
        echo "ramdisk = '$GUEST/initrd'"
        echo "memory = $memory"
        echo "vcpus = $vcpus"
        for word in "$@"; do
            case $word in
            disk)
                cp $GUEST/disk.img /tmp/$name.img
                echo "disk = ['format=raw,vdev=xvda,access=rw,target=/tmp/$name.img']"
                root="root=/dev/xvda" ;;
            net) echo "vif = ['bridge=xenbr0']" ;;
            *) echo "$word" ;;
            esac
        done
        echo "extra = 'console=hvc0 quiet radon.do=$action $root'"
    } > /run/$name.cfg
}

# minimal_config NAME MEMORY [VCPUS]: /run/NAME.cfg of a guest that halts as its first act.
minimal_config() {
    printf "type = 'pvh'\nname = '%s'\nkernel = '$GUEST/minimal'\nmemory = %s\nvcpus = %s\n" $1 $2 ${3:-1} > /run/$1.cfg
}

# console_of NAME: the file in which xenconsoled logs a guest's console.
console_of() { echo $CONSOLES/guest-$1.log; }
said() { grep -q "$2" "$(console_of $1)" 2>/dev/null; }
gone() { ! xl domid "$1"; }

# create NAME: from /run/NAME.cfg; its console log starts empty.
create() {
    rm -f "$(console_of $1)"
    xl create /run/$1.cfg > /run/$1.create 2>&1 && return 0
    # The first error is the cause, what follows comes of it; a hotplug script writes its own to a log.
    echo "xl create: $(grep -m 3 -i error /run/$1.create | tr '\n' ' ')" \
        "hotplug: $(tail -n 2 /var/log/xen/xen-hotplug.log 2> /dev/null | tr '\n' ' ')"
    return 1
}

# guest_up NAME [SECONDS]: created, and its userspace has said so.
guest_up() {
    create "$1" || return 1
    waitfor "${2:-90}" said "$1" "GUEST userspace" && return 0
    echo "no userspace after ${2:-90} s; console ends: $(tail -n 3 "$(console_of $1)" | tr '\r\n' '  ')"
    return 1
}

# guest_says NAME TEXT [SECONDS]: its console shows the text.
guest_says() {
    waitfor "${3:-60}" said "$1" "$2" && return 0
    echo "console of $1 does not say '$2'; it ends: $(tail -n 3 "$(console_of $1)" | tr '\r\n' '  ')"
    return 1
}

# state NAME: xl's state letters, such as -b----
state() { xl list "$1" 2>/dev/null | awk 'NR==2 {print $(NF-1)}'; }
in_state() { case $(state "$1") in *$2*) return 0 ;; *) return 1 ;; esac; }

# Memory in KiB, to the page (xl rounds to MiB): xentop's summary, which its batch mode leaves out.
summary() { TERM=linux xentop -i 1 < /dev/null 2> /dev/null | tr '\033' '\n' | sed -n "s/.*[^0-9]\([0-9]*\)k $1.*/\1/p"; }
free_kib() { summary free; }
total_kib() { summary total; }
# known NUMBER...: all are there; an empty answer must not compare equal to another.
known() { local n; for n in "$@"; do [ "${n:-0}" -gt 0 ] || return 1; done; }

destroy_all() {
    local name
    for name in $(xl list 2>/dev/null | awk 'NR>2 {print $1}'); do xl destroy "$name" 2>/dev/null; done
    rm -f /tmp/*.img
}
