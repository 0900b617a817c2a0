#include "src/comm/staged_transport.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/comm/communicator.h"
#include "src/device/device.h"

namespace amalgam {
namespace {

/// A group goes in rounds, the r-th of which has the r-th piece of every transfer that is so long. Both ends of a message
/// count the same rounds, so that messages meet in each of them in the order of the group.
class StagedTransport : public Transport {
  public:
    StagedTransport(std::unique_ptr<Transport> host, StagingCopies copies, uint64_t piece)
        : host_(std::move(host)), copies_(std::move(copies)), piece_(piece) {
        check(piece_ > 0, "pieces of no bytes (a bug in the program)");
    }

    void start(std::span<const Transfer> transfers) override {
        check(!started_, "a group of messages starts before the one before it has ended (a bug in the program)");
        transfers_.assign(transfers.begin(), transfers.end());
        buffers_.resize(std::max(buffers_.size(), transfers_.size()));
        for (size_t i = 0; i < transfers_.size(); ++i) {
            const size_t least = size_t(std::min(transfers_[i].bytes, piece_));
            if (buffers_[i].size() < least) buffers_[i].resize(least);
        }
        started_ = true;
        start_round(0);
    }

    void wait() override {
        check(started_, "wait() without a group of messages (a bug in the program)");
        uint64_t first = 0;
        do {
            host_->wait();
            finish_round(first);
            first += piece_;
        } while (start_round(first));
        started_ = false;
    }

  private:
    /// Of the piece at `first` of transfer i; empty messages have one piece too.
    bool has_piece(size_t i, uint64_t first) const { return first == 0 || first < transfers_[i].bytes; }
    uint64_t piece_bytes(size_t i, uint64_t first) const { return std::min(piece_, transfers_[i].bytes - first); }

    /// Whether there is anything at `first`.
    bool start_round(uint64_t first) {
        round_.clear();
        for (size_t i = 0; i < transfers_.size(); ++i) {
            if (!has_piece(i, first)) continue;
            const Transfer& transfer = transfers_[i];
            const uint64_t bytes = piece_bytes(i, first);
            if (transfer.direction == Transfer::Direction::send && bytes > 0)
                copies_.out(buffers_[i].data(), static_cast<const std::byte*>(transfer.data) + first, bytes);
            round_.push_back({transfer.direction, transfer.peer, buffers_[i].data(), bytes});
        }
        if (round_.empty() && first > 0) return false;
        host_->start(round_);
        return true;
    }

    void finish_round(uint64_t first) {
        for (size_t i = 0; i < transfers_.size(); ++i) {
            const Transfer& transfer = transfers_[i];
            if (transfer.direction != Transfer::Direction::receive || !has_piece(i, first)) continue;
            if (const uint64_t bytes = piece_bytes(i, first); bytes > 0)
                copies_.in(static_cast<std::byte*>(transfer.data) + first, buffers_[i].data(), bytes);
        }
    }

    std::unique_ptr<Transport> host_;
    StagingCopies copies_;
    uint64_t piece_;
    bool started_ = false;
    std::vector<Transfer> transfers_, round_;
    std::vector<std::vector<std::byte>> buffers_;
};

}  // namespace

std::unique_ptr<Transport> staged_transport(std::unique_ptr<Transport> host, StagingCopies copies, uint64_t piece) {
    return std::make_unique<StagedTransport>(std::move(host), std::move(copies), piece);
}

std::unique_ptr<Transport> staged_transport(std::unique_ptr<Transport> host, Device& device) {
    StagingCopies copies;
    copies.in = [&device](void* to, const void* from, uint64_t bytes) { device.copy_in(to, from, bytes); };
    copies.out = [&device](void* to, const void* from, uint64_t bytes) { device.copy_out(to, from, bytes); };
    return staged_transport(std::move(host), std::move(copies));
}

std::unique_ptr<Transport> Communicator::device_transport(Device& device) {
    return device.kind() == DeviceKind::cpu ? transport() : staged_transport(transport(), device);
}

}  // namespace amalgam
