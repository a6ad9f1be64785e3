# The first process of a machine for a container runtime (machine.rs): it has mount, PID and cgroup namespaces of its own, in the network
# namespace of a lab's node, so whatever is started, mounted or written here goes when it ends, and it ends with its
# standard input. $1 is an empty directory, $2 the files of the lab's node.
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
# Held from here, for /run is about to be covered.
mkdir "$1/lab"
mount --bind "$2" "$1/lab"
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
rm -rf /etc/cni
mkdir -p /etc/cni/net.d "$1/opt/cni/bin"
mount --bind "$1/opt" /opt
cp -a /usr/lib/cni/. /opt/cni/bin/
# Debian's runtimes look there by default, others in /opt.
mount --bind /opt/cni/bin /usr/lib/cni
for place in /run /var/lib /dev/shm; do
    mount -t tmpfs tmpfs "$place"
done
mkdir -p /run/heddle /run/netns /run/calls /run/lock /var/lib/heddle
mount --bind "$1/lab" /run/heddle
mount --bind "$1/lab/lib" /var/lib/heddle
echo ready
cat >/dev/null
# The shell stays, to collect the children of others.
:
