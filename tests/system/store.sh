# limit: 400
# The store: its tools, limits, a live update and a kill with a guest running. Meant for our own store; the parts that
# only it has are skipped on another.
. /usr/lib/radon/lib.sh

ours() { [ "$(cmdline radon.store)" = radon ]; }
pid() { cat /run/xen/xenstored.pid; }

xenstore-rm /t 2> /dev/null
check write xenstore-write /t/a 1 /t/b 2 /t/c/d 3
expect read "values differ" test "$(xenstore-read /t/a /t/b /t/c/d | tr '\n' ' ')" = "1 2 3 "
expect list "children differ" test "$(xenstore-list /t | tr '\n' ' ')" = "a b c "
check chmod xenstore-chmod /t/a n0 r0
expect perms "no permissions shown" sh -c 'xenstore-ls -p /t | grep -q "^a = \"1\".*(n0,r0)"'
xenstore-watch -n 3 /t/w > /run/watch.out &
watcher=$!
waitfor 20 grep -q . /run/watch.out
xenstore-write /t/w/x 1
waitfor 20 grep -q /t/w/x /run/watch.out
xenstore-rm /t/w
waitfor 20 sh -c '! kill -0 '$watcher || kill $watcher
expect watch "events: $(tr '\n' ' ' < /run/watch.out)" test "$(tr '\n' ' ' < /run/watch.out)" = "/t/w /t/w/x /t/w "
check rm xenstore-rm /t
expect gone "still there" sh -c '! xenstore-exists /t'
check control-check xenstore-control check
expect control-quota "no table" sh -c 'xenstore-control quota | grep -q "^nodes  *: *1000 "'

sees() { grep "GUEST sees" "$(console_of store1)" | tail -n 1; }
last_sees() { sees | grep -q "$1"; }
# sees_change NAME: an interface comes and goes; the guest's kernel reads, writes and watches nodes for it.
sees_change() {
    check attach-$1 xl network-attach store1 bridge=xenbr0
    expect seen-$1 "$(sees)" waitfor 40 last_sees "net=eth0,eth1,"
    check detach-$1 xl network-detach store1 1
    expect unseen-$1 "$(sees)" waitfor 40 last_sees "net=eth0,lo"
}

dd if=/dev/zero of=/tmp/store1.img bs=1048576 count=8 2> /dev/null
guest_config store1 192 1 watch net "disk = ['format=raw,vdev=xvda,access=rw,target=/tmp/store1.img']"
check guest guest_up store1
check guest-devices guest_says store1 "net=eth0,lo, disks=.*xvda"
domid=$(xl domid store1)
expect guest-node "its node is not its own" sh -c "xenstore-ls -p /local/domain | grep -q '^$domid = .*n0,r$domid'"
expect guest-quota "its account is empty" sh -c "xenstore-control quota $domid | grep -q '^watches  *: *[1-9]'"

if ours; then
    before=$(xenstore-ls | wc -l)
    check live-update xenstore-control live-update /usr/lib/radon/radon-stored
    expect live-update-state "$(xenstore-ls | wc -l) lines after, $before before" test "$(xenstore-ls | wc -l)" = "$before"
    check live-update-check xenstore-control check
    # Everybody is still connected: the guest's kernel; xl, which waits for the domain's end; xenconsoled, which
    # serves the next guest's console.
    sees_change after-update
    check guest-after-update xl shutdown -w store1
    expect reaped-after-update "the domain is left over" waitfor 60 gone store1
    check console-after-update guest_up store1

    # A kill takes processes' connections with it, kernels' not.
    kill -9 $(pid)
    waitfor 20 sh -c "! kill -0 $(pid)"
    check restart /usr/lib/radon/radon-stored --pid-file /run/xen/xenstored.pid
    check restart-check xenstore-control check
    expect restart-state "the guest's node is gone" xenstore-exists /local/domain/$(xl domid store1)
    sees_change after-kill
    kill $(cat /run/xen/xenconsoled.pid) 2> /dev/null
    /usr/lib/xen-4.17/bin/xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xen/xenconsoled.pid
    check shutdown-after-kill xl shutdown -w store1
    xl destroy store1 2> /dev/null
    expect destroyed-after-kill "the domain is left over" waitfor 60 gone store1
    expect no-node-left "$(xenstore-list /local/domain | tr '\n' ' ')" test "$(xenstore-list /local/domain | tr '\n' ' ')" = "0 "
    check guest-after-kill guest_up store1
else
    skip live-update "Debian's xenstored"
fi
check destroy xl destroy store1
expect clean "nodes are left over" test "$(xenstore-list /local/domain | tr '\n' ' ')" = "0 "
