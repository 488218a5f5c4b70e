# Networks of radon-network, with packets: addresses, names, NAT, isolation, forged frames, rates, overlays, VLANs, metadata.
# limit: 240
. /usr/lib/radon/lib.sh
. /usr/lib/radon/networks-lib.sh
check modules modprobe -a crc32c_generic veth vxlan 8021q nf_tables nft_meta_bridge nft_chain_nat nft_masq nft_ct nft_limit sch_tbf

# Two networks with NAT, one that is only a wire.
subnet() { echo --subnet 10.$1.0.0/24 --host 10.$1.0.1 --range 10.$1.0.10-10.$1.0.50; }
check add-a $N add-network a --bridge br-a $(subnet 1) --domain a.test --outside nat --forwarder 198.51.100.2
check add-b $N add-network b --bridge br-b $(subnet 2) --domain b.test --outside nat
check add-wire $N add-network wire --bridge br-w
$N serve > /run/serve.log 2>&1 &
server=$!
serving() { grep -q 'radon-network: serving' /run/serve.log; }
check serving waitfor 20 serving

# The world outside: a network of its own, with a name server and a web server.
wire up0 out
ip address add 198.51.100.1/24 dev up0
HOST=out wire vweb web $(mac 80)
OUT="/usr/bin/ip netns exec out $N --state /run/out-networks"
$OUT add-network out --bridge br-o --uplink eth0 --subnet 198.51.100.0/24 --host 198.51.100.2 --domain out.test
$OUT add-interface vweb --network out --mac $(mac 80) --ipv4 198.51.100.10 --host-name web > /dev/null
$OUT serve > /run/out-serve.log 2>&1 &
outserver=$!
on web ip address add 198.51.100.10/24 dev eth0
on web ip route add default via 198.51.100.1
mkdir -p /run/www
dd if=/dev/urandom of=/run/www/payload bs=65536 count=16 2> /dev/null
echo hello > /run/www/hello
/usr/bin/ip netns exec web httpd -f -vv -p 80 -h /run/www 2> /run/web.log &
webserver=$!

# Guests: two locked and one unlocked on a, two on b.
guest() {
    local name=$1 network=$2 number=$3
    shift 3
    wire v$name $name $(mac $number)
    $N add-interface v$name --network $network --mac $(mac $number) --host-name $name "$@"
}
echo '#cloud-config' > /run/user-data
a1=$(guest a1 a 1 --ipv6 fd00:1::1 --instance-id i-a1 --user-data /run/user-data)
a2=$(guest a2 a 2 --ipv6 fd00:1::2)
guest a3 a 3 --guard unlocked --ipv4 10.1.0.60 > /dev/null
b1=$(guest b1 b 4)
b2=$(guest b2 b 5)
connected() { [ -e /sys/class/net/br-a/lower_va1 ] && [ -e /sys/class/net/br-b/lower_vb2 ]; }
check connected waitfor 20 connected

# Addresses.
check dhcp dhcp a1
expect dhcp-address "$(told a1 ip), not $a1" [ -n "$a1" -a "$(told a1 ip)" = "$a1" ]
expect dhcp-options "$(tr '\n' ' ' < /run/dhcp.a1)" \
    [ "$(told a1 router) $(told a1 dns) $(told a1 domain) $(told a1 hostname) $(told a1 mtu)" = "10.1.0.1 10.1.0.1 a.test a1 1500" ]
for name in a2 a3 b1 b2; do dhcp $name > /dev/null 2>&1; done
if [ -x /usr/sbin/dhclient ]; then
    printf '#!/bin/sh\n[ "$reason" = PREINIT ] || echo "$reason $new_ip_address $new_host_name" >> /run/dhclient\n' > /run/dhclient.sh
    chmod +x /run/dhclient.sh
    on a2 dhclient -1 -sf /run/dhclient.sh -lf /run/dhclient.leases -pf /run/dhclient.pid eth0 > /run/dhclient.log 2>&1
    expect dhclient "$(cat /run/dhclient /run/dhclient.log | tail -n 3 | tr '\n' ' ')" grep -q "BOUND $a2 a2" /run/dhclient
    kill $(cat /run/dhclient.pid)
fi
# Somebody who is not declared gets one of the range, keeps it over a kill of the server, and gives it back.
wire vs stranger $(mac 70)
ip link set vs master br-a
check dhcp-stranger dhcp stranger
lease=$(told stranger ip)
expect leased "$($N leases a)" sh -c "$N leases a | grep -q '^$lease $(mac 70) '"
kill -9 $server
wait $server 2> /dev/null
: > /run/serve.log
$N serve > /run/serve.log 2>&1 &
server=$!
check serving-again waitfor 20 serving
check dhcp-again dhcp stranger
expect lease-kept "$(told stranger ip), not $lease" [ "$(told stranger ip)" = "$lease" ]

# Names.
asks() { on $1 nslookup $2 ${3:-10.1.0.1} 2> /dev/null; }
knows() { asks $1 $2 $4 | grep -q "$3"; }
check dns-name knows a1 a2.a.test "Address.* $a2"
check dns-reverse knows a1 $a2 a2.a.test
check dns-forwarded knows a1 web.out.test 198.51.100.10
check dns-other-network no knows a1 b1.b.test 10.2

# Who reaches whom.
check same-network pings a1 $a2
check gateway pings a1 10.1.0.1
fetches() { on a1 timeout 10 wget -q -O - http://198.51.100.10/hello | grep -q hello; }
check nat-web fetches
expect nat-source "$(tail -n 2 /run/web.log | tr '\n' ' ')" grep -q '198\.51\.100\.1\]*:.*hello' /run/web.log
counts a1 198.51.100.0/24
on web ip route add 10.1.0.0/24 via 198.51.100.1
check outside-cannot-begin no pings web $a1
expect outside-not-seen "$(counted a1) packets" [ "$(counted a1)" = 0 ]
counts b1 10.0.0.0/8
check isolated no pings a1 $b1
expect isolated-not-seen "$(counted b1) packets" [ "$(counted b1)" = 0 ]
check isolated-control pings b2 $b1
expect isolated-control-seen "$(counted b1) packets" [ "$(counted b1)" -gt 0 ]
check isolated-gateway no pings a1 10.2.0.1
check host-closed no on a1 timeout 3 wget -q -O /dev/null http://10.55.0.1/payload.sha256

# Forged frames: from a locked interface nobody sees them, from an unlocked one everybody does.
forge_ip() { on $1 ip address add 10.1.0.$2/24 dev eth0; pings $1 10.1.0.1 -I 10.1.0.$2; }
check forged-ip no forge_ip a1 77
check forged-ip-control forge_ip a3 78
forge_mac() {
    on $1 ip link set eth0 address 02:00:00:00:00:99
    pings $1 10.1.0.1
    local status=$?
    on $1 ip link set eth0 address $(mac $2)
    return $status
}
check forged-mac no forge_mac a1 1
check forged-mac-control forge_mac a3 3
check not-forged pings a1 10.1.0.1
neighbour() { ip neigh show $a2 dev br-a | grep -q "lladdr $1"; }
ping -q -c 1 -W 2 $a2 > /dev/null
forge_arp() { on $1 arping -q -U -c 2 -I eth0 -s $a2 $a2 > /dev/null 2>&1; on $1 arping -q -A -c 2 -I eth0 -s $a2 $a2 > /dev/null 2>&1; }
forge_arp a1
expect forged-arp "$(ip neigh show $a2)" neighbour $(mac 2)
on a3 ip address add $a2/24 dev eth0
forge_arp a3
expect forged-arp-control "$(ip neigh show $a2)" neighbour $(mac 3)
on a3 ip address del $a2/24 dev eth0
ip neigh flush dev br-a
for n in 1 2; do on a$n ip address add fd00:1::$n/64 dev eth0 nodad; done
check ipv6 pings a1 fd00:1::2 -I fd00:1::1
forge_ipv6() { on $1 ip address add fd00:1::$2/64 dev eth0 nodad; pings $1 fd00:1::2 -I fd00:1::$2; }
check forged-ipv6 no forge_ipv6 a1 77
check forged-ipv6-control forge_ipv6 a3 78
# Tags: never from a declared interface; a wire between undeclared ones carries them.
tagged() {
    on $1 ip link add link eth0 name eth0.5 type vlan id 5 && on $2 ip link add link eth0 name eth0.5 type vlan id 5 || return 2
    on $1 ip address add 10.99.$3.1/24 dev eth0.5
    on $2 ip address add 10.99.$3.2/24 dev eth0.5
    on $1 ip link set eth0.5 up
    on $2 ip link set eth0.5 up
    pings $1 10.99.$3.2
}
for name in w1 w2; do wire v$name $name; ip link set v$name master br-w; done
if tagged w1 w2 1; then pass tags-control; else fail tags-control "a wire does not carry tags"; fi
check tags-locked no tagged a1 a2 2
check tags-unlocked no tagged a3 stranger 3
# A guest that plays DHCP server.
serves_dhcp() { on $1 netstat -uln | grep -q ':67 '; }
rogue() {
    on $1 ip address add 10.66.0.1/24 dev eth0
    printf 'start 10.66.0.10\nend 10.66.0.20\ninterface eth0\nlease_file /run/rogue.leases\nopt subnet 255.255.255.0\n' > /run/rogue.conf
    : > /run/rogue.leases
    /usr/bin/ip netns exec $1 udhcpd -f -S /run/rogue.conf > /dev/null 2>&1 &
    rogue=$!
    waitfor 10 serves_dhcp $1
    dhcp $2
    local status=$?
    kill $rogue
    return $status
}
check rogue-dhcp-control rogue w1 w2
$N add-interface vw1 --network wire --mac $(on w1 cat /sys/class/net/eth0/address) --ipv4 10.66.0.1 > /dev/null
check rogue-dhcp no rogue w1 w2
expect dhcp-server "$(told stranger serverid)" [ "$(told stranger serverid)" = 10.1.0.1 ]
# Disabled: nothing in, nothing out.
$N add-interface va3 --network a --mac $(mac 3) --ipv4 10.1.0.60 --guard disabled > /dev/null
check disabled no pings a3 10.1.0.1
$N add-interface va3 --network a --mac $(mac 3) --ipv4 10.1.0.60 --guard unlocked > /dev/null

# Metadata.
meta() { on $1 timeout 4 wget -q -O - http://169.254.169.254/$2; }
expect metadata "$(meta a1 latest/meta-data/instance-id 2>&1)" [ "$(meta a1 latest/meta-data/instance-id)" = i-a1 ]
expect metadata-user-data "$(meta a1 user-data 2>&1)" [ "$(meta a1 user-data)" = "#cloud-config" ]
check metadata-none no meta a2 latest/meta-data/instance-id
as_a1() {
    on a3 ip address add $a1/32 dev eth0
    on a3 ip route replace 169.254.169.254 via 10.1.0.1 dev eth0 src $a1
    forge_arp_a1
    meta a3 user-data
}
forge_arp_a1() { on a3 arping -q -U -c 2 -I eth0 -s $a1 $a1 > /dev/null 2>&1; }
check metadata-forged no as_a1
on a3 ip route del 169.254.169.254
on a3 ip address del $a1/32 dev eth0
ip neigh flush dev br-a

# Rates: the time that 1 MiB takes, before and after; what a guest sends, 3 MiB, may begin with a second's worth at once.
now() { cut -d ' ' -f 1 /proc/uptime | tr -d .; }
kbits() { echo $((8 * 1024 * 1024 / 10 / ($2 - $1 + 1))); }
down() { local t=$(now); on $1 timeout 60 wget -q -O /dev/null http://198.51.100.10/payload || return 1; kbits $t $(now); }
free=$(down a1)
$N add-interface va1 --network a --mac $(mac 1) --ipv6 fd00:1::1 --host-name a1 --instance-id i-a1 --to-guest 4mbit > /dev/null
slow=$(down a1)
figure rate-unlimited $free kbit/s
figure rate-4mbit-to-guest $slow kbit/s
expect rate-to-guest "$free kbit/s, limited to 4 Mbit/s $slow" [ "$free" -gt 8000 -a "$slow" -ge 2000 -a "$slow" -le 6500 ]
$N add-interface va1 --network a --mac $(mac 1) --ipv6 fd00:1::1 --host-name a1 --instance-id i-a1 --from-guest 4mbit > /dev/null
printf '#!/bin/sh\ncat > /run/received\n' > /run/sink.sh
chmod +x /run/sink.sh
/usr/bin/ip netns exec web nc -l -p 9 -e /run/sink.sh &
sink=$!
listens() { on web netstat -ltn | grep -q ':9 '; }
waitfor 10 listens
t=$(now)
for n in 1 2 3; do cat /run/www/payload; done > /run/sent
/usr/bin/ip netns exec a1 nc 198.51.100.10 9 < /run/sent &
source=$!
waitfor 60 cmp -s /run/received /run/sent
slow=$(($(kbits $t $(now)) * 3))
kill $sink $source 2> /dev/null
figure rate-4mbit-from-guest $slow kbit/s
expect rate-from-guest "$slow kbit/s" [ "$slow" -ge 500 -a "$slow" -le 6500 ]
expect rate-complete "$(stat -c %s /run/received) bytes" cmp -s /run/received /run/sent

# An overlay to a second host.
wire x0 h2
ip address add 192.0.2.1/24 dev x0
on h2 ip address add 192.0.2.2/24 dev eth0
H2="/usr/bin/ip netns exec h2 $N --state /run/h2-networks"
check overlay $N add-network o --bridge br-x --vni 9 --local 192.0.2.1 --peer 192.0.2.2 $(subnet 3) --domain o.test
check overlay-second-host $H2 add-network o --bridge br-x --vni 9 --local 192.0.2.2 --peer 192.0.2.1
o1=$(guest o1 o 20)
HOST=h2 wire vo2 o2 $(mac 21)
o2=10.3.0.40
$H2 add-interface vo2 --network o --mac $(mac 21) --ipv4 $o2 > /dev/null
# Who gives the addresses must know whose they are.
$N add-interface vo2 --network o --mac $(mac 21) --ipv4 $o2 --host-name o2 > /dev/null
dhcp o1 > /dev/null 2>&1
check overlay-dhcp waitfor 20 dhcp o2
expect overlay-address "$(told o2 ip) $(told o2 mtu)" [ "$(told o2 ip) $(told o2 mtu)" = "$o2 1450" ]
check overlay-ping pings o1 $o2
check overlay-large pings o1 $o2 -s 1400
expect overlay-in-vxlan "$(ip -s link show vx9 | tail -n 1)" [ $(cat /sys/class/net/vx9/statistics/rx_packets) -gt 3 ]
check overlay-isolated no pings o1 $a1

# VLANs of a card.
wire t0 switch
on switch ip link add link eth0 name eth0.7 type vlan id 7
on switch ip address add 10.7.0.2/24 dev eth0.7
on switch ip link set eth0.7 up
check vlan-7 $N add-network v7 --bridge br-v7 --uplink t0 --vlan 7
check vlan-8 $N add-network v8 --bridge br-v8 --uplink t0 --vlan 8
guest v7 v7 30 --ipv4 10.7.0.3
guest v8 v8 31 --ipv4 10.7.0.4
on v7 ip address add 10.7.0.3/24 dev eth0
on v8 ip address add 10.7.0.4/24 dev eth0
check vlan-same waitfor 10 pings v7 10.7.0.2
check vlan-other no pings v8 10.7.0.2

# A real guest on the network, through radon-domain: its interface is declared, locked, and gone with it.
if [ -x /usr/local/sbin/radon-domain ]; then
    . /usr/lib/radon/domains-lib.sh
    check guest make real net --nic 0,network=a,host-name=real
    check guest-address guest_says real "GUEST address 10.1.0." 90
    id=$(domid real)
    address=$($N show | sed -n "/\"vif$id.0\": {/,/}/p" | sed -n 's/.*"\(10\.1\.0\.[0-9]*\)".*/\1/p' | head -n 1)
    check guest-declared said real "GUEST address $address/24"
    check guest-reached pings a1 $address
    check guest-name knows a1 real.a.test "$address"
    check guest-locked sh -c "$N rules | grep -q 'chain ip4_vif$id.0 {'"
    check guest-destroy $VM destroy real
    check guest-gone sh -c "! $N show | grep -q 'vif$id.0'"
    $VM delete real
fi

# Nothing is left.
kill $server $outserver $webserver 2> /dev/null
echo '{"networks": {}, "interfaces": {}}' > /run/nothing
check remove-all $N declare /run/nothing
expect no-interfaces-left "$(ip -o link show group 1919184503)" [ -z "$(ip -o link show group 1919184503)" ]
expect no-bridges-left "$(ls /sys/class/net | tr '\n' ' ')" [ -z "$(ls /sys/class/net | grep -E '^(br-|vx|t0\.)')" ]
expect no-rules-left "$(nft list ruleset | head -n 3)" [ -z "$(nft list ruleset)" ]
expect no-leases-left "$(ls /var/lib/radon/networks | tr '\n' ' ')" [ -z "$(ls /var/lib/radon/networks | grep leases)" ]
