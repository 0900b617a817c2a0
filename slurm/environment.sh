#!/bin/bash
# What jobs of this folder need from the cluster: modules, and how MPI and NCCL reach its network. The batch scripts read it
# (their knob SITE); so may an interactive job: . slurm/environment.sh
#
# Knobs. A variable that is set already stays, so that each can be changed for one job: FABRIC=tcp sbatch merge.sbatch

MODULES=${MODULES:-}          # <-- modules to load, as in "gcc/12 openmpi/4.1 cuda/12.2 nccl"; empty: none
FABRIC=${FABRIC:-auto}        # <-- auto (what MPI and NCCL find), infiniband, roce, slingshot, omnipath, efa, tcp
INTERFACE=${INTERFACE:-}      # network interface for TCP and for NCCL's first contact, as in ib0, hsn0, eth0; empty: found
DEVICES=${DEVICES:-}          # network cards, as in mlx5_0:1,mlx5_1:1; empty: all (with a GPU each: the nearest)
GID_INDEX=${GID_INDEX:-3}     # of RoCE: 3 is RoCE v2 over IPv4 on most cards (show_gids)
NCCL_LOG=${NCCL_LOG:-WARN}    # WARN, or INFO to see which transports NCCL takes

if [ -n "$MODULES" ]; then
    if ! command -v module >/dev/null 2>&1 && [ -r /etc/profile.d/modules.sh ]; then
        # shellcheck source=/dev/null
        . /etc/profile.d/modules.sh
    fi
    # shellcheck disable=SC2086  # several words
    module load $MODULES || { echo "environment.sh: module load $MODULES failed" >&2; return 1; }
fi

# Sets a variable for this job and all that it starts, unless it is set already.
amalgam_default() { # name, value
    [ -n "${!1-}" ] || export "$1=$2"
}

amalgam_default NCCL_DEBUG "$NCCL_LOG"
if [ -n "$INTERFACE" ]; then
    amalgam_default NCCL_SOCKET_IFNAME "$INTERFACE"
    amalgam_default OMPI_MCA_oob_tcp_if_include "$INTERFACE"
    amalgam_default OMPI_MCA_btl_tcp_if_include "$INTERFACE"
fi
case $FABRIC in
    auto) ;;
    infiniband | roce)
        amalgam_default OMPI_MCA_pml ucx
        # rc: connections between each two ranks, the fastest up to some hundred ranks; dc beyond.
        amalgam_default UCX_TLS rc,sm,self
        # Without it Open MPI also opens its older verbs transport, and warns.
        amalgam_default OMPI_MCA_btl ^openib
        if [ -n "$DEVICES" ]; then
            amalgam_default UCX_NET_DEVICES "$DEVICES"
            amalgam_default NCCL_IB_HCA "$DEVICES"
        fi
        if [ "$FABRIC" = roce ]; then
            amalgam_default UCX_IB_GID_INDEX "$GID_INDEX"
            amalgam_default NCCL_IB_GID_INDEX "$GID_INDEX"
        fi
        ;;
    slingshot)
        amalgam_default FI_PROVIDER cxi
        amalgam_default OMPI_MCA_pml cm
        amalgam_default OMPI_MCA_mtl ofi
        # NCCL reaches it through the plugin aws-ofi-nccl only (a module on most sites).
        amalgam_default NCCL_NET "AWS Libfabric"
        amalgam_default NCCL_CROSS_NIC 1
        amalgam_default FI_CXI_ATS 0
        ;;
    omnipath)
        amalgam_default OMPI_MCA_pml cm
        amalgam_default OMPI_MCA_mtl psm2
        ;;
    efa)
        amalgam_default FI_PROVIDER efa
        amalgam_default OMPI_MCA_pml cm
        amalgam_default OMPI_MCA_mtl ofi
        amalgam_default FI_EFA_USE_DEVICE_RDMA 1
        ;;
    tcp)
        amalgam_default OMPI_MCA_pml ob1
        amalgam_default OMPI_MCA_btl self,vader,tcp
        amalgam_default NCCL_IB_DISABLE 1
        ;;
    *)
        echo "environment.sh: FABRIC=$FABRIC: auto, infiniband, roce, slingshot, omnipath, efa or tcp" >&2
        return 1
        ;;
esac
