#!/usr/bin/env bash
# A private Slurm on this machine, for tests: munged, slurmctld and a slurmd for each of a few pretend nodes. It needs
# neither root nor systemd nor cgroups nor a configuration in /etc, and several of them do not disturb each other.
#
#     cluster.sh check                            whether the programs are here (77: no, with the reason)
#     cluster.sh install                          installs them first if they are missing and this is root on Debian
#     cluster.sh start FOLDER [NODES [CORES]]     then: . FOLDER/environment
#     cluster.sh stop FOLDER                      ends what start began, by the process ids it wrote down
set -euo pipefail

programs="munged slurmctld slurmd sbatch srun scontrol"

missing_program() {
    local program
    for program in $programs; do
        command -v "$program" >/dev/null || { echo "$program"; return; }
    done
}

check() {
    local missing
    missing=$(missing_program)
    [ -z "$missing" ] || { echo "no $missing here: install slurmctld, slurmd, slurm-client and munge"; exit 77; }
}

install() {
    [ -n "$(missing_program)" ] || return 0
    [ "$(id -u)" = 0 ] || { echo "no Slurm here, and only root may install it"; exit 77; }
    command -v apt-get >/dev/null || { echo "no Slurm here, and no apt-get to install it with"; exit 77; }
    export DEBIAN_FRONTEND=noninteractive
    local packages=(slurmctld slurmd slurm-client munge)
    apt-get -q install -y --no-install-recommends "${packages[@]}" </dev/null ||
        { apt-get -q update && apt-get -q install -y --no-install-recommends "${packages[@]}" </dev/null; } ||
        { echo "Slurm cannot be installed from here"; exit 77; }
}

is_listening() { # port
    local hex
    printf -v hex ':%04X' "$1"
    awk -v port="$hex" '$4 == "0A" && $2 ~ port "$" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# The first of count ports in a row that nobody listens on.
free_ports() { # count
    local first=$((20000 + $$ % 400 * 20)) port
    while :; do
        for ((port = first; port < first + $1; ++port)); do
            is_listening "$port" && { first=$((port + 1)); continue 2; }
        done
        echo "$first"
        return
    done
}

write_configuration() { # folder, nodes, cores
    local folder=$1 nodes=$2 cores=$3 port user memory list
    port=$(free_ports $((nodes + 1)))
    user=$(id -un)
    memory=$(awk '/MemTotal/ { print int($2 / 1024) - 256 }' /proc/meminfo)
    list="node[1-$nodes]"
    # Devices that are no GPUs, so that requests for GPUs are granted and CUDA_VISIBLE_DEVICES is set.
    printf "NodeName=$list Name=gpu File=%s\n" /dev/null /dev/zero >"$folder/gres.conf"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=pretend
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/run/munge.socket
StateSaveLocation=$folder/controller
SlurmdSpoolDir=$folder/spool/%n
# For each node its own, else the PMIx of several slurmd on one machine meet in one folder.
TmpFS=$folder/tmp/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/completed
# As the sites that preempt do; nobody else has the partition urgent.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_min_interval=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Nodes claim more cores than there are.
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MpiDefault=none
GresTypes=gpu
PropagateResourceLimits=NONE
KillWait=30
MinJobAge=300
SlurmctldTimeout=60
SlurmdTimeout=60
NodeName=$list NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 1))-$((port + nodes)) CPUs=$cores Boards=1 SocketsPerBoard=1 CoresPerSocket=$cores ThreadsPerCore=1 RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO GraceTime=30 PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=2
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1
CONF
    cat >"$folder/environment" <<CONF
export SLURM_CONF=$folder/slurm.conf
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# More ranks than cores: without it they take each other's time while they wait.
export OMPI_MCA_mpi_yield_when_idle=1
# Shared memory of Open MPI is named after machine and local rank, which several pretend nodes have in common.
# PMIx keeps what ranks tell each other in shared memory, named after the machine: likewise.
export PMIX_MCA_gds=hash
# Now and then a rank of Open MPI 4.1.4 dies in MPI_Init, of a message that comes before it is ready. Seen with mixed (the
# default) and with tree (2 of 40 starts on two busy cores), not yet with ring.
export SLURM_PMIX_FENCE=ring
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_hwloc_base_binding_policy=none
CONF
}

start() { # folder, nodes, cores
    local nodes=${2:-4} cores=${3:-2} force=() node ready folder
    check
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    [ ! -e "$folder/processes" ] || { echo "$folder is in use: cluster.sh stop $folder" >&2; exit 1; }
    # munged wants nobody else to write where its key and socket are.
    mkdir -p "$folder"/{munge,controller,log,run}
    chmod 755 "$folder" "$folder/run"
    chmod 700 "$folder/munge"
    for ((node = 1; node <= nodes; ++node)); do mkdir -p "$folder/spool/node$node" "$folder/tmp/node$node"; done
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
    write_configuration "$folder" "$nodes" "$cores"
    export SLURM_CONF=$folder/slurm.conf
    : >"$folder/processes"
    [ "$(id -u)" != 0 ] || force=(--force)
    munged ${force[@]+"${force[@]}"} --foreground --socket="$folder/run/munge.socket" --key-file="$folder/munge/key" \
        --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed" \
        >"$folder/log/munged.out" 2>&1 </dev/null &
    echo "munged $!" >>"$folder/processes"
    for ((ready = 0; ready < 100; ++ready)); do
        [ ! -S "$folder/run/munge.socket" ] || break
        sleep 0.1
    done
    slurmctld -D -c >"$folder/log/slurmctld.out" 2>&1 </dev/null &
    echo "slurmctld $!" >>"$folder/processes"
    for ((node = 1; node <= nodes; ++node)); do
        slurmd -D -N "node$node" >"$folder/log/slurmd-$node.out" 2>&1 </dev/null &
        echo "slurmd $!" >>"$folder/processes"
    done
    for ((ready = 0; ready < 300; ++ready)); do
        [ "$(sinfo -h -N -p cpu -o %T 2>/dev/null | grep -c '^idle$')" != "$nodes" ] || return 0
        sleep 0.1
    done
    echo "Slurm does not come up" >&2
    sinfo -N -l >&2 || true
    tail -n 20 "$folder"/log/* >&2 || true
    stop "$folder"
    exit 1
}

# Whether the process still is the program it was.
is_alive() { [ "$(cat "/proc/$2/comm" 2>/dev/null)" = "$1" ]; }

# What scancel did not reach, because Slurm itself no longer works: all that runs in an environment of this cluster.
end_jobs() { # folder
    local environment process
    for environment in /proc/[0-9]*/environ; do
        process=${environment//[!0-9]/}
        if [ "$process" != $$ ] && ! grep -qx ".* $process" "$1/processes" &&
            grep -qzx "SLURM_JOB_ID=.*" "$environment" && grep -qzxF "SLURM_CONF=$1/slurm.conf" "$environment"; then
            kill -KILL "$process"
        fi 2>/dev/null || true
    done
}

stop() { # folder
    local folder name process left turn
    folder=$(cd "$1" && pwd)
    [ -e "$folder/processes" ] || return 0
    export SLURM_CONF=$folder/slurm.conf
    timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
    for ((turn = 0; turn < 100; ++turn)); do
        [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
        sleep 0.1
    done
    end_jobs "$folder"
    while read -r name process; do
        ! is_alive "$name" "$process" || kill "$process"
    done < <(tac "$folder/processes")
    for ((turn = 0; turn < 150; ++turn)); do
        left=no
        while read -r name process; do
            ! is_alive "$name" "$process" || left=yes
        done <"$folder/processes"
        [ "$left" = yes ] || { rm "$folder/processes"; return 0; }
        sleep 0.1
    done
    echo "daemons do not end: $(tr '\n' ' ' <"$folder/processes")" >&2
    return 1
}

case "${1-}:$#" in
    check:1 | install:1 | start:[234] | stop:2) "$@" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
