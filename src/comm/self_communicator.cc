// One rank: every collective is done at once.
#include <cstring>
#include <utility>

#include "src/comm/communicator.h"

namespace amalgam {
namespace {

/// Messages of a rank to itself: within a group each send meets a receive.
class SelfTransport : public Transport {
  public:
    void start(std::span<const Transfer> transfers) override {
        check(!started_, "a group of messages starts before the one before it has ended (a bug in the program)");
        std::vector<const Transfer*> sent, received;
        for (const Transfer& transfer : transfers) {
            check(transfer.peer == 0, "a message to or from rank {} in a group of 1 (a bug in the program)",
                  transfer.peer);
            (transfer.direction == Transfer::Direction::send ? sent : received).push_back(&transfer);
        }
        check(sent.size() == received.size(), "{} messages to itself where {} are expected (a bug in the program)",
              sent.size(), received.size());
        for (size_t i = 0; i < sent.size(); ++i) {
            check(sent[i]->bytes == received[i]->bytes,
                  "a message of {} bytes to itself where {} are expected (a bug in the program)", sent[i]->bytes,
                  received[i]->bytes);
            if (sent[i]->bytes > 0) std::memcpy(received[i]->data, sent[i]->data, sent[i]->bytes);
        }
        started_ = true;
    }
    void wait() override {
        check(std::exchange(started_, false), "wait() without a group of messages (a bug in the program)");
    }

  private:
    bool started_ = false;
};

class SelfCommunicator : public Communicator {
  public:
    int rank() const override { return 0; }
    int size() const override { return 1; }
    int node_size() const override { return 1; }
    int node_rank() const override { return 0; }
    void barrier() override {}
    void all_reduce_sum(std::span<uint64_t>) override {}
    void all_reduce_sum(std::span<int64_t>) override {}
    void all_reduce_sum(std::span<uint32_t>) override {}
    void all_reduce_max(std::span<uint64_t>) override {}
    void all_reduce_min(std::span<uint64_t>) override {}
    void exclusive_sum(std::span<uint64_t> values) override {
        for (uint64_t& value : values) value = 0;
    }
    void broadcast(std::span<std::byte>, int root) override { check_rank(root); }
    std::vector<std::string> gather(const std::string& bytes, int root) override {
        check_rank(root);
        return {bytes};
    }
    std::vector<std::string> all_gather(const std::string& bytes) override { return {bytes}; }
    void send(std::span<const std::byte>, int, int) override { no_other(); }
    std::unique_ptr<Mailbox> mailbox(int) override { no_other(); }
    std::string receive(int, int) override { no_other(); }
    void receive(std::span<std::byte>, int, int) override { no_other(); }
    std::unique_ptr<Transport> transport() override { return std::make_unique<SelfTransport>(); }
    std::unique_ptr<Communicator> every(int first, int last, int step) override {
        check(first == 0 && last == 1 && step > 0, "ranks {} to {} by {} of a group of 1 (a bug in the program)", first,
              last, step);
        return self_communicator();
    }
    std::unique_ptr<Communicator> renumber(int rank) override {
        check_rank(rank);
        return self_communicator();
    }
    void set_chunk_bytes(int64_t) override {}

  private:
    static void check_rank(int rank) { check(rank == 0, "rank {} of a group of 1 (a bug in the program)", rank); }
    [[noreturn]] static void no_other() {
        fail("a message to or from another rank in a group of 1 (a bug in the program)");
    }
};

}  // namespace

std::unique_ptr<Communicator> self_communicator() { return std::make_unique<SelfCommunicator>(); }

}  // namespace amalgam
