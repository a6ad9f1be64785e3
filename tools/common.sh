# shellcheck shell=bash
# Shared by tools/demo, tools/test and .ci/run: who we are, what has to be installed, how to build.
# Sourced, not run.

# What the build needs (a C compiler, clang for BPF, libelf for libbpf, m4 for libxdp) ...
BUILD_PACKAGES=(gcc libc6-dev make pkg-config m4 clang libelf-dev zlib1g-dev)
# ... and what labs and tests run.
RUN_PACKAGES=(iproute2 iputils-ping ethtool nftables iperf3 procps containernetworking-plugins)
# ... and what only the tests run: container runtimes, what the reference plugins need, and strace to kill plugins with.
TEST_PACKAGES=(busybox-static containerd iptables podman runc strace util-linux)

# Begins a stage.
say() {
    STAGE=$*
    printf '==> %s\n' "$*"
}
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Says in which stage a script ended that did not get to its end.
STAGE=
tell_failure() {
    local status=$?
    if [ "$status" != 0 ] && [ -n "$STAGE" ]; then
        printf 'error: %s failed in the stage "%s"\n' "$0" "$STAGE" >&2
    fi
}
trap tell_failure EXIT

need_root() {
    [ "$(id -u)" = 0 ] || die "this needs root, for network namespaces, BPF and AF_XDP: run 'sudo $0'"
}

# Installs the packages given, if any of them is missing, and says so first.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install ${missing[*]} (there is no apt-get here to do it with)"
    say "installing with apt-get: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install ${missing[*]}"
}

# Under sudo, cargo belongs to the user who called it: it is found in that user's home, and the build runs as that user,
# so that no file of root's is left in their tree.
find_cargo() {
    BUILD_USER=${SUDO_USER:-root}
    local home
    home=$(getent passwd "$BUILD_USER" | cut -d: -f6)
    export CARGO_HOME=${CARGO_HOME:-$home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
    export PATH=$CARGO_HOME/bin:$PATH
    command -v cargo >/dev/null ||
        die "no Rust toolchain found for $BUILD_USER: install one from https://rustup.rs (1.95 or newer)"
}

# Runs a command as the user the tree belongs to.
as_builder() {
    if [ "$BUILD_USER" = root ]; then
        "$@"
    else
        runuser -u "$BUILD_USER" -- env PATH="$PATH" CARGO_HOME="$CARGO_HOME" RUSTUP_HOME="$RUSTUP_HOME" "$@"
    fi
}
