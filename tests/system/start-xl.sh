# What `domains-start` does, by xl with Debian's store and consoles.
# limit: 900
. /usr/lib/radon/scenarios/domains-start.sh
