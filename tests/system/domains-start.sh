# From the command to a guest that is of use, and its end: by radon-domain with our store and consoles; `start-xl` runs the same with
# xl and Debian's. Run under -icount: a nanosecond here is an instruction of the machine.
# limit: 900
. /usr/lib/radon/lib.sh
VM=/usr/local/sbin/radon-domain
[ -x $VM ] || VM=xl
now() { /usr/bin/date +%s%N; }
millions() { echo $((($2 - $1) / 1000000)); }

LINUX="console=hvc0 quiet radon.do=write,http root=/dev/xvda"
# linux NAME: a Debian with a disk and an interface, booting. minimal NAME: one that halts as its first act.
# ends NAME: asked to end, and gone. dead NAME: nothing of it runs.
case $VM in
xl)
    linux() {
        cp $GUEST/disk.img /tmp/$1.img
        guest_config $1 192 1 write,http disk net
        xl create -q /run/$1.cfg
    }
    prepare() { minimal_config $1 16; }
    minimal() { xl create -q /run/$1.cfg; }
    dead() { ! xl domid $1 > /dev/null 2>&1; }
    ends() { xl shutdown -w $1 > /dev/null; }
    forget() { :; } ;;
*)
    # It takes away what has ended by itself, as xl's process of each domain does.
    $VM supervise > /run/supervise.log 2>&1 &
    linux() {
        cp $GUEST/disk.img /tmp/$1.img
        $VM create --kernel $GUEST/vmlinuz --initrd $GUEST/initrd --memory 192 --cmdline "$LINUX" --disk xvda,/tmp/$1.img --nic 0,xenbr0 $1
    }
    prepare() { $VM create --halted --kernel $GUEST/minimal --memory 16 $1; }
    minimal() { $VM start $1; }
    dead() { [ "$($VM list | awk -v name=$1 '$1 == name {print $NF}')" = halted ]; }
    ends() { $VM shutdown $1; }
    forget() { $VM delete $1; } ;;
esac
until_said() { until said $1 "$2"; do usleep 5000; done; }

# Once, so that nothing is loaded or made for the first time.
linux warm
check warm guest_says warm GUEST.http-ok 120
ends warm
forget warm

sync
a=$(now)
linux one
b=$(now)
until_said one "GUEST userspace"
c=$(now)
until_said one "GUEST http-ok"
d=$(now)
ends one
e=$(now)
figure start-command $(millions $a $b) M
figure start-userspace $(millions $a $c) M
figure start-useful $(millions $a $d) M
figure start-end $(millions $d $e) M
check disk said one GUEST.disk-ok
forget one

prepare small
a=$(now)
for i in $(seq 10); do
    minimal small
    until dead small; do usleep 1000; done
done
b=$(now)
figure start-minimal $((($b - $a) / 10000000)) M
forget small

a=$(now)
started=
for i in 1 2 3 4; do
    linux four$i > /dev/null 2>&1 &
    started="$started $!"
done
# Not for `supervise`, which stays.
wait $started
for i in 1 2 3 4; do until_said four$i "GUEST http-ok"; done
b=$(now)
figure start-useful-four $((($b - $a) / 4000000)) M
ended=
for i in 1 2 3 4; do
    ends four$i &
    ended="$ended $!"
done
wait $ended
for i in 1 2 3 4; do
    check gone-$i waitfor 20 dead four$i
    forget four$i
done
