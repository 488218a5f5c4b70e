# Figures of whole operations. Run under -icount: a nanosecond here is an instruction of the machine.
# limit: 900
. /usr/lib/radon/lib.sh
now() { /usr/bin/date +%s%N; }
millions() { echo $((($2 - $1) / 1000000)); }

dom0=$(xentop -b -i 1 | awk '$1 == "Domain-0" {print $5}')
figure memory-hypervisor $(($(total_kib) - $(free_kib) - dom0)) KiB
minimal_config warm 16
xl create -q -p /run/warm.cfg && xl destroy warm
for size in 16 64 256; do
    minimal_config m$size $size
    sleep 1
    before=$(free_kib)
    a=$(now)
    xl create -q -p /run/m$size.cfg
    b=$(now)
    figure create-paused-$size $(millions $a $b) M
    figure memory-guest-$size $((before - $(free_kib) - size * 1024)) KiB
    xl destroy m$size
done
sleep 1
before=$(free_kib)
minimal_config run 16
a=$(now)
for i in $(seq 10); do
    xl create -q /run/run.cfg
    while xl domid run > /dev/null 2>&1; do usleep 1000; done
done
b=$(now)
figure create-run-gone $((($b - $a) / 10000000)) M
for i in 1 2 3 4; do minimal_config run$i 16; done
a=$(now)
for i in 1 2 3 4; do xl create -q /run/run$i.cfg & done
wait
while [ "$(xl list | wc -l)" -gt 2 ]; do usleep 1000; done
b=$(now)
figure create-run-gone-parallel $((($b - $a) / 4000000)) M
sleep 1
figure leak $((before - $(free_kib))) KiB
guest_config linux 256 1 idle
a=$(now)
create linux
until said linux "GUEST userspace"; do usleep 5000; done
b=$(now)
figure create-to-userspace $(millions $a $b) M
xl destroy linux
for bench in $GUEST/bench*; do
    [ -e "$bench" ] || continue
    name=$(basename $bench)
    printf "type='pvh'\nname='%s'\nkernel='%s'\nmemory=64\nvcpus=1\ncmdline='bench'\n" $name $bench > /run/$name.cfg
    create $name && waitfor 60 gone $name
    sed -n 's/.*FIGURE \([^ ]*\)/FIGURE domu-\1/p' "$(console_of $name)"
done
pass bench
