// What a program without NCCL has in its place.
#include "src/base/log.h"
#include "src/comm/nccl.h"

namespace amalgam {

bool nccl_available() { return false; }

int nccl_device() { return -1; }

std::unique_ptr<NcclGroup> make_nccl_group(Communicator&, int) {
    log_debug("this program was built without NCCL: what GPUs send goes through host memory");
    return nullptr;
}

}  // namespace amalgam
