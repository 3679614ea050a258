#!/bin/sh
# Installs the Debian/Ubuntu packages that the tests of clusters need (Slurm with accounting, munge, MariaDB) and starts nothing.
#
# Run as root; doing it twice does no harm. `SLURM_CONF` and the data folders of the tests are private, so /etc/slurm stays
# untouched. No system service is started or left enabled by this script: the tests start their own daemons.
set -eu

packages="slurm-wlm slurmdbd slurm-wlm-mysql-plugin munge mariadb-server"
# of other tests: small filesystems of other kinds, a linter of shell scripts, modules as clusters have them
packages="$packages exfat-fuse exfatprogs e2fsprogs shellcheck environment-modules"

if [ "$(id -u)" != 0 ]; then
    echo "install.sh: running as $(id -un), needs root; type: sudo sh tests/slurm/install.sh" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "install.sh: no apt-get here, needs Debian or Ubuntu; install by hand: $packages" >&2
    exit 1
fi

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done

if [ -z "$missing" ]; then
    echo "install.sh: nothing to do, all there: $packages"
else
    # invoke-rc.d asks this program before it starts a service; 101 means "do not"
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of words
    if ! { apt-get update && apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "install.sh: apt-get failed, its whole output is in $log; mend that and run this again" >&2
        exit 1
    fi
    rm -f "$log"
    echo "install.sh: installed$missing"
fi
echo "install.sh: $(slurmctld -V), $(mariadbd --version | cut -d' ' -f1-4), no service started"
