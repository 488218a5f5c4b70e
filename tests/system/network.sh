# A guest's network: an address from dom0, a file over HTTP, interfaces that come and go.
# limit: 180
. /usr/lib/radon/lib.sh
guest_config net 128 $(cmdline radon.guest_cpus) http net
check create guest_up net
check address guest_says net "address 10.55.0" 60
check http-checksum guest_says net GUEST.http-ok 90
check network-list sh -c 'xl network-list net | tail -n +2 | grep -q .'
check bridge-port sh -c 'ls /sys/class/net/xenbr0/brif | grep -q ^vif'
xl destroy net
check bridge-port-gone waitfor 20 sh -c '! ls /sys/class/net/xenbr0/brif | grep -q ^vif'

guest_config plug 128 1 watch
check create-without guest_up plug
check network-attach xl network-attach plug bridge=xenbr0
check network-attach-seen guest_says plug "net=eth0" 30
check network-detach xl network-detach plug 0
check network-detached waitfor 20 sh -c '! xl network-list plug | tail -n +2 | grep -q .'
xl destroy plug
