# First process of the node's namespaces. When it ends, the kernel ends all the
# others, containers too. It ends when its input does: with the program that
# started it, however that one ended.
#
#	init.sh DIRECTORY NAME IPV4 IPV6
set -eu
dir=$1 name=$2 ipv4=$3 ipv6=$4

mount --make-rprivate /
mount -t proc proc /proc
mount --make-rshared / # what the kubelet mounts is to reach its containers
hostname "$name"

# A /sys that shows this network namespace, with the cgroups of the machine.
mkdir -p "$dir/cgroup"
mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$dir/cgroup" /sys/fs/cgroup

# What a node writes outside of its directory it writes to a layer of its own.
# /run is new, since the sockets in it belong to the machine's programs.
for path in /etc /opt /var/lib /var/log; do
	layer=$dir/layers$path
	mkdir -p "$layer/upper" "$layer/work"
	mount -t overlay -o "lowerdir=$path,upperdir=$layer/upper,workdir=$layer/work" overlay "$path"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /etc/cni/net.d /opt/cni/bin
ln -sf /usr/lib/cni/* /opt/cni/bin/
cp "$dir/etc/cni.conflist" /etc/cni/net.d/10-pods.conflist
rm -f /etc/resolv.conf # may be a link into the old /run
cp "$dir/etc/resolv.conf" /etc/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n' "$ipv4" "$name" >/etc/hosts

# The kubelet sets these for the whole machine: give it files instead.
own() {
	file=$dir/sysctl/$(echo "$1" | tr / .)
	mkdir -p "$dir/sysctl"
	echo "$2" >"$file"
	mount --bind "$file" "/proc/sys/$1"
}
own vm/overcommit_memory 1
own vm/panic_on_oom 0
own kernel/panic 10
own kernel/panic_on_oops 1
own kernel/keys/root_maxkeys 1000000
own kernel/keys/root_maxbytes 25000000

# One link with the node's address. The default route goes nowhere, but without
# it a packet to a Service is not routed and so never translated.
ip link set lo up
ip link add node0 type bridge
ip addr add "$ipv4/24" dev node0
ip addr add "$ipv6/64" dev node0 nodad
ip link set node0 up
ip route add default dev node0
ip -6 route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding

echo ready
# Not exec: the shell buries processes that lost their parent.
cat >/dev/null || true
exit 0
