# Eight guests at once, and guests made and destroyed over and over with xl: nothing is lost. (Eight at once, fifty times over, is
# the boot two-cpus of the verdict guests: what xl itself does for one guest takes an emulated machine a second and more.)
# limit: 420
. /usr/lib/radon/lib.sh
# Once before measuring, so that what dom0 and the tools keep is there already.
minimal_config warm 16 2
xl create -q -p /run/warm.cfg && xl destroy warm
guest_config g0 96 1 idle
guest_up g0 > /dev/null
xl destroy g0
sleep 2
before=$(free_kib)

check free-memory-known known "$before"
for i in 1 2 3 4 5 6 7 8; do
    guest_config g$i 96 $((i % 2 + 1)) idle
    create g$i || fail create-$i "xl create failed"
done
up() { [ "$(grep -l 'GUEST userspace' $CONSOLES/guest-g[1-8].log 2> /dev/null | wc -l)" = 8 ]; }
if waitfor 240 up; then pass eight-guests; else fail eight-guests "only these came up: $(grep -l userspace $CONSOLES/guest-g[1-8].log | tr '\n' ' ')"; fi
expect eight-listed "$(xl list | wc -l) lines" [ "$(xl list | wc -l)" = 10 ]
for i in 1 2 3 4 5 6 7 8; do xl destroy g$i; done
back() { local now=$(free_kib); known "$now" "$before" && [ "$now" -ge "$before" ]; }
check eight-memory-back waitfor 30 back || echo "free: $(free_kib) KiB, before: $before KiB"

# Six times eight by xl, of one and two vCPUs; each round exists at once before it goes.
made=0 most=0
for round in 1 2 3 4 5 6; do
    for i in 1 2 3 4 5 6 7 8; do
        minimal_config churn$i 16 $((i % 2 + 1))
        xl create -q -p /run/churn$i.cfg && made=$((made + 1))
    done
    [ "$(xl list | wc -l)" = 10 ] && most=$((most + 1))
    for i in 1 2 3 4 5 6 7 8; do xl destroy churn$i; done
done
expect churn-48 "only $made of 48" [ $made = 48 ]
expect churn-eight-at-once "only in $most of 6 rounds" [ $most = 6 ]
minimal_config runs 16 1
xl create -q /run/runs.cfg
check minimal-guest-halts waitfor 20 gone runs
waitfor 30 back
after=$(free_kib)
expect churn-memory-back "$after KiB free, $before KiB before" [ "${after:-1}" = "$before" ]
