# Shared by the scenarios of radon-network: network namespaces stand for guests, joined with dom0 by a pair of interfaces.

N=radon-network

# busybox's shell takes its own `ip` before any other.
ip() { /usr/bin/ip "$@"; }

# on NAME COMMAND...: within a namespace.
on() {
    local name=$1
    shift
    ip netns exec $name "$@"
}

# wire OURS NAME [MAC]: an interface OURS of dom0 (or of namespace $HOST) whose other end is eth0 of a new namespace.
wire() {
    ip netns add $2
    ${HOST:+on $HOST} ip link add $1 type veth peer name eth0 netns $2 ${3:+address $3}
    on $2 ip link set lo up
    on $2 ip link set eth0 up
    ${HOST:+on $HOST} ip link set $1 up
}

# mac NUMBER: a guest's hardware address.
mac() { printf '00:16:3e:00:00:%02x' $1; }

# What a DHCP client is told goes to /run/dhcp.NAME; the address is set as told.
cat > /run/dhcp.sh << 'SCRIPT'
#!/bin/sh
case $1 in
deconfig) ip -4 address flush dev $interface ;;
bound | renew)
    set | grep -E '^(ip|router|dns|domain|hostname|mtu|lease|serverid|staticroutes|subnet)=' > $TOLD
    ip -4 address flush dev $interface
    ip address add $ip/$mask dev $interface
    ip link set mtu ${mtu:-1500} dev $interface
    [ -z "$router" ] || ip route replace default via $router ;;
esac
SCRIPT
chmod +x /run/dhcp.sh

# dhcp NAME [OPTION...]: the guest has an address from DHCP.
dhcp() {
    local name=$1
    shift
    rm -f /run/dhcp.$name
    TOLD=/run/dhcp.$name on $name udhcpc -i eth0 -n -q -f -t 5 -T 1 -O mtu -O staticroutes -s /run/dhcp.sh "$@"
}
# told NAME KEY: what DHCP told a guest.
told() { sed -n "s/^$2='\(.*\)'$/\1/p" /run/dhcp.$1; }

# pings NAME ADDRESS [OPTION...]: an answer comes back.
pings() {
    local name=$1 to=$2
    shift 2
    on $name ping -q -c 3 -i 0.2 -W 1 -A "$@" $to 2> /dev/null | grep -q '[123] packets received'
}
# no COMMAND...: it fails.
no() { ! "$@"; }

# counts NAME SOURCE: from now on a guest counts the IPv4 packets that it gets from there; counted NAME: how many.
counts() { on $1 nft "add table ip seen; add chain ip seen in { type filter hook prerouting priority -500; }; flush chain ip seen in; add rule ip seen in ip saddr $2 counter"; }
counted() { on $1 nft list chain ip seen in | sed -n 's/.*counter packets \([0-9]*\) .*/\1/p'; }
