# shellcheck shell=sh
# The first process of a machine for a container runtime (machine.rs): it has mount, PID and cgroup namespaces of its own, in the network
# namespace of a lab's node, so whatever is started, mounted or written here goes when it ends, and it ends with its
# standard input. $1 has the files of the lab's node.
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
# Held from here, for /run is about to be covered.
mkdir /mnt/lab
mount --bind "$1" /mnt/lab
cp -a /etc /mnt/etc
mount --bind /mnt/etc /etc
rm -rf /etc/cni
mkdir -p /etc/cni/net.d /mnt/opt/cni/bin
mount --bind /mnt/opt /opt
cp -a /usr/lib/cni/. /opt/cni/bin/
# Debian's runtimes look there by default, others in /opt.
mount --bind /opt/cni/bin /usr/lib/cni
for place in /run /var/lib /dev/shm; do
    mount -t tmpfs tmpfs "$place"
done
mkdir -p /run/heddle /run/netns /run/calls /run/lock /var/lib/heddle
mount --bind /mnt/lab /run/heddle
mount --bind /mnt/lab/lib /var/lib/heddle
echo ready
cat >/dev/null
# The shell stays, to collect the children of others.
:
