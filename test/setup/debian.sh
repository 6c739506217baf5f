#!/bin/sh
# Installs the programs that the upper rungs of the ladder run, on Debian or
# Ubuntu. Asks for nothing, starts no service, and does nothing when all of them
# are there. Without root it prints the command and ends with status 1.
set -eu

packages='curl python3 nodejs redis-server redis-tools postgresql postgresql-client
mariadb-server mariadb-client nftables iproute2 util-linux procps openssl
containerd runc containernetworking-plugins iptables conntrack
chromium fonts-dejavu-core prometheus
haproxy nginx libnginx-mod-stream python3-pip'

missing=
for p in $packages; do
	case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true) in
	installed) ;;
	*) missing="$missing $p" ;;
	esac
done
if [ -z "$missing" ]; then
	echo "Everything the tests need is installed."
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "The tests need more programs. As root:"
	echo "  apt-get update && apt-get install --no-install-recommends$missing"
	exit 1
fi

# Packages ask this program whether they may start their service: 101 is no. A
# machine that already has one keeps it.
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
	trap 'rm -f "$guard"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$guard"
	chmod 755 "$guard"
else
	echo "Keeping the $guard that is there."
fi
# RUNLEVEL=1 says the same to those that do not ask.
export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --no-install-recommends $missing
