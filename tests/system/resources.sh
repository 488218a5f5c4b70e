# Processors, memory and scheduling of a running guest.
# limit: 180
. /usr/lib/radon/lib.sh
guest_config res 192 2 watch "maxmem = 256"
check create guest_up res
check two-vcpus guest_says res "cpus=0-1" 20
xl vcpu-set res 1
check vcpu-set-down guest_says res "cpus=0 " 30
# More than the machine has is fine, too.
xl vcpu-set -i res 2
said_twice() { [ "$(grep -c 'cpus=0-1' $(console_of res))" -ge 2 ]; }
check vcpu-set-up waitfor 30 said_twice
check vcpu-pin xl vcpu-pin res 0 0
# On one processor that is all of them, and xl says so.
pinned=0
[ "$(xl info nr_cpus)" = 1 ] && pinned=all
check vcpu-pin-shown sh -c "xl vcpu-list res | awk 'NR==2' | grep -q ' $pinned / '"
check vcpu-pin-soft xl vcpu-pin res 1 all 0
check vcpu-unpin xl vcpu-pin res all all all
memory() { xl list res | awk 'NR==2 {print $3}'; }
is_memory() { [ "$(memory)" = "$1" ]; }
check mem-set-down xl mem-set res 160
check mem-set-down-done waitfor 30 is_memory 160
check mem-set-up xl mem-set res 192
check mem-set-up-done waitfor 30 is_memory 192
# In KiB; the toolstack adds a MiB. (mem-set has set it to what it gave.)
maximum() { xentop -b -i 1 | awk '$1 == "res" {print $7}'; }
before=$(maximum)
check mem-max xl mem-max res 224
expect mem-max-shown "it was $before KiB and is $(maximum)" [ "$(maximum)" = $((225 * 1024)) -a "$before" = $((193 * 1024)) ]
check credit2-set xl sched-credit2 -d res -w 512 -c 50
check credit2-get sh -c 'xl sched-credit2 -d res | grep -q "res .* 512 *50"'
check xentop-counts sh -c 'xentop -b -i 2 -d 1 | tail -n 2 | grep -q " res "'
xl destroy res
check destroyed gone res
