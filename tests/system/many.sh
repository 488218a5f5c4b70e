# Eight guests at once, and guests made and destroyed over and over: nothing is lost.
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

minimal_config churn 16 2
made=0
for i in $(seq 50); do
    xl create -q -p /run/churn.cfg && xl destroy churn && made=$((made + 1))
done
expect churn-50 "only $made of 50" [ $made = 50 ]
minimal_config runs 16 1
xl create -q /run/runs.cfg
check minimal-guest-halts waitfor 20 gone runs
waitfor 30 back
after=$(free_kib)
expect churn-memory-back "$after KiB free, $before KiB before" [ "${after:-1}" = "$before" ]
