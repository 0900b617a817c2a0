// The ranks' way to NCCL: what is large goes through their GPUs. There is no NCCL in this file, see nccl_group.cc.
#include <algorithm>
#include <utility>

#include "src/comm/nccl.h"
#include "src/device/device.h"

namespace amalgam {
namespace {

/// Device memory for what passes through.
constexpr uint64_t most_buffer_bytes = uint64_t{64} << 20;

class NcclCommunicator : public Communicator {
  public:
    NcclCommunicator(Communicator& ranks, std::unique_ptr<Communicator> own, int device)
        : own_(std::move(own)), ranks_(ranks), device_(device) {}

    int rank() const override { return ranks_.rank(); }
    int size() const override { return ranks_.size(); }
    int node_size() const override { return ranks_.node_size(); }
    int node_rank() const override { return ranks_.node_rank(); }
    void barrier() override { ranks_.barrier(); }

    void all_reduce_sum(std::span<uint64_t> values) override {
        if (!reduce(values, WholeNumber::u64, Reduction::sum)) ranks_.all_reduce_sum(values);
    }
    void all_reduce_sum(std::span<int64_t> values) override {
        if (!reduce(values, WholeNumber::i64, Reduction::sum)) ranks_.all_reduce_sum(values);
    }
    void all_reduce_sum(std::span<uint32_t> values) override {
        if (!reduce(values, WholeNumber::u32, Reduction::sum)) ranks_.all_reduce_sum(values);
    }
    void all_reduce_max(std::span<uint64_t> values) override {
        if (!reduce(values, WholeNumber::u64, Reduction::max)) ranks_.all_reduce_max(values);
    }
    void all_reduce_min(std::span<uint64_t> values) override {
        if (!reduce(values, WholeNumber::u64, Reduction::min)) ranks_.all_reduce_min(values);
    }
    void exclusive_sum(std::span<uint64_t> values) override { ranks_.exclusive_sum(values); }

    using Communicator::broadcast;
    void broadcast(std::span<std::byte> bytes, int root) override {
        check(0 <= root && root < size(), "rank {} of a group of {} (a bug in the program)", root, size());
        const bool here = rank() == root;
        const bool sent = through_gpu(
            bytes, here, !here, [&](NcclGroup& group, uint64_t count) { group.broadcast(buffer_.get(), count, root); });
        if (!sent) ranks_.broadcast(bytes, root);
    }

    std::vector<std::string> gather(const std::string& bytes, int root) override { return ranks_.gather(bytes, root); }
    std::vector<std::string> all_gather(const std::string& bytes) override { return ranks_.all_gather(bytes); }

    using Communicator::send;
    void send(std::span<const std::byte> bytes, int to, int tag) override { ranks_.send(bytes, to, tag); }
    std::unique_ptr<Mailbox> mailbox(int tag) override { return ranks_.mailbox(tag); }
    std::string receive(int from, int tag) override { return ranks_.receive(from, tag); }
    void receive(std::span<std::byte> bytes, int from, int tag) override { ranks_.receive(bytes, from, tag); }

    std::unique_ptr<Transport> transport() override { return ranks_.transport(); }
    std::unique_ptr<Transport> device_transport(Device& device) override {
        if (device.kind() == DeviceKind::cuda)
            if (NcclGroup* group = nccl()) return group->transport();
        return ranks_.device_transport(device);
    }

    std::unique_ptr<Communicator> every(int first, int last, int step) override {
        return decorated(ranks_.every(first, last, step));
    }

    std::unique_ptr<Communicator> renumber(int rank) override { return decorated(ranks_.renumber(rank)); }

    void set_chunk_bytes(int64_t bytes) override {
        ranks_.set_chunk_bytes(bytes);
        chunk_ = bytes;
        if (group_) group_->set_chunk_bytes(bytes);
    }

  private:
    std::unique_ptr<Communicator> decorated(std::unique_ptr<Communicator> part) const {
        Communicator& all = *part;
        auto result = std::make_unique<NcclCommunicator>(all, std::move(part), device_);
        result->chunk_ = chunk_;
        return result;
    }

    /// Started when first needed, which is at the same time everywhere; nullptr where it cannot be.
    NcclGroup* nccl() {
        if (size() == 1) return nullptr;
        if (!tried_) group_ = make_nccl_group(ranks_, device_);
        if (!tried_ && group_ && chunk_ > 0) group_->set_chunk_bytes(chunk_);
        tried_ = true;
        return group_.get();
    }

    /// False if the bytes have to go another way, which lengths alone decide: they are the same everywhere.
    template <class Call>
    bool through_gpu(std::span<std::byte> bytes, bool in, bool out, const Call& call) {
        if (bytes.size() < nccl_least_bytes) return false;
        NcclGroup* group = nccl();
        if (!group) return false;
        const uint64_t step = std::min<uint64_t>(bytes.size(), most_buffer_bytes);
        if (buffer_bytes_ < step) {
            buffer_.reset();
            buffer_ = group->allocate(step);
            buffer_bytes_ = step;
        }
        for (uint64_t first = 0; first < bytes.size(); first += step) {
            const uint64_t count = std::min(step, bytes.size() - first);
            if (in) group->copy_in(buffer_.get(), bytes.data() + first, count);
            call(*group, count);
            if (out) group->copy_out(bytes.data() + first, buffer_.get(), count);
        }
        return true;
    }

    template <class Value>
    bool reduce(std::span<Value> values, WholeNumber type, Reduction reduction) {
        return through_gpu(std::as_writable_bytes(values), true, true, [&](NcclGroup& group, uint64_t bytes) {
            group.all_reduce(buffer_.get(), bytes / sizeof(Value), type, reduction);
        });
    }

    std::unique_ptr<Communicator> own_;
    Communicator& ranks_;
    int device_;
    int64_t chunk_ = 0;  // 0: as it is
    bool tried_ = false;
    std::shared_ptr<void> buffer_;
    uint64_t buffer_bytes_ = 0;
    std::unique_ptr<NcclGroup> group_;
};

}  // namespace

void NcclGroup::exchange(std::span<const Transfer> transfers) {
    if (!exchange_) exchange_ = transport();
    exchange_->start(transfers);
    exchange_->wait();
}

void NcclGroup::send(const void* data, uint64_t bytes, int to) {
    const Transfer transfer = {Transfer::Direction::send, to, const_cast<void*>(data), bytes};
    exchange({&transfer, 1});
}

void NcclGroup::receive(void* data, uint64_t bytes, int from) {
    const Transfer transfer = {Transfer::Direction::receive, from, data, bytes};
    exchange({&transfer, 1});
}

std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> ranks) {
    if (!nccl_available()) return ranks;
    Communicator& all = *ranks;
    return std::make_unique<NcclCommunicator>(all, std::move(ranks), nccl_device());
}

std::unique_ptr<Communicator> nccl_communicator(Communicator& ranks) {
    return std::make_unique<NcclCommunicator>(ranks, nullptr, nccl_device());
}

}  // namespace amalgam
